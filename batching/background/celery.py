"""Wakes Celery workers, in a project that names its Celery application in BATCH_CELERY_APP.

Celery itself is imported only in such a project.
"""

import logging
from functools import partial

from django.utils.module_loading import import_string

from batching.conf import BatchingSettings, get_settings
from batching.models import Batch
from batching.records.writer import notify

logger = logging.getLogger(__name__)

TASK = "batching.work"
# Messages for one batch at most. Further free workers find its items by themselves.
MOST = 100


def wake_for(batch: Batch) -> None:
    """Wake as many workers as an accepted batch can keep busy, in another thread: its caller doesn't wait."""
    settings = get_settings()
    if settings.BATCH_CELERY_APP:
        notify(partial(wake, workers_for(batch.left, settings)))


def workers_for(items: int, settings: BatchingSettings) -> int:
    return min(MOST, -(-items // settings.BATCH_BACKGROUND_CONCURRENCY))


def wake(workers: int) -> None:
    """Send so many messages. Without a broker, workers find the items by themselves once they reach it again."""
    app = import_string(get_settings().BATCH_CELERY_APP)
    try:
        with app.producer_or_acquire() as producer:
            for _ in range(workers):
                app.send_task(TASK, producer=producer, retry=False, ignore_result=True)
    except Exception:  # a broker's client raises its own errors; the batch is accepted all the same
        logger.warning("messages=%s state=not_sent", workers, exc_info=True)
