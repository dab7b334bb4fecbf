"""What each extra is for: the rest works without it, and what needs it says so in a sentence."""

import json
import re
import subprocess
import sys

import pytest

from tests.packages import BASE, EXTRAS, brought, modules, named, others
from tests.processes import CLEAN, PATIENCE, ROOT

# Sets up Django with these apps where these modules can't be found.
WITHOUT = """
import json, sys

missing, apps, settings = json.loads(sys.argv[1])

class Absent:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import django
from django.conf import settings as project
own = ["auth", "contenttypes", "admin", "messages", "sessions"]
project.configure(INSTALLED_APPS=[*(f"django.contrib.{name}" for name in own), "rest_framework", *apps], **settings)
django.setup()
"""
# What a host imports of `batching` and `wire`, whatever its server is.
LIGHT = """
import batching.admin, batching.api.throttles, batching.checks, batching.lifespan, batching.signals, batching.urls
import wire.api.middleware, wire.asgi.detached, wire.asgi.lifespan, wire.asgi.middleware
import wire.observe.logs, wire.observe.request_id, wire.observe.tracing
from django.core.management import call_command, get_commands, load_command_class
[load_command_class(app, name) for name, app in get_commands().items() if app in project.INSTALLED_APPS]
"""
CHAT = """
import assistant.admin, assistant.lifespan, assistant.urls
from assistant.providers.registry import get_model
get_model("openai:any")
"""


def run(code: str, *apps: str, missing: set[str], **settings: object) -> subprocess.CompletedProcess[str]:
    given = json.dumps((sorted(missing), apps, settings))
    command = [sys.executable, "-W", "error", "-c", WITHOUT + code, given]
    return subprocess.run(command, cwd=ROOT, env=CLEAN, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_batches_need_nothing_but_what_is_always_there() -> None:
    result = run(LIGHT, "batching", "wire", missing=others(brought(BASE)))
    assert result.returncode == 0, result.stderr


def test_what_is_there_is_imported_only_when_it_is_used() -> None:
    listed = "print(*{name.partition('.')[0] for name in sys.modules})"
    result = run(LIGHT + listed, "batching", "wire", missing=set())
    assert result.returncode == 0, result.stderr
    # Django itself looks for psycopg.
    names = {name for extra in EXTRAS.keys() - {"openapi", "postgres"} for name in named(EXTRAS[extra])}
    assert modules(names - brought(BASE)) & set(result.stdout.split()) == set()


def test_the_assistant_needs_its_extra_alone() -> None:
    missing = others(brought([*BASE, *EXTRAS["assistant"]]))
    result = run(LIGHT + CHAT, "batching", "wire", "assistant", missing=missing)
    assert result.returncode == 0, result.stderr


def test_the_assistant_without_its_extra_does_not_start() -> None:
    result = run("", "assistant", missing=others(brought(BASE)))
    assert result.returncode == 1
    assert result.stderr.endswith(f"ImproperlyConfigured: The app assistant {ADVICE.format('assistant')}\n")


ADVICE = "needs the extra {0}: pip install 'django-assistant-backend[{0}]'."
SETTINGS = {
    "BATCH_WEBHOOK_SECRET": "whsec_" + "a" * 32,
    "BATCH_WEBHOOK_HOSTS": ["hooks.example"],
    "BATCH_CELERY_APP": "project.celery",
    "REDIS_URL": "redis://localhost",
}
# What is used of each extra, and how the sentence begins.
USES = {
    "import assistant.routing": "assistant.routing",
    "import batching.routing": "batching.routing",
    "call_command('serve')": "manage.py serve",
    "import assistant.metrics": "assistant.metrics",
    "import batching.metrics": "batching.metrics",
    "import wire.observe.metrics": "wire.observe.metrics",
    "import wire.observe.telemetry": "wire.observe.telemetry",
    "get_model('local:smollm2')": "The model local:smollm2",
    "get_model('anthropic:x')": "A model of this provider",
}
USING = """
from django.core.checks import run_checks
from django.core.management import call_command
from assistant.providers.registry import get_model
for message in run_checks():
    print(message.msg)
for use in {uses}:
    try:
        exec(use)
    except Exception as error:
        print(error)
"""


@pytest.fixture(scope="module")
def said() -> str:
    """Return what is said where nothing is installed but what the two apps always need."""
    missing = others(brought([*BASE, *EXTRAS["assistant"]]))
    result = run(USING.format(uses=list(USES)), "batching", "wire", "assistant", missing=missing, **SETTINGS)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("user", "extra"),
    [
        ("BATCH_WEBHOOK_HOSTS can't be ['hooks.example']: it", "webhooks"),
        ("BATCH_CELERY_APP", "celery"),
        ("REDIS_URL", "redis"),
        *zip(USES.values(), ["server"] * 3 + ["metrics"] * 3 + ["otel", "local", "pydantic-ai"], strict=True),
    ],
)
def test_a_missing_extra_is_named(user: str, extra: str, said: str) -> None:
    assert f"{user} {ADVICE.format(extra)}" in said.splitlines()


def test_the_documentation_counts_them() -> None:
    text = (ROOT / "docs/dependencies.md").read_text()
    assert f" {len(brought(BASE))} packages" in text
    for extra in ("openapi", "webhooks", "assistant"):
        assert re.search(rf"`{extra}` (adds )?{len(brought([*BASE, *EXTRAS[extra]])) - len(brought(BASE))}\b", text)


def test_each_package_and_each_extra_is_documented() -> None:
    text = (ROOT / "docs/dependencies.md").read_text()
    for name, requirements in {"": BASE, **EXTRAS}.items():
        assert not name or re.search(rf"^\| (extra )?`{name}`", text, re.MULTILINE), name
        assert [package for package in named(requirements) if package not in text] == []
