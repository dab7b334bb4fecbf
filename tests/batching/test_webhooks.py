"""A caller is told that a background batch has ended: signed, at least once, and nowhere inside the network."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook as Verifier

from batching.background import retention, webhooks
from batching.models import Batch, Webhook
from tests.batching.background import ASYNC, LINES, accepted, drain, lines
from tests.batching.conftest import item, page_of, until, wsgi
from tests.batching.service import Service
from tests.batching.test_server import ROOT

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

pytestmark = pytest.mark.usefixtures("committed")


class Receiver(ThreadingHTTPServer):
    """A caller's own server: answers what it is told to, in turn, the last for ever; `None` never answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiving)
        self.answers: list[int | None] = [200]
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/told?a=1"

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def message(self, number: int = -1) -> Any:
        """Return what was received, once the standard's own library has found it to be signed."""
        headers, body = self.received[number]
        return Verifier(SECRET).verify(body, headers)


class Receiving(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        answers = self.server.answers
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        if status is None:
            self.server.closing.wait()
            return
        self.send_response(status)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.DEBUG = True
    settings.BATCH_WEBHOOK_SECRET = SECRET
    settings.BATCH_WEBHOOK_HOSTS = ["127.0.0.1", "hooks.example"]
    with closing(Receiver()) as it:
        yield it


def send(url: str, *items: Any, query: str = "") -> Any:
    """Send a background batch whose end is to be told to `url`."""
    body = lines(list(items) or [item("/api/echo", id="a")])
    path = f"/api/batch?webhook={quote(url, safe='')}{query}"
    return wsgi("POST", path, body, content_type=LINES, headers=ASYNC)


def detail(batch: Batch) -> Any:
    return wsgi("GET", f"/api/batch/{batch.pk}").json()["webhook"]


def due_now() -> None:
    Webhook.objects.update(not_before=timezone.now() - timedelta(seconds=1))


def test_the_end_of_a_batch_is_told_once_and_signed(receiver: Receiver) -> None:
    batch = accepted(send(receiver.url, item("/api/echo", id="a"), item("/api/answering/house", id="b")))
    assert detail(batch) == {"url": receiver.url, "state": "waiting", "attempts": 0, "error": ""}
    drain()
    drain()
    assert len(receiver.received) == 1
    told = receiver.message()
    counts = wsgi("GET", f"/api/batch/{batch.pk}").json()["counts"]
    assert told["type"] == "batch.completed"
    assert told["data"] == {"batch_id": batch.pk, "status": "completed", "counts": counts}
    assert (counts["succeeded"], counts["failed"]) == (1, 1)
    headers, _ = receiver.received[0]
    assert (headers["webhook-id"], headers["content-type"]) == (batch.pk, "application/json")
    assert detail(batch) == {"url": receiver.url, "state": "delivered", "attempts": 1, "error": ""}


def test_a_whole_body_may_ask_for_it_too_and_each_end_has_its_name(receiver: Receiver) -> None:
    path = f"/api/batch?webhook={quote(receiver.url, safe='')}"
    batch = accepted(wsgi("POST", path, {"requests": [item("/api/echo", id="a")]}, headers=ASYNC))
    assert wsgi("POST", f"/api/batch/{batch.pk}/cancel").status_code == 200
    drain()
    assert receiver.message()["type"] == "batch.cancelled"
    send(receiver.url, "{")
    drain()
    assert receiver.message()["data"]["counts"]["failed"] == 1


def test_nothing_is_told_before_the_end(receiver: Receiver) -> None:
    batch = accepted(send(receiver.url))
    assert webhooks.claim() == []
    Batch.objects.filter(pk=batch.pk).update(finished_at=timezone.now(), status="completed")
    assert len(webhooks.claim()) == 1


def test_what_fails_is_tried_again_later_with_the_same_id_and_body(receiver: Receiver) -> None:
    receiver.answers = [500, 302, 204]
    batch = accepted(send(receiver.url))
    for attempts, error in ((1, "It answered 500."), (2, "It answered 302."), (3, "")):
        drain()
        drain()  # too early
        assert (detail(batch)["attempts"], detail(batch)["error"]) == (attempts, error)
        due_now()
    assert detail(batch)["state"] == "delivered"
    assert [receiver.message(number) for number in range(3)] == [receiver.message()] * 3
    assert {headers["webhook-id"] for headers, _ in receiver.received} == {batch.pk}


def test_each_wait_is_longer_and_the_last_attempt_is_the_last(receiver: Receiver) -> None:
    receiver.answers = [503]
    batch = accepted(send(receiver.url))
    waits = []
    for _ in webhooks.BACKOFF:
        drain()
        waits.append((Webhook.objects.get().not_before - timezone.now()).total_seconds())
        due_now()
    assert all(wait - 1 < got < 1.2 * wait for wait, got in zip(webhooks.BACKOFF, waits, strict=True))
    drain()
    assert (detail(batch)["state"], detail(batch)["error"]) == ("failed", "It answered 503.")
    due_now()
    drain()
    assert len(receiver.received) == len(webhooks.BACKOFF) + 1


def test_who_says_that_it_is_gone_is_not_told_again(receiver: Receiver) -> None:
    receiver.answers = [410]
    batch = accepted(send(receiver.url))
    drain()
    assert (detail(batch)["state"], detail(batch)["attempts"]) == ("failed", 1)


def test_who_does_not_answer_is_given_up_in_time(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT", 0.2)
    receiver.answers = [None]
    batch = accepted(send(receiver.url))
    drain()
    assert (detail(batch)["state"], detail(batch)["error"]) == ("waiting", "It took longer than 0.2 s.")


def test_one_that_is_slow_does_not_keep_the_others_waiting(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT", 1.0)
    receiver.answers = [None, 200]
    slow, fine = accepted(send(receiver.url)), accepted(send(receiver.url))
    Webhook.objects.filter(batch=slow).update(not_before=timezone.now() - timedelta(minutes=1))
    Batch.objects.update(finished_at=timezone.now(), status="completed")
    drain()
    assert sorted(detail(one)["state"] for one in (slow, fine)) == ["delivered", "waiting"]


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "https://hooks.example:8443/",
        "https://elsewhere.example/",
        "https://hooks.example.evil.example/",
        "https://hooks.example@evil.example/",
        "https://user:pw@hooks.example/",
        "ftp://hooks.example/",
        "//hooks.example/",
        "hooks.example",
        "https://[::1",
        "http://10.0.0.1/",
        f"https://hooks.example/{'x' * 2_000}",
    ],
)
def test_what_may_not_be_told_is_refused_before_anything_is_accepted(receiver: Receiver, url: str) -> None:
    response = send(url)
    assert response.status_code == 400
    assert list(response.json()["details"]) == ["webhook"]
    assert not Batch.objects.exists()


def test_plain_http_is_for_the_developers_own_machine(receiver: Receiver, settings: Any) -> None:
    settings.DEBUG = False
    assert send(receiver.url).status_code == 400


def test_where_no_host_is_allowed_nobody_is_told(settings: Any) -> None:
    response = send("https://hooks.example/")
    assert response.status_code == 400
    assert "BATCH_WEBHOOK_HOSTS" in response.json()["error"]


def test_only_a_background_batch_has_somebody_told(receiver: Receiver) -> None:
    response = wsgi("POST", "/api/batch?webhook=https://hooks.example/", {"requests": [item("/api/echo")]})
    assert (response.status_code, list(response.json()["details"])) == (400, ["webhook"])


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("127.0.0.1", "Its address isn't public."),
        ("localhost", "Its address isn't public."),
        ("[::1]", "Its address isn't public."),
        ("10.0.0.1", "Its address isn't public."),
        ("169.254.169.254", "Its address isn't public."),
        ("nowhere.invalid", "There is no such host."),
    ],
)
def test_nothing_inside_the_network_is_told_even_where_its_host_is_allowed(
    settings: Any, host: str, error: str
) -> None:
    settings.BATCH_WEBHOOK_SECRET = SECRET
    settings.BATCH_WEBHOOK_HOSTS = ["*"]
    batch = accepted(send(f"https://{host}/"))
    drain()
    assert (detail(batch)["state"], detail(batch)["error"]) == ("waiting", error)


