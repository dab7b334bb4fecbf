"""The documentation: its site is built, its links lead somewhere, and each block of code in it does what it shows."""

import json
import os
import pkgutil
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from django.core.asgi import get_asgi_application
from django.db.models import TextChoices
from django.dispatch import Signal
from django.urls import include, path
from playwright.sync_api import Page

import assistant.signals
import batching.signals
from assistant.models import Message
from assistant.tools import toolbox
from batching.models import Batch, BatchItem
from tests.assistant.search.files import write_pdf
from tests.browser.conftest import page  # noqa: F401  # a fixture
from tests.browser.environment import axe_violations, seeded_data
from tests.code_blocks import FENCE, Block, Checkout, blocks, shape
from tests.processes import PATIENCE, ROOT, Served, serving
from tests.upstream import Upstream, reply

BLOCKS = blocks()
# What isn't run anywhere: it fetches packages, or takes Docker, systemd or servers of one's own.
LEFT_OUT = {
    "git clone <this repository> assistant && cd assistant",
    "export SECRET_KEY=... ALLOWED_HOSTS=assistant.example NUM_PROXIES=1 DATABASE_URL=postgres://... REDIS_URL=redis://...",
    "ASSISTANT_MODEL=openai:llama3.2 OPENAI_BASE_URL=http://localhost:11434/v1 make run # Ollama",
    "docker compose --file deploy/compose.yaml --env-file .env up --build --detach",
    "cp deploy/systemd/* /etc/systemd/system/",
}
# What other tests run: how the name of a page begins, or a block.
ELSEWHERE = {
    "docs/operations.md": "tests/project/test_deployment.py",
    "docs/host.md": "tests/project/test_hosts.py",
    "docs/extend/": "tests/project/test_hosts.py",
    "export DATABASE_URL=postgres://... CELERY_BROKER_URL": "tests/project/test_fleet.py",
    "make crash": "tests/batching/test_crash.py",
}
# Variables of make and of Django, beside the settings.
OTHERS = {"BACKEND", "CYCLES", "LEASE", "DJANGO_SUPERUSER_PASSWORD"}
APPS = ("assistant", "batching", "wire")
# Permissions, attributes of spans and a task have names like those of modules.
NO_MODULE = r"\.(?:view|add|change|delete|operate)_|assistant\.(?:message|time_to_first_token)|batching\.work$"
# What is there once something was run.
GENERATED = {"build", "dist", "var", "staticfiles"}
# The reader's own.
READERS = {"deploy/tls/"}
PAGES = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
# These languages are shown, and nothing is done with them.
SHOWN = {"text"}


def of(*languages: str) -> list[Any]:
    """Return the blocks in these languages that are run here, each text once."""
    once = {
        block.text: block for block in reversed(BLOCKS) if block.language in languages and not is_run_elsewhere(block)
    }
    return [pytest.param(block, id=str(block)) for block in reversed(once.values()) if block.is_run]


def is_run_elsewhere(block: Block) -> bool:
    return any(block.page.startswith(begin) or block.text.startswith(begin) for begin in ELSEWHERE)


def test_each_block_is_run_or_listed() -> None:
    here = [block for block in BLOCKS if not is_run_elsewhere(block)]
    assert {block.language for block in here} <= {"", "sh", "console", "python", "js", "json", "yaml"} | SHOWN
    assert {" ".join(block.text.splitlines()[1].split()) for block in here if not block.is_run} == LEFT_OUT
    assert all((ROOT / test).exists() for test in ELSEWHERE.values())


def test_each_variable_of_a_command_is_a_setting() -> None:
    settings = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    commands = "\n".join(block.text for block in BLOCKS if block.language in ("", "sh", "console"))
    assert set(re.findall(r"\b([A-Z][A-Z_]+)=", commands)) <= settings | OTHERS


