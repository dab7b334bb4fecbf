"""API keys in the admin: created, shown once, limited, revoked; their usage; visible to superusers only."""

import logging
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assistant.models import Allowance, APIKey, MonthlyUsage
from assistant.models.usage import month_of

pytestmark = pytest.mark.usefixtures("db")

KEYS = "/admin/assistant/apikey/"
USAGE = "/admin/assistant/monthlyusage/"


def form(user: User, **changes: Any) -> dict[str, Any]:
    return {"name": "laptop", "user": user.pk, **changes}


def secret_on(page: str) -> str:
    found = set(re.findall(r"sk_[\w-]{43}", page))
    assert len(found) == 1
    return found.pop()


def log() -> list[str]:
    return [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]


def test_a_key_is_shown_once_and_kept_nowhere(admin: Client, ada: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    response = admin.post(f"{KEYS}add/", form(ada))
    secret = secret_on(response.content.decode())
    assert "no-store" in response["Cache-Control"]
    headers = {"authorization": f"Bearer {secret}"}
    assert Client().get("/api/agents", headers=headers).status_code == 200
    pages = [KEYS, f"{KEYS}{APIKey.objects.get().pk}/change/", "/admin/"]
    places = [admin.get(path).content.decode() for path in pages]
    places += [
        str(admin.cookies),
        str(list(APIKey.objects.values())),
        str(list(LogEntry.objects.values())),
        caplog.text,
    ]
    places += [str(session.get_decoded()) for session in Session.objects.all()]
    assert not any(secret[8:] in each for each in places)


def test_a_form_that_is_sent_twice_makes_one_key(admin: Client, ada: User) -> None:
    admin.post(f"{KEYS}add/", form(ada))
    again = admin.post(f"{KEYS}add/", form(ada)).content.decode()
    assert "This user already has a key with this name." in again
    assert "sk_" not in again
    assert APIKey.objects.count() == 1


def test_limits_are_set_and_changed(admin: Client, ada: User) -> None:
    limits = {"scopes": ["chat", "read"], "requests_per_minute": 5, "tokens_per_minute": 6, "tokens_per_month": 7}
    admin.post(f"{KEYS}add/", form(ada, **limits))
    key = APIKey.objects.get()
    assert {name: getattr(key, name) for name in limits} == limits
    changed = {"name": "phone", "scopes": ["tools"], "tokens_per_month": 70}
    assert admin.post(f"{KEYS}{key.pk}/change/", changed).status_code == 302
    after = APIKey.objects.get()
    assert (after.name, after.scopes, after.tokens_per_month, after.digest) == ("phone", ["tools"], 70, key.digest)
    assert "sk_" not in " ".join(log())
    assert log()[0] == "Added."
    assert log()[1].startswith("Changed Name, ")


@pytest.mark.parametrize("field", ["requests_per_minute", "tokens_per_minute", "tokens_per_month"])
def test_a_limit_of_nothing_is_refused(admin: Client, ada: User, field: str) -> None:
    admin.post(f"{KEYS}add/", form(ada, **{field: 0}))
    assert not APIKey.objects.exists()


@pytest.mark.parametrize("by", ["button", "action"])
def test_a_key_is_revoked_and_the_log_says_so_once(admin: Client, ada: User, by: str) -> None:
    key, secret = APIKey.issue(user=ada, name="laptop")
    other, _ = APIKey.issue(user=ada, name="phone")
    page = f"{KEYS}{key.pk}/change/"
    assert "Revoke this key" in admin.get(page).content.decode()
    for _ in range(2):
        if by == "button":
            assert admin.get(f"{KEYS}{key.pk}/revoke/").status_code == 405
            assert admin.post(f"{KEYS}{key.pk}/revoke/").status_code == 302
        else:
            admin.post(KEYS, {"action": "revoke", "_selected_action": [key.pk]})
    headers = {"authorization": f"Bearer {secret}"}
    assert Client().get("/api/agents", headers=headers).status_code == 401
    assert APIKey.objects.usable().get() == other
    assert log() == ["Revoked."]
    assert "Revoke this key" not in admin.get(page).content.decode()


def test_a_key_is_not_deleted_but_with_its_user(admin: Client, ada: User) -> None:
    key, _ = APIKey.issue(user=ada, name="laptop")
    assert admin.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    admin.post(KEYS, {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"})
    assert APIKey.objects.exists()
    admin.post(f"/admin/auth/user/{ada.pk}/delete/", {"post": "yes"})
    assert not APIKey.objects.exists()


def test_only_a_superuser_sees_keys_and_usage(ada: User) -> None:
    key, _ = APIKey.issue(user=ada, name="laptop")
    row = add_usage(ada, key)
    client = Client()
    staff = User.objects.create_user("eve", is_staff=True)
    staff.user_permissions.set(Permission.objects.all())
    client.force_login(staff)
    for path in ("", "add/", f"{key.pk}/change/", f"{key.pk}/history/", f"{key.pk}/delete/"):
        assert client.get(f"{KEYS}{path}").status_code == 403, path
    assert client.post(f"{KEYS}{key.pk}/revoke/").status_code == 403
    for path in (USAGE, f"{USAGE}{row.pk}/change/", "/admin/assistant/allowance/"):
        assert client.get(path).status_code == 403, path
    index = client.get("/admin/").content.decode()
    assert "conversation" in index
    assert not re.search("apikey|monthlyusage|allowance", index)
    assert APIKey.objects.usable().exists()


def add_usage(user: User, key: APIKey | None, tokens: int = 1000) -> MonthlyUsage:
    month = month_of(timezone.now())
    return MonthlyUsage.objects.create(
        user=user, api_key=key, month=month, answers=2, input_tokens=tokens - 1, output_tokens=1
    )


def test_what_was_spent_is_shown_with_its_limits(admin: Client, ada: User, bob: User, settings: Any) -> None:
    settings.USER_TOKENS_PER_MONTH = 8000
    key, _ = APIKey.issue(user=ada, name="laptop", tokens_per_month=4000)
    add_usage(ada, key)
    add_usage(ada, None, 2000)
    add_usage(bob, None)
    Allowance.objects.create(user=ada, tokens_per_month=6000)
    page = admin.get(f"{USAGE}?q=ada").content.decode()
    cells = [re.findall(rf'field-{name} *(?:nowrap)?">([^<]*)<', page) for name in COLUMNS]
    assert sorted(zip(*cells, strict=True)) == [
        ("1,000", "4,000 (25%)", "3,000", "6,000 (50%)"),
        ("2,000", "-", "3,000", "6,000 (50%)"),
    ]
    assert "8,000 (12%)" in admin.get(f"{USAGE}?q=bob").content.decode()
    assert "1000" in admin.get(KEYS).content.decode()


COLUMNS = ["tokens", "limit_of_key", "tokens_of_user", "limit_of_user"]


@pytest.mark.parametrize("path", [KEYS, USAGE])
def test_a_list_takes_as_many_queries_for_thirty_as_for_one(admin: Client, ada: User, path: str) -> None:
    def queries(rows: int) -> int:
        for number in range(rows):
            add_usage(ada, APIKey.issue(user=ada, name=str(number))[0])
        with CaptureQueriesContext(connection) as captured:
            assert admin.get(path).status_code == 200
        return len(captured)

    assert queries(1) == queries(29) < 12
