"""The service's Celery application with a plain task beside it, which does nothing but count itself."""

from functools import cache

import redis
from celery import shared_task
from django.conf import settings

from config.celery import app


@cache
def counter() -> redis.Redis:
    return redis.Redis.from_url(settings.CELERY_BROKER_URL.replace("redis+socket", "unix"))


@shared_task(ignore_result=True)
def nothing() -> None:
    counter().incr("done")


def send(count: int) -> None:
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            app.send_task("bench.celery.nothing", producer=producer)
