"""The service's Celery application: `celery -A config worker` works on background batches (docs/celery.md)."""

import os

from celery import Celery
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from batching.conf import get_settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
if not settings.CELERY_BROKER_URL:
    raise ImproperlyConfigured("CELERY_BROKER_URL has to be set, such as redis://localhost:6379/1.")

app = Celery("config", broker=settings.CELERY_BROKER_URL)
app.conf.update(
    accept_content=["json"],
    task_serializer="json",
    worker_prefetch_multiplier=1,
    # A worker waits for its broker without a limit.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        # Seconds after which Redis redelivers a task without acknowledgement: longer than a slice takes.
        "visibility_timeout": max(3600, 2 * (get_settings().BATCH_SLICE + get_settings().BATCH_ITEM_TIMEOUT)),
        "socket_connect_timeout": 5,
    },
    # Workers use Django's LOGGING too.
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)
app.autodiscover_tasks()
