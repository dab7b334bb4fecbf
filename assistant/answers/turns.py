"""A turn: the caller's prompt is stored with a run that answers it, or gets the answer that is there."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction

from assistant.answers import allowances
from assistant.answers.admission import CALLER, MODEL, PROCESS, Bound, admission
from assistant.answers.answer import Answer, LocalAnswer, answer_of
from assistant.answers.context import Brief, Turn
from assistant.answers.run import Run, RunLimits, registry
from assistant.answers.tool_loop import agent_steps
from assistant.cluster import leases, processes
from assistant.conf import get_settings
from assistant.errors import Busy, Conflict, ModelMisconfigured, NotFound, TooManyAnswers
from assistant.models import Agent, APIKey, Conversation, Message, MessageQuerySet
from assistant.providers.base import Model
from assistant.providers.registry import get_model
from assistant.tools import toolbox
from wire.api.callers import Caller, caller_name
from wire.api.idempotency import refuse_reuse, rows_of_key

OnDisconnect = Literal["grace", "cancel", "continue"]

TITLE_CHARS = 80
# More turns than fit into any model's window.
MAX_TURNS = 200


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A caller's prompt. `began` is the monotonic moment at which it came, `address` the client's IP address.

    `key` is the API key of the request, if it has one.
    """

    caller: Caller
    text: str
    began: float
    address: str = ""
    key: APIKey | None = None
    agent_id: str | None = None
    conversation_id: str | None = None
    idempotency_key: str | None = None
    on_disconnect: OnDisconnect = "grace"

    @property
    def hash(self) -> str:
        """Tell requests apart that may not share an Idempotency-Key."""
        parts = json.dumps([self.text, self.agent_id, self.conversation_id])
        return hashlib.sha256(parts.encode()).hexdigest()


@contextmanager
def beginning(ask: TurnRequest) -> Iterator[Answer]:
    """Yield what `begin` returns, and end it where it has not begun by the end of the block."""
    answer = begin(ask)
    try:
        yield answer
    finally:
        answer.abandon()


def begin(ask: TurnRequest) -> Answer:
    """Store the turn and return its answer, which has not begun; or the one that an Idempotency-Key stands for.

    Raises `NotFound`, `Conflict`, `KeyReused`, `TokensSpent`, `Busy`, `TooManyAnswers` and `ModelMisconfigured`, and
    then nothing is stored. The caller prepares the answer, or abandons it.
    """
    if known := message_of_key(ask):
        return answer_of(known)
    allowances.refuse_spent(ask.caller, ask.key)
    conversation, agent = conversation_and_agent(ask)
    if not conversation._state.adding:
        leases.interrupt(conversation.messages.all())
    model = load_model(agent)
    with ExitStack() as undo:
        place = undo.enter_context(admission.place(bounds(ask, agent, model)))
        message = new_message(ask, conversation, agent)
        turns = [] if conversation._state.adding else previous_turns(conversation)
        steps = agent_steps(brief(model, agent, ask, turns))
        limits = run_limits(ask.on_disconnect)
        run = Run(message=message, steps=steps, limits=limits, began=ask.began, release=place.close)
        # Before its row is there: another request that finds the row may read the run.
        registry.add(run)
        undo.callback(registry.remove, run)
        try:
            store(message)
        except IntegrityError:
            return concurrent_answer(ask)
        undo.pop_all()
        return LocalAnswer(run)


def new_message(ask: TurnRequest, conversation: Conversation, agent: Agent) -> Message:
    return Message(
        conversation=conversation,
        agent=agent,
        model=agent.model_name,
        process=processes.this_process(),
        prompt=ask.text,
        api_key=ask.key,
        caller=caller_name(ask.caller),
        idempotency_key=ask.idempotency_key,
        request_hash=ask.hash,
    )


