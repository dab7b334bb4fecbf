"""Rules for every test: with CI=true none is skipped, and none changes the environment of the next."""

import os
from collections.abc import Generator, Iterator
from typing import Any
from unittest import mock

import pytest
from django.db import connections, transaction
from django.test import TransactionTestCase

# The fixtures by which a test has the database.
DATABASE = {"db", "transactional_db"}
ENVIRONMENT = pytest.StashKey[dict[str, str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the database: what doesn't needn't run on each of them."""
    for item in items:
        if item.get_closest_marker("django_db") or DATABASE & set(item.fixturenames):  # type: ignore[attr-defined]  # functions
            item.add_marker("database")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI doesn't allow: {call.excinfo and call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    item.stash[ENVIRONMENT] = variables()
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    assert variables() == item.stash[ENVIRONMENT], "The environment is changed: what the next test sees hangs on it."


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture(scope="session", autouse=True)
def emptied_quickly() -> Iterator[None]:
    """Empty tables row by row after a test: Django's flush makes all permissions anew, and takes ten times as long."""
    with mock.patch.object(TransactionTestCase, "_fixture_teardown", empty):
        yield


def empty(test_case: TransactionTestCase) -> None:
    """Empty all tables but those that hold the same in each project, as after its migrations."""
    for alias in test_case._databases_names(include_mirrors=False):
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            for table in connections[alias].introspection.django_table_names():
                if table not in ("django_content_type", "auth_permission"):
                    cursor.execute(f"DELETE FROM {connections[alias].ops.quote_name(table)}")  # noqa: S608  # a name