def test_a_host_that_is_no_longer_allowed_is_not_told(receiver: Receiver, settings: Any) -> None:
    batch = accepted(send(receiver.url))
    settings.BATCH_WEBHOOK_HOSTS = ["hooks.example"]
    drain()
    assert (detail(batch)["state"], receiver.received) == ("failed", [])


def test_two_processes_never_make_the_same_attempt(receiver: Receiver) -> None:
    batch = accepted(send(receiver.url))
    Batch.objects.filter(pk=batch.pk).update(finished_at=timezone.now(), status="completed")
    (one,), (other,) = Webhook.objects.due(), Webhook.objects.due()
    later = timezone.now() + timedelta(minutes=1)
    assert (one.claim(later), other.claim(later)) == (True, False)
    due_now()
    ((again, _),) = webhooks.claim()
    assert not one.deliver()  # it was too late
    assert again.deliver()


def test_an_attempt_that_died_with_its_process_is_made_again_but_not_for_ever(receiver: Receiver) -> None:
    batch = accepted(send(receiver.url))
    Batch.objects.filter(pk=batch.pk).update(finished_at=timezone.now(), status="completed")
    for _ in range(len(webhooks.BACKOFF) + 1):
        assert len(webhooks.claim()) == 1
        assert webhooks.claim() == []
        due_now()
    assert webhooks.claim() == []
    assert detail(batch)["state"] == "failed"


