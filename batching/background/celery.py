"""Wakes Celery's workers, in a project that names its Celery application in BATCH_CELERY_APP.

Celery itself is imported only there.
"""

import logging
from functools import partial

from django.utils.module_loading import import_string

from batching.conf import BatchingSettings, get_settings
from batching.models import Batch
from batching.records.writer import notify

logger = logging.getLogger(__name__)

TASK = "batching.work"
# Messages that a batch sends at most. Where more workers are free, they find it by themselves.
MOST = 100


def call_for(batch: Batch) -> None:
    """Call as many workers as an accepted batch can keep busy; whoever sent it doesn't wait for that."""
    settings = get_settings()
    if settings.BATCH_CELERY_APP:
        notify(partial(wake, wanted(batch.left, settings)))


def wanted(items: int, settings: BatchingSettings) -> int:
    return min(MOST, -(-items // settings.BATCH_BACKGROUND_CONCURRENCY))


def wake(workers: int) -> None:
    """Send so many messages. Where the broker can't be reached, workers look by themselves once they reach it."""
    app = import_string(get_settings().BATCH_CELERY_APP)
    try:
        with app.producer_or_acquire() as producer:
            for _ in range(workers):
                app.send_task(TASK, producer=producer, retry=False, ignore_result=True)
    except Exception:  # whatever a broker's client raises, the batch is accepted
        logger.warning("messages=%s state=not_sent", workers, exc_info=True)
