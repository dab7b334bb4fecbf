"""The deployment of deploy/: two web processes and two workers behind nginx, with PostgreSQL and Redis."""

import configparser
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.processes import CLEAN, ROOT
from tests.programs import require_program
from tests.streams import check, parse
from tests.upstream import Hold, Upstream, holding, reply
from tests.waits import until

PATIENCE = 180
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()

pytestmark = pytest.mark.server


@dataclass
class Deployment:
    directory: Path
    key: str = ""

    def state(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.directory / "state.json").read_text())
        return told

    def url(self, name: str = "deployment") -> str:
        return str(self.state()[name]["url"])

    def kill(self, name: str, number: int) -> None:
        os.kill(self.state()[name]["pid"], number)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def ask(self) -> requests.Response:
        """Open a stream, coming back as a client does while there is no room for new ones."""
        url, body = f"{self.url()}/api/agent/chat?stream=true", {"message": "Hi"}
        while True:
            response = requests.post(url, json=body, headers=self.headers, stream=True, timeout=PATIENCE)
            if response.status_code != 503:
                assert response.status_code == 200, response.text
                return response
            time.sleep(0.2)

    def get(self, path: str, name: str = "deployment", **headers: str) -> requests.Response:
        told = self.headers | headers
        return requests.get(f"{self.url(name)}{path}", headers=told, timeout=PATIENCE, stream=True)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(reply("Hello")).in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def deployment(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    require_program("redis-server")
    require_program("nginx", "nginx-light")
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        require_program("initdb", "postgresql")
    it = Deployment(tmp_path_factory.mktemp("deployment"))
    it.directory.parent.chmod(0o755)
    env = CLEAN | {"ASSISTANT_MODEL": "openai:test", "OPENAI_BASE_URL": upstream.url, "THROTTLE_KEY": "100000/second"}
    env |= {"THROTTLE_USER": "100000/second", "THROTTLE_LOGIN": "3/day"}
    command = [str(ROOT / "scripts/with_postgres"), sys.executable, "deploy/local.py", str(it.directory)]
    output = it.directory / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    try:
        until(lambda: "is ready on" in output.read_text() or process.poll() is not None)
        assert process.poll() is None, output.read_text()
        it.key = issued(it)
        yield it
    finally:
        if process.poll() is None and (it.directory / "state.json").exists():
            it.kill("deployment", signal.SIGTERM)
        process.wait(PATIENCE)


def issued(deployment: Deployment) -> str:
    env = CLEAN | {"ENV_FILE": str(deployment.directory / "env"), "DJANGO_SUPERUSER_PASSWORD": "for this test"}

    def manage(*words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout

    manage("createsuperuser", "--no-input", "--username=ada", "--email=ada@example.com")
    return manage("create_api_key", "ada").strip().splitlines()[0]


def first(response: requests.Response, count: int) -> bytes:
    """Read so many events of a stream."""
    lines = response.raw
    read = b""
    while read.count(b"\n\n") < count:
        read += lines.readline()
    return read


def test_a_stream_arrives_as_it_is_written(deployment: Deployment, upstream: Upstream) -> None:
    hold = Hold()
    upstream.script = holding("Hello", hold=hold, then=[" world"])
    with deployment.ask() as response:
        begun = first(response, 2)
        assert b"Hello" in begun
        hold.release()
        events = check(parse(begun + response.raw.read()))
    assert events[-1]["type"] == "end"


def test_an_answer_is_resumed_through_every_process(deployment: Deployment, upstream: Upstream) -> None:
    hold = Hold()
    upstream.script = holding("Hello", hold=hold, then=[" world"])
    with deployment.ask() as response:
        started = parse(first(response, 2))
    path = f"/api/agent/messages/{started[0][1]['message_id']}/stream"
    readers = [deployment.get(path, name, **{"Last-Event-ID": "1"}) for name in ("web1", "web2", "deployment")]
    hold.release()
    for reader in readers:
        with reader:
            assert check(started[:1] + parse(reader.raw.read()))[-1]["type"] == "end"


def test_a_process_that_is_killed_is_told_of_and_replaced(deployment: Deployment, upstream: Upstream) -> None:
    hold = Hold()
    upstream.script = holding("Hello", hold=hold)
    asked = f"{deployment.url('web1')}/api/agent/chat?stream=true"
    body = {"json": {"message": "Hi"}, "headers": deployment.headers}
    with requests.post(asked, **body, stream=True, timeout=PATIENCE) as response:
        started = parse(first(response, 2))
        before = deployment.state()["web1"]["pid"]
        path = f"/api/agent/messages/{started[0][1]['message_id']}/stream"
        reader = deployment.get(path, "web2", **{"Last-Event-ID": "1"})
        deployment.kill("web1", signal.SIGKILL)
    upstream.script = reply("Still here")
    try:
        with deployment.ask() as response:
            assert check(parse(response.raw.read()))[-1]["type"] == "end"
        with reader:
            [_, (_, last)] = parse(reader.raw.read())
        assert (last["type"], last["code"], last["retryable"]) == ("error", 503, True)
    finally:
        hold.release()
        until(lambda: deployment.state()["web1"]["pid"] != before and answers(deployment, "web1"))


def answers(deployment: Deployment, name: str) -> bool:
    try:
        return deployment.get("/readyz", name).status_code == 200
    except requests.ConnectionError:
        return False


def test_a_rolling_restart_under_load_loses_no_answer(deployment: Deployment, upstream: Upstream) -> None:
    upstream.script = reply("The whole", " answer,", " word", " by word.", pause=0.05)
    before = {name: deployment.state()[name]["pid"] for name in ("web1", "web2")}
    over = threading.Event()

    def keep_asking() -> list[str]:
        texts = []
        while not over.is_set():
            with deployment.ask() as response:
                events = check(parse(response.raw.read()))
            assert events[-1]["type"] == "end"
            texts.append("".join(event.get("content", "") for event in events))
        return texts

    with ThreadPoolExecutor(8) as clients:
        asking = [clients.submit(keep_asking) for _ in range(8)]
        try:
            deployment.kill("deployment", signal.SIGHUP)
            until(lambda: "have been restarted" in (deployment.directory / "output").read_text())
        finally:
            over.set()
        texts = [text for each in asking for text in each.result()]
    assert all(deployment.state()[name]["pid"] != pid for name, pid in before.items())
    assert len(texts) >= 16
    assert set(texts) == {"The whole answer, word by word."}


def test_the_workers_carry_out_background_batches(deployment: Deployment) -> None:
    lines = "".join(json.dumps({"id": f"i{n}", "method": "GET", "path": "/api/agents"}) + "\n" for n in range(20))
    headers = deployment.headers | {"Prefer": "respond-async", "Content-Type": "application/x-ndjson"}
    accepted = requests.post(f"{deployment.url()}/api/batch", data=lines, headers=headers, timeout=PATIENCE)
    assert accepted.status_code == 202, accepted.text
    path = accepted.headers["Location"]
    until(lambda: deployment.get(path).json()["status"] == "completed")
    assert deployment.get(path).json()["counts"]["succeeded"] == 20


def test_the_proxy_hands_on_nothing_that_moves_the_paths(deployment: Deployment) -> None:
    assert deployment.get("/api/agents", **{"Daphne-Root-Path": "/api"}).status_code == 200
    assert deployment.get("/api/agents", "web1", **{"Daphne-Root-Path": "/api"}).status_code == 400


def test_the_proxy_says_where_a_caller_is(deployment: Deployment) -> None:
    """The admin throttles log-ins by address, so that varying a header would be a way around it."""

    def log_in(number: int) -> int:
        headers = {"X-Forwarded-For": f"192.0.2.{number}", "Cookie": "csrftoken=" + "a" * 32}
        form = {"username": f"user{number}", "password": "x", "csrfmiddlewaretoken": "a" * 32}
        url = f"{deployment.url()}/admin/login/"
        return requests.post(url, form, headers=headers, timeout=PATIENCE).status_code

    assert [log_in(number) for number in range(4)] == [200, 200, 200, 429]


def test_what_the_proxy_refuses_is_json_too(deployment: Deployment) -> None:
    url = f"{deployment.url()}/api/agent/chat"
    response = requests.post(url, data=b"x" * (3 * 1024 * 1024), headers=deployment.headers, timeout=PATIENCE)
    assert (response.status_code, response.json()["code"]) == (413, 413)
    assert deployment.get("/metrics").status_code == 404


def test_a_backup_brings_back_what_was_there(deployment: Deployment, upstream: Upstream, tmp_path: Path) -> None:
    """The commands are those of docs/operations.md."""
    for program in ("pg_dump", "pg_restore", "createdb"):
        require_program(program, "postgresql-client")
    upstream.script = reply("Kept")
    with deployment.ask() as response:
        response.raw.read()
    told = (deployment.directory / "env").read_text()
    url = re.findall(r"^DATABASE_URL=(.+)$", told, re.MULTILINE)[-1]
    restored = f"{url.rpartition('/')[0]}/restored"
    env = CLEAN | {"DATABASE_URL": url, "RESTORED_URL": restored}
    backup, restore = re.findall(
        r"^```\n(.+?)^```", (ROOT / "docs/operations.md").read_text(), re.MULTILINE | re.DOTALL
    )[:2]
    for commands in (backup, restore):
        subprocess.run(["sh", "-ec", commands], cwd=tmp_path, env=env, check=True)

    def rows(**more: str) -> str:
        command = [sys.executable, "manage.py", "dumpdata", "auth.user", "assistant.apikey", "assistant.message"]
        env = CLEAN | {"ENV_FILE": str(deployment.directory / "env"), **more}
        return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout

    assert "Kept" in rows()
    assert rows(DATABASE_URL=restored) == rows()


# The files that no machine of ours carries out.


def test_the_image_holds_what_the_service_is_made_of() -> None:
    copied = {word for line in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    assert all((ROOT / path).exists() for path in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages | {"manage.py", "templates", "requirements/run.txt"} <= copied
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().split()
    assert {f"!{path}" for path in copied} <= set(ignored)


def test_the_image_and_the_units_run_the_commands_of_the_compose_file() -> None:
    serve, work = (" ".join(COMPOSE[name]["command"]) for name in ("web1", "worker1"))
    image = json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[-1])
    assert " ".join(image) == serve
    assert unit("assistant-web@.service")["Service"]["ExecStart"] == f"/opt/assistant/.venv/bin/{serve}"
    assert unit("assistant-worker@.service")["Service"]["ExecStart"] == f"/opt/assistant/.venv/bin/{work}"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as systemd has them
    parser.read_string((ROOT / "deploy/systemd" / name).read_text())
    return parser


@pytest.mark.parametrize("name", ["web1", "web2", "worker1", "worker2"])
def test_a_container_may_write_to_its_data_alone(name: str) -> None:
    service = COMPOSE[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"] == ["data:/data"]
    assert re.search(r"^USER 10001$", DOCKERFILE, re.MULTILINE)
    assert "HEALTHCHECK" in DOCKERFILE


def test_the_real_proxy_does_what_the_tested_one_does() -> None:
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    assert "include /etc/nginx/proxy.conf;" in text
    assert [f"server {name}:8000 max_fails=0;" in text for name in ("web1", "web2")] == [True, True]
