"""What the log of the real server says of an answer, and what it never does."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes import PATIENCE, migrated, serving
from tests.streams import check, parse
from tests.upstream import Script, Upstream, broken, calling, chunk, deltas, refusing, reply

pytestmark = pytest.mark.server

PROMPT = "What is the zanzibar of prompts?"
ANSWER = "The quagga of answers."
TOOL = "6 * 7 * 11 * 13"
RESULT = "6006"
ECHO: dict[str, Any] = {"error": {"message": f"Can't answer {PROMPT!r} with temperature"}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data directory whose default agent has the calculator."""
    directory = shutil.copytree(migrated(), tmp_path / "data")
    with closing(sqlite3.connect(directory / "db.sqlite3")) as database:
        database.execute("UPDATE assistant_agent SET tools = '[\"calculator\"]' WHERE id = 'default'")
        database.commit()
    return directory


def test_lines_of_an_answer_have_its_ids_and_no_text(data: Path) -> None:
    scripts = {
        "completed": [calling(("calculator", {"expression": TOOL})), reply(ANSWER)],
        "failed": [broken(ANSWER)],
        "garbled": [Script([*deltas(ANSWER), chunk({"content": [ANSWER]})])],
        "refused": [refusing(400, ECHO)],
    }
    with (
        Upstream().in_thread() as upstream,
        serving(lambda: data, ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=upstream.url) as service,
    ):
        ids = {}
        for request_id, played in scripts.items():
            upstream.scripts = list(played)
            response = requests.post(
                f"{service.url}/api/agent/chat?stream=true",
                json={"message": PROMPT},
                headers={"X-Request-ID": request_id},
                timeout=PATIENCE,
            )
            events = check(parse(response.content))
            ids[request_id] = events[0]["message_id"]
            assert any(event.get("result") == RESULT for event in events) is (request_id == "completed")
        log = service.log()
    for request_id, message_id in ids.items():
        state = "completed" if request_id == "completed" else "failed"
        assert re.search(rf"INFO assistant.answers.run request={request_id} message={message_id} state={state}", log)
    assert re.search(rf"upstream_error request=refused message={ids['refused']} model=test status=400", log)
    for line in log.splitlines():
        if found := re.search("message=(msg_\\w+)", line):
            assert f"request={next(name for name, each in ids.items() if each == found[1])} " in line
    assert not re.search("zanzibar|quagga|6 . 7|6006", log)


def test_the_line_of_a_request_has_its_id(data: Path) -> None:
    with serving(lambda: data, ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL="http://127.0.0.1:9/v1") as service:
        requests.get(f"{service.url}/api/agents", headers={"X-Request-ID": "mine-1"}, timeout=PATIENCE)
        log = service.log()
    assert re.search("wire.access request=mine-1 method=GET path=/api/agents status=200", log)