def test_a_batch_is_pruned_with_its_webhook(receiver: Receiver) -> None:
    accepted(send(receiver.url))
    drain()
    retention.prune(older_than=timedelta(0))
    assert not Webhook.objects.exists()


def test_a_retry_tells_whom_it_names_itself(receiver: Receiver) -> None:
    batch = accepted(send(receiver.url, item("/api/failing/500", id="a")))
    drain()
    again = accepted(wsgi("POST", f"/api/batch/{batch.pk}/retry?webhook={quote(receiver.url, safe='')}"))
    assert detail(accepted(wsgi("POST", f"/api/batch/{batch.pk}/retry"))) is None
    drain()
    assert receiver.message()["data"]["batch_id"] == again.pk


def test_the_admin_says_how_it_went(receiver: Receiver) -> None:
    receiver.answers = [500]
    batch = accepted(send(f"{receiver.url}&token=t0psecret"))
    drain()
    admin = Client()
    admin.force_login(User.objects.create_superuser("admin"))
    page = admin.get(page_of(batch)).content.decode()
    assert "It answered 500." in page
    assert "t0psecret" not in page


@pytest.mark.server
def test_what_a_killed_process_was_telling_is_told_by_the_next(receiver: Receiver, tmp_path: Any) -> None:
    receiver.answers = [None, 200]
    env = {"BATCH_WEBHOOK_SECRET": SECRET, "BATCH_WEBHOOK_HOSTS": "127.0.0.1", "HOST_DEBUG": "true"}
    service = Service(tmp_path, BATCH_RUN_IN_SERVER="true", **env)
    service.start()
    try:
        service.ask("GET", "/api/batch/x")
        path = f"/api/batch?webhook={quote(receiver.url, safe='')}"
        status, answer = service.ask("POST", path, json.dumps(item("/api/echo", id="a")))
        assert status == 202, answer
        until(lambda: receiver.received, seconds=30)
        service.kill()
        assert service.rows("SELECT state, attempts FROM batching_webhook") == [("waiting", 1)]
        with closing(sqlite3.connect(service.database, timeout=10)) as connection, connection:
            connection.execute("UPDATE batching_webhook SET not_before = '2026-01-01 00:00:00'")  # its lease is over
        command = [sys.executable, "-m", "django", "run_batches", "--drain"]
        subprocess.run(command, cwd=ROOT, env=service.env, check=True, timeout=120)
    finally:
        service.kill()
    assert service.rows("SELECT state, attempts FROM batching_webhook") == [("delivered", 2)]
    assert receiver.message(0) == receiver.message(1)
