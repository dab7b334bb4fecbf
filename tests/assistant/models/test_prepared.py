"""A query whose SQL is made once finds what it would find if it were made each time."""

import gc
from threading import Thread
from typing import Any
from weakref import ref

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.db.models import QuerySet

from assistant.models import APIKey
from assistant.models.prepared import PreparedQuery

pytestmark = pytest.mark.django_db


@pytest.fixture
def made() -> list[str]:
    """What the query was made for."""
    return []


@pytest.fixture
def found(made: list[str]) -> PreparedQuery[APIKey]:
    def keys(name: str) -> QuerySet[APIKey]:
        made.append(name)
        return APIKey.objects.usable().select_related("user__token_allowance").filter(name=name)

    return PreparedQuery(APIKey, keys)


def test_the_row_comes_with_its_relations_in_one_query(
    found: PreparedQuery[APIKey], django_assert_num_queries: Any
) -> None:
    for name in ("ada", "a value to come", "'; --", "%s"):
        APIKey.issue(user=User.objects.create_user(name), name=name, scopes=["chat"])
    for name in ("ada", "a value to come", "'; --", "%s"):
        expected = APIKey.objects.select_related("user").get(name=name)
        with django_assert_num_queries(1):
            key = found(name)
            assert key is not None
            assert key.user.username == name
            assert not hasattr(key.user, "token_allowance")
        assert {**vars(key), "_state": None} == {**vars(expected), "_state": None}
    assert found("nobody") is None


def test_its_query_is_made_once(found: PreparedQuery[APIKey], made: list[str]) -> None:
    for name in ("ada", "grace", "joan"):
        found(name)
    assert len(made) == 1


@pytest.mark.django_db(transaction=True)
def test_each_thread_asks_over_its_own_connection(found: PreparedQuery[APIKey]) -> None:
    APIKey.issue(user=User.objects.create_user("ada"), name="ada")
    assert found("ada")
    names: list[str] = []

    def look() -> None:
        try:
            names.append(str(found("ada")))
        finally:
            connections.close_all()

    threads = [Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert names == [str(found("ada"))] * 4


def test_what_has_changed_since_is_found_as_it_is(found: PreparedQuery[APIKey]) -> None:
    key, _ = APIKey.issue(user=User.objects.create_user("ada"), name="ada")
    assert found("ada") == key
    key.revoke()
    assert found("ada") is None


@pytest.mark.django_db(transaction=True)
def test_it_holds_no_threads_connection(found: PreparedQuery[APIKey]) -> None:
    """Some are closed only when they are no longer referenced."""
    held: list[Any] = []

    def look() -> None:
        found("ada")
        held.append(ref(connections["default"]))
        connections.close_all()

    thread = Thread(target=look)
    thread.start()
    thread.join(10)
    gc.collect()
    assert held[0]() is None