# The site.


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("site")
    command = [sys.executable, "scripts/docs.py", str(where)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE * 6, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return where / "html"


def test_the_site_is_built_without_a_warning(site: Path) -> None:
    pages = {each.relative_to(ROOT / "docs").with_suffix(".html") for each in (ROOT / "docs").rglob("*.md")}
    assert all((site / each).exists() for each in pages)


def test_each_page_is_in_the_navigation_once() -> None:
    entries = runpy.run_path(str(ROOT / "scripts/docs.py"))["ENTRY"].findall((ROOT / "docs/index.md").read_text())
    assert len(entries) == len(set(entries))
    named = {os.path.normpath(ROOT / "docs" / f"{entry}.md") for entry in entries}
    assert named >= {str(each) for each in (ROOT / "docs").rglob("*.md")} - {str(ROOT / "docs/index.md")}


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "requirements/README.md"]
)
def test_links_beside_the_site_lead_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)(?:#([^)]+))?\)", (ROOT / name).read_text()):
        file = (ROOT / name).parent / target if target else ROOT / name
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def anchors(file: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_reference_has_what_the_code_has(site: Path) -> None:
    read = {each.stem: each.read_text() for each in (site / "reference").iterdir()}
    assert all(
        name in read["settings"] for name in ("STREAM_TIMEOUT", "BATCH_MAX_SIZE", "BATCH_CELERY_APP", "THROTTLE_KEY")
    )
    assert all(path in read["endpoints"] for path in ("POST /api/agent/chat", "DELETE /api/conversations/"))
    assert all(name in read["events"] for name in ("tool_result", "retry_after", "finish_reason"))
    assert all(name in read["errors"] for name in ("ModelTimeout", "FailedDependency", "The service is stopping."))
    assert all(name in read["metrics"] for name in ("assistant_answers_total", "batching_batches_total"))
    assert all(name in read["python"] for name in ("APIKeyAuthentication", "batch_finished", "ModelRequest"))
    assert all(name in read["commands"] for name in ("submit_batch", "--follow", "delete_person"))


# What the pages name.


def prose(file: Path) -> str:
    return FENCE.sub("", file.read_text())


def named(pattern: str) -> set[str]:
    """Return what matches the pattern at the beginning of inline code."""
    return {name for file in PAGES for name in re.findall(rf"(?<!`)`(?:{pattern})", prose(file))}


def test_each_file_that_is_named_is_there() -> None:
    tops = "|".join(sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in GENERATED))
    files = named(rf"((?:{tops})/[\w./@*-]*)")
    assert len(files) > 100
    assert {file for file in files if not list(ROOT.glob(file.rstrip("/")))} == READERS
    # The diagrams leave out an app's name.
    drawn = {file for block in FENCE.findall(ARCHITECTURE) for file in re.findall(r"[\w/]+/\w+\.py", block[1])}
    assert len(drawn) > 20
    assert {file for file in drawn if not any((ROOT / app / file).exists() for app in ("", *APPS))} == set()


def test_each_name_of_a_module_leads_to_something() -> None:
    inline = named(rf"((?:{'|'.join(APPS)})(?:\.\w+)+)(?:`|\()")
    imports = re.compile(rf"^from ((?:{'|'.join(APPS)})[\w.]*) import ([\w, ]+)", re.MULTILINE)
    found = [each for file in PAGES for each in imports.findall(file.read_text())]
    imported = {f"{module}.{name.split()[0]}" for module, names in found for name in names.split(", ")}
    moved = set(re.findall(r"^ *\| `[\w.]+` \| `([\w.]+)` \|$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE))
    names = imported | moved | {name for name in inline if not re.search(NO_MODULE, name)}
    assert len(names) > 20
    for name in names:
        pkgutil.resolve_name(name)


def test_each_target_of_make_is_there() -> None:
    assert named(r"make (\w+)") <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_each_package_and_each_extra_has_its_purpose() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, text = project["optional-dependencies"], (ROOT / "docs/dependencies.md").read_text()
    assert set(re.findall(r"^\| `([\w-]+)` \| ", text, re.MULTILINE)) == set(extras)
    packages = {re.match(r"[\w-]+", each)[0] for each in chain(project["dependencies"], *extras.values())}  # type: ignore[index]
    own = {project["name"]}  # an extra may take another one
    assert packages - own <= set(re.findall(r"[\w-]+", text))


def test_each_signal_is_documented() -> None:
    signals = {
        f"{module.__name__}.{name}"
        for module in (assistant.signals, batching.signals)
        for name, each in vars(module).items()
        if isinstance(each, Signal)
    }
    text = (ROOT / "docs/extend/signals.md").read_text()
    assert len(signals) > 5
    assert set(re.findall(r"^\| `([\w.]+)` \| ", text, re.MULTILINE)) == signals


@pytest.mark.parametrize(
    ("life", "states"),
    [("an answer", Message.Status), ("a batch", Batch.Status), ("an item", BatchItem.State)],
    ids=["answer", "batch", "item"],
)
def test_life_cycles_have_all_states(life: str, states: type[TextChoices]) -> None:
    [section] = re.findall(rf"^## Life cycle of {life}\n(.*?)(?=^## |\Z)", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    drawn = "\n".join(found[2] for found in FENCE.finditer(section))
    every = {*Message.Status.values, *Batch.Status.values, *BatchItem.State.values}
    shown = set(re.findall(r"(?:► |^[│ ]+)(\w+)(?= +─| *$|  )", drawn, re.MULTILINE))
    assert shown & every == set(states.values)


def test_each_folder_of_the_apps_is_in_the_architecture() -> None:
    folders = {
        f"{file.parent.relative_to(ROOT)}/"
        for app in APPS
        for file in (ROOT / app).glob("*/__init__.py")
        if file.parent.name != "migrations"
    }
    assert set(re.findall(r"^\| `(\w+/\w+/)` \| ", ARCHITECTURE, re.MULTILINE)) == folders


UNNAMED = re.compile(r"(?i)\b(?:whoever|somebody|nobody|anybody|someone else)\b")


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_page_names_who_acts(file: Path) -> None:
    text = re.sub(r"`[^`]+`", "", prose(file))
    assert UNNAMED.findall(text) == []


def test_the_code_names_who_acts() -> None:
    files = [file for app in APPS for kind in ("py", "html") for file in (ROOT / app).rglob(f"*.{kind}")]
    assert files
    assert {str(file.relative_to(ROOT)): found for file in files if (found := UNNAMED.findall(file.read_text()))} == {}


@pytest.mark.browser
def test_it_is_readable_in_both_schemes_and_asks_nobody(site: Path, page: Page) -> None:  # noqa: F811  # the fixture above
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("index", "quickstart", "architecture", "api", "reference/settings"):
        page.goto(f"file://{site}/{name}.html")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert axe_violations(page, "color-contrast") == [], (name, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    page.goto(f"file://{site}/search.html?q=Last-Event-ID")
    page.locator("#search-results li a").first.wait_for()
    assert [url for url in asked if not url.startswith(f"file://{site}/")] == []


# The blocks.


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The service with ada, two documents, and a model that has one answer."""
    # Longer than a token may be, so that each answer has several.
    with Upstream(reply("Quark " * 50)).in_thread() as upstream:
        model = {"ASSISTANT_MODEL": "openai:test", "OPENAI_BASE_URL": upstream.url}
        with serving(seeded_data, **model) as it:
            yield checkout(tmp_path_factory, it, model)


@pytest.fixture
def knowing(real: Served, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return checkout(tmp_path_factory, real, {})


def checkout(temporary: pytest.TempPathFactory, service: Served, more: dict[str, str]) -> Checkout:
    assert service.data
    made = Checkout(temporary.mktemp("docs") / "checkout", service.url, service.data, more)
    item = {"method": "GET", "path": "/api/agents"}
    (made.directory / "items.jsonl").write_text("".join(json.dumps(item | {"id": name}) + "\n" for name in "abc"))
    (made.directory / "handbook").mkdir()
    (made.directory / "handbook/tea.md").write_text("# Tea\n\nA drink.\n")
    write_pdf(made.directory / "notes.pdf", "Tea is a drink.")
    return made


@pytest.mark.server
@pytest.mark.parametrize("block", of("", "sh"))
def test_commands_work(block: Block, scripted: Checkout) -> None:
    status, told = scripted.run(block.text)
    assert status == 0, told
    assert '"error":' not in told


@pytest.mark.server
@pytest.mark.model
@pytest.mark.parametrize("name", sorted({block.page for block in BLOCKS if block.language == "console"}))
def test_sessions_go_as_they_are_shown(name: str, scripted: Checkout, request: pytest.FixtureRequest) -> None:
    sessions = [
        each for block in BLOCKS if block.page == name and block.language == "console" for each in block.commands()
    ]
    for command, shown in sessions:
        # The researcher's model has to know what to look up; elsewhere any will do.
        where = request.getfixturevalue("knowing") if "researcher" in command else scripted
        _, answer = where.run(command)
        assert shape(shown).fullmatch(re.sub(r"\s", "", answer)), f"{command}\n{answer}"


@pytest.mark.server
@pytest.mark.django_db
@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block: Block, scripted: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbox, "REGISTRY", dict(toolbox.REGISTRY))
    monkeypatch.setitem(sys.modules, "shop", SimpleNamespace())  # type: ignore[arg-type]  # the reader's own app
    monkeypatch.setitem(sys.modules, "shop.models", SimpleNamespace(Order=object))  # type: ignore[arg-type]
    around = {"__name__": "shop.tools", "INSTALLED_APPS": [], "urlpatterns": [], "path": path, "include": include}
    if "django_application" in block.text:
        around["django_application"] = get_asgi_application()
    if "response.content" in block.text:
        around |= streams(scripted.url)
    text = block.text.replace("localhost:8000", scripted.url.removeprefix("http://"))
    if "sk_..." in text:
        text = text.replace("sk_...", key(scripted))
    exec(compile(text, str(block), "exec"), around)  # noqa: S102  # it is the test
    for app in around["INSTALLED_APPS"]:
        assert app is ... or import_module(app)


def key(checkout: Checkout) -> str:
    _, told = checkout.run("python manage.py create_api_key ada")
    return told.split()[0]


def streams(url: str) -> dict[str, requests.Response]:
    """Return an answer's stream, and the same one from its third event on."""
    response = requests.post(f"{url}/api/agent/chat?stream=true", json={"message": "Hi"}, timeout=PATIENCE)
    [message] = re.findall(r'"message_id": "(\w+)", "conv', response.text)
    resumed = f"{url}/api/agent/messages/{message}/stream"
    return {"response": response, "resumed": requests.get(resumed, headers={"Last-Event-ID": "3"}, timeout=PATIENCE)}


@pytest.mark.server
@pytest.mark.browser
@pytest.mark.parametrize("block", of("js"))
def test_scripts_of_pages_run(block: Block, scripted: Checkout, page: Page) -> None:  # noqa: F811  # the fixture above
    page.goto(scripted.url)
    types = page.evaluate(
        "() => new Promise((resolve) => { const types = []; const handleStreamEvent = ({ type }) => {"
        f"types.push(type); if (type === 'end') resolve(types); }};\n{block.text}\n}})"
    )
    assert (types[0], types[-1]) == ("start", "end")


@pytest.mark.parametrize("block", of("json", "yaml"))
def test_data_can_be_read(block: Block) -> None:
    assert (json.loads if block.language == "json" else yaml.safe_load)(block.text)
