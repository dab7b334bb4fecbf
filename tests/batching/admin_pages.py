"""The admin pages of batches, read by tests."""

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from batching.models import Batch
from tests.batching.conftest import page_of

LIST = "/admin/batching/batch/"


def read(admin: Client, batch: Batch, query: str = "") -> str:
    response = admin.get(page_of(batch) + query)
    assert response.status_code == 200
    return response.content.decode()


def result_ids(admin: Client, **query: str) -> set[str]:
    response = admin.get(f"{LIST}?{urlencode(query)}")
    assert response.status_code == 200
    return {batch.pk for batch in response.context["cl"].result_list}


def rows(page: str) -> list[str]:
    return page.partition('<ol class="batching-list">')[2].split("<summary>")[1:]


def page_named(name: str, batch: Batch, *more: Any) -> str:
    return reverse(f"admin:batching_batch_{name}", args=[batch.pk, *more])


def sign_in_with(*permissions: str, **options: Any) -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client(**options)
    client.force_login(user)
    return client


def log_entries() -> list[tuple[str, str]]:
    return [(one.user.get_username(), one.get_change_message()) for one in LogEntry.objects.order_by("pk")]
