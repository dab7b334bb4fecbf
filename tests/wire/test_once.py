"""What is made once is made once, whoever comes first."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from wire.once import once


def test_threads_that_come_first_together_get_one() -> None:
    together = threading.Barrier(8)
    begun = threading.Semaphore(0)
    made = []

    @once
    def make(name: str) -> object:
        begun.acquire(timeout=0.2)  # a second call would come in this time
        made.append(name)
        return object()

    def ask(_: int) -> object:
        together.wait()
        return make("it")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    assert made == ["it"]


def test_it_is_made_for_each_argument() -> None:
    @once
    def make(name: str) -> list[str]:
        return [name]

    assert make("a") is make("a")
    assert make("a") is not make("b")


def test_what_failed_is_tried_again() -> None:
    attempts = iter([LookupError(), None])

    @once
    def make() -> str:
        if error := next(attempts):
            raise error
        return "made"

    with pytest.raises(LookupError):
        make()
    assert make() == "made"


@pytest.mark.filterwarnings("ignore:This process")  # Python's own word about forks and threads
def test_a_child_that_was_forked_in_the_middle_makes_its_own() -> None:
    started, go_on = threading.Event(), threading.Event()

    @once
    def make() -> int:
        if threading.current_thread() is other:
            started.set()
            go_on.wait()
        return os.getpid()

    other = threading.Thread(target=make)
    other.start()
    started.wait()
    if (child := os.fork()) == 0:
        os._exit(make() != os.getpid())
    go_on.set()
    other.join()
    assert os.waitpid(child, 0)[1] == 0
