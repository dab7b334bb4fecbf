"""A day of answers and batches, for the picture of the admin's front page: `manage.py shell` runs this."""

import math
import random
from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from assistant.models import Agent, Conversation, Message
from batching.models import Batch, BatchItem

chance, now = random.Random(7), timezone.now()
NAMES = ["ada", "محمد عبد الله", "grace", "reporting-nightly-with-a-rather-long-name@example.org"]
people = [User.objects.get_or_create(username=name)[0] for name in NAMES]
agents = list(Agent.objects.all())
FAULT = {"message": "The model's server closed the connection in the middle of its answer.", "code": 502}


def moments(count: int) -> list[timedelta]:
    """Return how long ago things were: more by day than by night."""
    while True:
        ago = [timedelta(hours=chance.uniform(0, 24)) for _ in range(count * 2)]
        return [each for each in ago if chance.random() < 0.55 + 0.45 * math.cos(each.total_seconds() / 13_750)][:count]


conversations = [
    Conversation(agent=chance.choice(agents), owner=chance.choices(people, [5, 3, 2, 4])[0]) for _ in range(40)
]
Conversation.objects.bulk_create(conversations)
answers = []
for ago in moments(2_400):
    conversation = chance.choice(conversations)
    status = chance.choices(["completed", "failed", "cancelled", "interrupted"], [93, 4, 2, 1])[0]
    failed = status in ("failed", "interrupted")
    first = chance.lognormvariate(-1.2, 0.5)
    answers.append(
        Message(
            conversation=conversation,
            agent=conversation.agent,
            caller=f"user:{conversation.owner_id}",
            model="openai:gpt",
            status=status,
            error={**FAULT, "retryable": True} if failed else None,
            input_tokens=chance.randint(40, 3_000),
            output_tokens=chance.randint(5, 700),
            time_to_first_token=first,
            processing_time=first + chance.lognormvariate(0.7, 0.7),
            created_at=now - ago,
            finished_at=now - ago,
        )
    )
Message.objects.bulk_create(answers)
for conversation in conversations[:2]:
    Message.objects.create(
        conversation=conversation,
        agent=conversation.agent,
        caller="anonymous",
        status="running",
        lease_expires_at=now + timedelta(hours=1),
    )
for ago in moments(90):
    total, came = chance.choice([2, 5, 10, 10, 40]), now - ago
    failed = chance.choices([0, 1, total // 2], [80, 12, 8])[0]
    times = [chance.lognormvariate(-0.5, 0.8) for _ in range(total)]
    batch = Batch.objects.create(
        total=total,
        succeeded=total - failed,
        failed=failed,
        status="completed",
        caller="anonymous",
        created_at=came,
        finished_at=came,
        duration=sum(times) / 4,
        slowest=max(times),
    )
    BatchItem.objects.bulk_create(
        BatchItem(
            batch=batch,
            position=position,
            state="failed" if position < failed else "succeeded",
            status=503 if position < failed else 200,
            started_at=came,
            finished_at=came,
            duration=seconds,
        )
        for position, seconds in enumerate(times)
    )
Batch.objects.create(
    total=12_000,
    succeeded=7_214,
    failed=31,
    status="running",
    caller="anonymous",
    created_at=now - timedelta(minutes=12),
    expires_at=now + timedelta(days=1),
    lease_expires_at=now + timedelta(hours=1),
)
