"""How the service starts, and how it says that it can't."""

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.processes import DEVELOPMENT, PATIENCE, ROOT, Served, data_directory, manage, running, serving

pytestmark = pytest.mark.server

PRODUCTION = {
    **DEVELOPMENT,
    "DEBUG": "",
    "SECRET_KEY": "for the tests only, and long enough for its purpose here",
    "ALLOWED_HOSTS": "127.0.0.1",
    "WEB_CONCURRENCY": "1",
    "NUM_PROXIES": "0",
}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return {"ASSISTANT_DATA_DIR": str(tmp_path)}


@pytest.fixture(scope="module")
def development() -> Iterator[Served]:
    with serving() as it:
        yield it


@pytest.mark.parametrize("command", ["serve", "check", "migrate"])
def test_without_an_environment_nothing_starts(command: str) -> None:
    result = manage(command)
    assert result.returncode == 1
    assert result.stderr == "SECRET_KEY has to be set, except in development (DEBUG=true).\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ASSISTANT_DATA_DIR", "/dev/null/data"),
        ("ASSISTANT_MODEL", "nonsense"),
        ("BATCH_WEBHOOK_HOSTS", "hooks.example"),
        ("DATABASE_URL", "nonsense"),
        ("DEBUG", "perhaps"),
        ("HOST", "0.0.0.0"),  # noqa: S104  # what is refused
        ("HOST", "::"),
        ("HOST", "example.com"),
        ("LOG_LEVEL", "LOUD"),
        ("OPENAI_BASE_URL", "ftp://example.com"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("STREAM_CHUNK_SIZE", "0"),
        ("STREAM_TIMEOUT", "abc"),
        ("STREAM_TIMEOUT", "nan"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, data: dict[str, str]) -> None:
    result = manage("serve", **{**DEVELOPMENT, **data, name: value})
    assert result.returncode == 1
    assert name in result.stderr
    assert "Traceback" not in result.stderr


def test_a_secret_that_cannot_be_used_is_named_but_not_shown(data: dict[str, str]) -> None:
    result = manage("check", **{**DEVELOPMENT, **data, "BATCH_WEBHOOK_SECRET": "whsec_t0psecret"})
    assert result.returncode == 1
    assert "BATCH_WEBHOOK_SECRET" in result.stderr
    assert "t0psecret" not in result.stdout + result.stderr


def test_an_empty_value_counts_as_none(data: dict[str, str]) -> None:
    empty = dict.fromkeys(["PORT", "STREAM_TIMEOUT", "STREAM_ENABLED", "ALLOWED_HOSTS", "DATABASE_URL"], "")
    result = manage("check", **{**DEVELOPMENT, **data, **empty})
    assert result.returncode == 0, result.stderr


def test_an_empty_secret_key_is_none() -> None:
    assert "SECRET_KEY has to be set" in manage("check", SECRET_KEY="").stderr


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(f"DEBUG=true\nPORT=none\nASSISTANT_DATA_DIR={tmp_path}\nASSISTANT_MODEL=openai:none\n")
    assert '"PORT" invalid' in manage("check", ENV_FILE=str(file)).stderr
    assert manage("check", ENV_FILE=str(file), PORT="1").returncode == 0


def test_a_port_in_use_is_said_in_a_sentence(data: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = manage("serve", **{**DEVELOPMENT, **data, "PORT": port})
    assert result.returncode == 1
    assert f"Can't listen on 127.0.0.1 port {port}: Address already in use." in result.stderr
    assert "Traceback" not in result.stderr


def test_it_serves_and_says_what_to_try(development: Served) -> None:
    assert requests.get(f"{development.url}/admin/login/", timeout=PATIENCE).status_code == 200
    assert "/api/agent/chat?stream=true" in development.log()
    assert "development: for this machine alone" in development.log()


def test_the_port_of_the_command_line_wins_over_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, data_directory() as data:
        env = {**DEVELOPMENT, "PORT": str(taken.getsockname()[1]), "ASSISTANT_DATA_DIR": data}
        with running([sys.executable, "manage.py", "serve", "--port=0"], r"on http://\S+:(\d+)", **env) as it:
            assert requests.get(f"{it.url}/admin/login/", timeout=PATIENCE).status_code == 200


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    with serving() as it:
        requests.get(f"{it.url}/admin/login/", timeout=PATIENCE)
        it.process.send_signal(signal.SIGINT)
        assert it.process.wait(PATIENCE) == 0
        assert "Traceback" not in it.log()


def test_development_serves_static_files_from_where_they_lie(development: Served) -> None:
    response = requests.get(f"{development.url}/static/admin/css/base.css", timeout=PATIENCE)
    assert response.headers["Content-Type"] == "text/css"
    assert len(response.content) == int(response.headers["Content-Length"])


def test_production_serves_the_static_files_that_were_collected(tmp_path: Path) -> None:
    env = {**PRODUCTION, "STATIC_ROOT": str(tmp_path)}
    assert manage("collectstatic", "--no-input", **env).returncode == 0
    with serving(**env) as it:
        response = requests.get(f"{it.url}/static/admin/css/base.css", timeout=PATIENCE)
        missing = requests.get(f"{it.url}/static/..%2f..%2fmanage.py", timeout=PATIENCE)
    assert response.headers["Content-Type"].startswith("text/css")
    assert "max-age" in response.headers["Cache-Control"]
    assert missing.status_code == 404


def test_production_starts_without_collected_files(tmp_path: Path) -> None:
    with serving(**PRODUCTION, STATIC_ROOT=str(tmp_path / "none")) as it:
        assert requests.get(f"{it.url}/admin/login/", timeout=PATIENCE).status_code == 200


def test_plain_daphne_serves_it_too() -> None:
    command = [sys.executable, "-m", "daphne", "--port=0", "config.asgi:application"]
    with data_directory() as data:
        env = {**DEVELOPMENT, "ASSISTANT_DATA_DIR": data}
        with running(command, r"Listening on TCP address 127.0.0.1:(\d+)", **env) as it:
            assert requests.get(f"{it.url}/admin/login/", timeout=PATIENCE).status_code == 200


def test_the_example_of_an_env_file_can_be_copied_as_it_is(data: dict[str, str]) -> None:
    env = {"ENV_FILE": str(ROOT / ".env.example"), "ASSISTANT_MODEL": "openai:none", **data}
    assert "SECRET_KEY has to be set" in manage("check", **env).stderr
    assert manage("check", **env, DEBUG="true").returncode == 0


def test_health_is_told_to_whoever_asks_by_whatever_name(development: Served) -> None:
    url = f"{development.url}/healthz"
    response = requests.get(url, headers={"Host": "10.0.0.1"}, timeout=PATIENCE)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["X-Request-ID"]
    assert requests.post(url, timeout=PATIENCE).status_code in (403, 404)