def bounds(ask: TurnRequest, agent: Agent, model: Model) -> list[Bound]:
    """Return the bounds of an answer; the caller's own comes first, as only the caller can make room there."""
    settings = get_settings()
    caller = caller_name(ask.caller) if ask.caller.is_authenticated else f"address:{ask.address}"
    own = [] if model.capacity is None else [Bound(MODEL, model.capacity, Busy, agent.model_name)]
    return [
        Bound(CALLER, settings.CHAT_CONCURRENCY_PER_CALLER, TooManyAnswers, caller),
        Bound(PROCESS, settings.CHAT_CONCURRENCY, Busy),
        *own,
    ]


def message_of_key(ask: TurnRequest) -> Message | None:
    """Return the message that the caller's Idempotency-Key stands for, if there is one."""
    if ask.idempotency_key is None:
        return None
    keyed = rows_of_key(Message.objects.all(), caller_name(ask.caller), ask.idempotency_key, since="created_at")
    known = keyed.select_related("conversation").first()
    if known is None:
        return None
    refuse_reuse(known, ask.hash)
    return None if free_interrupted(keyed) else known


def free_interrupted(keyed: MessageQuerySet) -> bool:
    """Free the key of an answer that was interrupted: its caller, such as an item of a batch, asks for a new one."""
    leases.interrupt(keyed)
    return keyed.filter(status=Message.Status.INTERRUPTED).update(idempotency_key=None) == 1


def conversation_and_agent(ask: TurnRequest) -> tuple[Conversation, Agent]:
    """Return the conversation, not saved yet where it is new, and the agent that answers in it."""
    conversation = None
    if ask.conversation_id is not None:
        conversation = Conversation.objects.for_caller(ask.caller).filter(pk=ask.conversation_id).first()
        if conversation is None:
            raise NotFound("There is no such conversation.")
    agent_id = ask.agent_id or (conversation.agent_id if conversation else "default")
    agent = Agent.objects.find(agent_id, ask.caller)
    if agent is None:
        raise NotFound("There is no such agent.")
    owner = ask.caller if ask.caller.is_authenticated else None
    return conversation or Conversation(owner=owner, agent=agent, title=ask.text.strip()[:TITLE_CHARS]), agent


def previous_turns(conversation: Conversation) -> list[Turn]:
    rows = conversation.messages.exclude(text="").order_by("-created_at", "-id")[:MAX_TURNS]
    return [Turn(prompt, text) for prompt, text in reversed(rows.values_list("prompt", "text"))]


def store(message: Message) -> None:
    """Insert the message, and its conversation where that is new; the database decides which of two calls is first."""
    with transaction.atomic():
        if message.conversation._state.adding:
            message.conversation.save(force_insert=True)
        message.save(force_insert=True)


def concurrent_answer(ask: TurnRequest) -> Answer:
    """Return the answer of another call with the same key; raise `Conflict` where it has the conversation alone."""
    if known := message_of_key(ask):
        return answer_of(known)
    raise Conflict("An answer is still being written in this conversation.")


def load_model(agent: Agent) -> Model:
    try:
        return get_model(agent.model_name)
    except ImproperlyConfigured as error:
        raise ModelMisconfigured from error


def brief(model: Model, agent: Agent, ask: TurnRequest, turns: list[Turn]) -> Brief:
    return Brief(
        model=model,
        model_name=agent.model_name,
        prompt=ask.text,
        turns=turns,
        instructions=agent.instructions,
        tools=[tool for tool in toolbox.for_caller(ask.caller) if tool.name in agent.tools],
        temperature=agent.temperature,
        max_output_tokens=agent.max_output_tokens,
        max_input_tokens=agent.max_input_tokens,
        max_tool_rounds=agent.max_tool_rounds,
    )


def run_limits(on_disconnect: OnDisconnect) -> RunLimits:
    settings = get_settings()
    grace = {"cancel": 0.0, "continue": None, "grace": settings.STREAM_DISCONNECT_GRACE}[on_disconnect]
    return RunLimits(timeout=settings.STREAM_TIMEOUT, grace=grace, chunk_size=settings.STREAM_CHUNK_SIZE)
