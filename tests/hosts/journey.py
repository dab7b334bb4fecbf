"""What a project goes through: it installs apps by the documentation's lines, is called, and takes them out again."""

import json
import re
import time
from contextlib import ExitStack
from typing import Any

import requests

from tests.hosts.project import WSGI, Host
from tests.processes import PATIENCE

EVERY = ("check",), ("migrate",), ("makemigrations", "--check", "--dry-run")
# The apps come from the wheel and not from a checkout.
WHERE = """
import sys, {names}
for app in ({names},):
    assert app.__file__.startswith(sys.prefix), app
"""
SEED = [
    ("req_1", "agent/chat", {"message": "What is Python?", "agent_id": "default"}),
    ("req_2", "tools/search/execute", {"parameters": {"query": "machine learning"}}),
]


class Caller:
    """Calls a project's API over HTTP, as Ada where it has `own` rules."""

    def __init__(self, host: Host, url: str, token: str) -> None:
        self.host, self.url = host, url
        self.session = requests.Session()
        self.session.headers["Accept"] = "application/json"
        if token:
            self.session.headers["Authorization"] = f"Token {token}"

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        address = f"{self.url}{self.host.prefix}{path}"
        return self.session.post(address, json=body, headers=headers, timeout=PATIENCE)

    def get(self, path: str) -> requests.Response:
        return self.session.get(f"{self.url}{self.host.prefix}{path}", timeout=PATIENCE)


def travel(host: Host, apps: tuple[str, ...], server: str) -> None:
    """Install the apps, call them, and uninstall them."""
    with host.with_apps(*apps, server=server):
        token = host.commands(*EVERY, *tokens(host), then=WHERE.format(names=", ".join(apps)))
        with host.serving(server) as served, ExitStack() as told:
            told.callback(lambda: print_log(served.log()))
            caller = Caller(host, served.url, found(r"token (\w+) for", token))
            called(caller, apps, streams=server not in WSGI)
            administered(caller, apps)
            told.pop_all()
        host.commands(*((("migrate", app, "zero")) for app in apps))
    assert last_line(host.commands(*EVERY, then=host.answering)) == last_line(host.answer)


def last_line(text: str) -> str:
    return text.splitlines()[-1]


def print_log(log: str) -> None:
    """Show what the server said, for whoever looks at the failure."""
    print(log[-5000:])  # noqa: T201  # pytest captures it


def said(response: requests.Response) -> str:
    """Return the beginning of a body, which may be one of Django's long pages."""
    return response.text[:800]


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def tokens(host: Host) -> list[tuple[str, ...]]:
    return [("drf_create_token", "ada@example.org")] if host.own else []


def called(caller: Caller, apps: tuple[str, ...], *, streams: bool) -> None:
    """Make the seed document's calls, as far as these apps take them."""
    if "assistant" in apps:
        answered(caller)
        streamed(caller, streams=streams)
    if "batching" in apps:
        batched(caller, SEED if "assistant" in apps else [("req_1", "hello", None), ("req_2", "note", {"name": "x"})])
        carried_out(caller)


def answered(caller: Caller) -> None:
    chat = caller.post("agent/chat", SEED[0][2])
    assert chat.status_code == 200, said(chat)
    assert chat.json()["response"] == "Hello world"
    again = caller.get(f"agent/messages/{chat.json()['message_id']}")
    assert again.json()["status"] == "completed", said(again)
    one = caller.get(f"conversations/{chat.json()['conversation_id']}")
    assert (one.status_code, one.headers["Content-Type"]) == (200, "application/json")
    assert caller.get("conversations").status_code == 200
    assert {agent["agent_id"] for agent in caller.get("agents").json()["agents"]} == {"default", "researcher"}
    tool = caller.post("tools/calculator/execute", {"parameters": {"expression": "6 * 7"}})
    assert (tool.status_code, tool.json().get("data")) == (200, 42), said(tool)
    refused = caller.post("agent/chat", {"message": 5})
    assert (refused.status_code, list(refused.json())) == (400, ["error", "code", "details"])


def streamed(caller: Caller, *, streams: bool) -> None:
    response = caller.post("agent/chat?stream=true", SEED[0][2], Accept="text/event-stream")
    if not streams:
        assert (response.status_code, response.json()["code"]) == (403, 403)
        return
    assert response.status_code == 200, said(response)
    events = [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line.startswith("data")]
    assert [event["type"] for event in events][:: len(events) - 1] == ["start", "end"]
    assert "".join(event.get("content", "") for event in events) == "Hello world"


def batched(caller: Caller, calls: list[tuple[str, str, Any]]) -> None:
    response = caller.post("batch", {"requests": [asked(caller, *call) for call in calls]})
    assert response.status_code == 200, said(response)
    assert [(one["id"], one["status"] < 300) for one in response.json()["responses"]] == [
        ("req_1", True),
        ("req_2", True),
    ], said(response)
    assert set(response.json()) == {"batch_id", "responses", "total_processing_time", "counts"}
    kept = caller.get(f"batch/{response.json()['batch_id']}")
    assert (kept.status_code, kept.json()["status"]) == (200, "completed")
    assert caller.get("batch").status_code == 200


def asked(caller: Caller, name: str, path: str, body: Any) -> dict[str, Any]:
    call: dict[str, Any] = {"id": name, "method": "POST" if body else "GET", "path": f"{caller.host.prefix}{path}"}
    call["headers"] = {"Accept": "application/json"}
    return {**call, "body": body} if body else call


def carried_out(caller: Caller) -> None:
    """Have a batch carried out in the background, as the caller."""
    requests = [asked(caller, "later", "hello", None)]
    accepted = caller.post("batch", {"requests": requests}, Prefer="respond-async")
    assert accepted.status_code == 202, said(accepted)
    batch = f"batch/{accepted.json()['batch_id']}"
    end = time.monotonic() + PATIENCE
    while caller.get(batch).json()["status"] != "completed":
        assert time.monotonic() < end, said(caller.get(batch))
        time.sleep(0.05)
    [line] = caller.get(f"{batch}/results").text.splitlines()
    assert json.loads(line)["body"] == caller.get("hello").json()


def administered(caller: Caller, apps: tuple[str, ...]) -> None:
    """Look at what there is in the admin, as a person signed in there."""
    browser = requests.Session()
    address = f"{caller.url}/admin/login/?next=/admin/"
    form = {
        "username": "ada@example.org" if caller.host.own else "ada",
        "password": caller.host.env["DJANGO_SUPERUSER_PASSWORD"],
        "csrfmiddlewaretoken": found(
            r'csrfmiddlewaretoken" value="(\w+)"', browser.get(address, timeout=PATIENCE).text
        ),
    }
    assert browser.post(address, form, timeout=PATIENCE).url == f"{caller.url}/admin/"
    for model in [("assistant", "agent"), ("assistant", "conversation"), ("batching", "batch")]:
        if model[0] in apps:
            looked_at(browser, f"{caller.url}/admin/{'/'.join(model)}/")


def looked_at(browser: requests.Session, address: str) -> None:
    """Open a list, and the first page that it leads to."""
    listed = browser.get(address, timeout=PATIENCE)
    assert listed.status_code == 200, said(listed)
    page = found(rf'href="({re.escape(address[address.index("/admin/") :])}[^"?]+/change/)', listed.text)
    assert page, said(listed)
    assert browser.get(address[: address.index("/admin/")] + page, timeout=PATIENCE).status_code == 200, page
