"""The OpenAPI description that is served, checked against the service by schemathesis."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import DEVELOPMENT, manage, serving
from tests.upstream import Upstream, reply

pytestmark = [pytest.mark.server, pytest.mark.slow]

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method"
)


def test_the_description_is_sound() -> None:
    result = manage("spectacular", "--validate", "--fail-on-warn", **DEVELOPMENT)
    assert result.returncode == 0, result.stderr


def test_the_service_is_as_it_is_described(tmp_path: Path) -> None:
    schemathesis = Path(sys.executable).with_name("schemathesis")
    with Upstream(reply("Fine")).in_thread() as upstream:
        env = {"ASSISTANT_MODEL": "openai:test", "OPENAI_BASE_URL": upstream.url}
        with serving(**env) as service:
            command = [schemathesis, "run", f"{service.url}/api/schema", "--checks", CHECKS, "--max-examples", "10"]
            result = subprocess.run(
                [*command, "--seed", "1", "--no-color"],
                cwd=tmp_path,  # it leaves a cache where it runs
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
            )
    assert result.returncode == 0, result.stdout[-8_000:]
