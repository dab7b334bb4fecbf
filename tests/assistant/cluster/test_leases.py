"""Leases: a running answer is its process's, and is ended by others only once that process is gone."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assistant.cluster import leases
from assistant.cluster.leases import Keeper
from assistant.cluster.processes import Process, dead_processes, folder, lock_file, this_process
from assistant.models import Conversation, Message
from assistant.signals import answer_ended
from tests.upstream import PATIENCE


class Writer:
    """An answer as a keeper sees it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.interrupted = False

    def interrupt(self) -> None:
        self.interrupted = True


def running(process: str = "elsewhere", **fields: Any) -> Message:
    conversation = Conversation.objects.create(agent_id="default")
    return Message.objects.create(conversation=conversation, agent_id="default", prompt="Hi", process=process, **fields)


def over() -> Any:
    return timezone.now() - timedelta(seconds=1)


def eventually(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "what the test waits for didn't happen"
        time.sleep(0.005)


def status(message: Message) -> str:
    return Message.objects.get(pk=message.pk).status


@pytest.mark.usefixtures("db")
class TestSweep:
    def test_an_answer_whose_lease_is_over_is_interrupted(self) -> None:
        message = running(lease_expires_at=over())
        assert leases.sweep() == 1
        message.refresh_from_db()
        assert (message.status, message.error["code"], message.error["retryable"]) == ("interrupted", 503, True)
        assert message.finished_at

    def test_an_answer_on_a_lease_is_left_alone(self) -> None:
        message = running()
        assert leases.sweep() == 0
        assert status(message) == "running"

    def test_an_answer_of_a_process_of_this_machine_that_is_gone_is_interrupted_at_once(self) -> None:
        dead = Process(folder())
        message = running(dead.name)
        assert leases.sweep() == 0
        dead.forget()  # what the end of a process does to its lock
        assert leases.sweep() == 1
        assert status(message) == "interrupted"
        assert not lock_file(folder(), dead.name).exists()

    def test_an_answer_is_ended_by_one_of_several_who_tells_observers(self) -> None:
        message = running(lease_expires_at=over())
        told: list[Any] = []

        def note(message: Message, **kwargs: Any) -> None:
            told.append(message.status)

        answer_ended.connect(note)
        assert leases.end(message, []) is True
        assert leases.end(message, []) is False
        answer_ended.disconnect(note)
        assert told == ["interrupted"]

    def test_a_process_that_was_thought_dead_does_not_overwrite_the_ending(self) -> None:
        message = running(lease_expires_at=over())
        leases.sweep()
        message.text, message.status, message.finish_reason = "All of it", "completed", "stop"
        ending = message.store_ending()
        assert (ending.code, message.status) == (503, "interrupted")  # type: ignore[union-attr]
        assert (status(message), Message.objects.get().text) == ("interrupted", "")


@pytest.mark.usefixtures("db")
class TestKeeper:
    def test_all_leases_are_renewed_in_one_query(self) -> None:
        writers = [Writer(running(this_process(), lease_expires_at=over())) for _ in range(20)]
        with CaptureQueriesContext(
            connection,
        ) as queries:
            Keeper(lambda: writers).renew()
        assert len(queries) == 1
        assert Message.objects.abandoned().count() == 0
        assert not any(writer.interrupted for writer in writers)

    def test_an_answer_that_another_process_took_over_ends_here(self) -> None:
        lost, kept = Writer(running(this_process(), lease_expires_at=over())), Writer(running(this_process()))
        leases.sweep()
        Keeper(lambda: [lost, kept]).renew()
        assert (lost.interrupted, kept.interrupted) == (True, False)

    def test_an_answer_whose_row_was_deleted_ends_here(self) -> None:
        writer = Writer(running(this_process()))
        Message.objects.all().delete()
        writer.message.pk = writer.message.pk or "msg_deleted"
        Keeper(lambda: [writer]).renew()
        assert writer.interrupted

    def test_it_watches_as_long_as_something_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("assistant.cluster.leases.LEASE", timedelta(seconds=0.03))
        writers = [Writer(running(this_process(), lease_expires_at=over()))]
        others = set(threading.enumerate())
        keeper = Keeper(lambda: writers)
        keeper.watch()
        keeper.watch()
        [thread] = set(threading.enumerate()) - others
        eventually(lambda: not Message.objects.abandoned().exists())
        Message.objects.update(lease_expires_at=over())
        eventually(lambda: not Message.objects.abandoned().exists())
        writers.clear()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_process_has_one_name_and_no_other_has_it(tmp_path: Path) -> None:
    assert this_process() == this_process()
    assert Process(tmp_path).name != Process(tmp_path).name


def test_a_living_process_is_not_gone(tmp_path: Path) -> None:
    dead, living = Process(tmp_path), Process(tmp_path)
    dead.forget()
    with dead_processes(tmp_path) as names:
        assert names == [dead.name]
        with dead_processes(tmp_path) as others:
            assert others == []  # whoever comes second leaves it to the first
    with dead_processes(tmp_path) as names:
        assert names == []
    living.forget()


def test_a_process_that_can_lock_nothing_has_a_name_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert Process(file).name
