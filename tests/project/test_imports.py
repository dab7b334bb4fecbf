"""Who may import whom, as a table of rooms and files; arrows go down, and no two files import each other."""

import ast
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.processes import ROOT

PACKAGES = ("wire", "assistant", "batching", "config")
# A folder holds a dozen files at most, beside its `__init__`.
MOST_FILES = 12

# What a room (a folder of an app) or a file beside the rooms may import of the project, beyond its own room.
MAY_IMPORT = {
    "wire.api": "wire.asgi wire.conf wire.errors wire.extras wire.observe",
    "wire.apps": "wire.checks",
    "wire.asgi": "wire.errors wire.observe wire.once",
    "wire.management": "wire.asgi wire.conf wire.extras wire.server",
    "wire.observe": "wire.extras",
    "wire.server": "wire.asgi wire.conf wire.errors",
    "assistant.admin": (
        "assistant.conf assistant.errors assistant.models assistant.providers assistant.search "
        "assistant.tools wire.admin wire.conf wire.observe"
    ),
    "assistant.answers": (
        "assistant.cluster assistant.conf assistant.errors assistant.event_log assistant.events "
        "assistant.logs assistant.models assistant.observe assistant.providers assistant.signals "
        "assistant.tools wire.api wire.errors"
    ),
    "assistant.api": (
        "assistant.answers assistant.cluster assistant.conf assistant.errors assistant.models assistant.tools "
        "wire.api wire.asgi"
    ),
    "assistant.apps": "assistant.api assistant.checks assistant.tools wire.extras",
    "assistant.checks": "assistant.api assistant.cluster assistant.conf",
    "assistant.cluster": (
        "assistant.conf assistant.errors assistant.event_log assistant.events assistant.models "
        "assistant.signals wire.asgi wire.extras wire.once"
    ),
    "assistant.conf": "wire.conf",
    "assistant.errors": "wire.errors",
    "assistant.event_log": "wire.api",
    "assistant.lifespan": "assistant.answers assistant.cluster assistant.conf assistant.models assistant.providers",
    "assistant.logs": "wire.observe",
    "assistant.management": "assistant.conf assistant.errors assistant.models assistant.providers assistant.search",
    "assistant.metrics": (
        "assistant.answers assistant.errors assistant.models assistant.signals assistant.tools wire.extras"
    ),
    "assistant.models": "assistant.conf assistant.events wire.api wire.asgi",
    "assistant.observe": "assistant.models assistant.providers wire.observe",
    "assistant.providers": (
        "assistant.conf assistant.errors assistant.events assistant.logs wire.api wire.asgi wire.extras "
        "wire.observe wire.once"
    ),
    "assistant.routing": "assistant.websocket wire.extras",
    "assistant.search": "assistant.models wire.api",
    "assistant.tools": (
        "assistant.conf assistant.errors assistant.logs assistant.observe assistant.providers "
        "assistant.search assistant.signals wire.api wire.asgi wire.outbound"
    ),
    "assistant.urls": "assistant.api",
    "assistant.websocket": "assistant.api assistant.errors wire.api wire.asgi wire.errors wire.observe",
    "batching.admin": (
        "batching.api batching.background batching.conf batching.errors batching.inspection batching.items "
        "batching.models batching.records wire.admin wire.asgi wire.observe"
    ),
    "batching.api": (
        "batching.background batching.conf batching.errors batching.items batching.models batching.records "
        "batching.run wire.api wire.asgi wire.errors wire.observe"
    ),
    "batching.apps": "batching.checks",
    "batching.background": (
        "batching.conf batching.errors batching.items batching.models batching.records batching.run "
        "batching.signals wire.api wire.asgi wire.errors wire.observe wire.outbound"
    ),
    "batching.checks": "batching.conf batching.models wire.extras",
    "batching.conf": "wire.conf wire.extras",
    "batching.errors": "wire.errors",
    "batching.inspection": ("batching.api batching.conf batching.models batching.records wire.asgi wire.observe"),
    "batching.items": "batching.errors wire.api wire.errors",
    "batching.lifespan": "batching.background",
    "batching.management": (
        "batching.background batching.conf batching.errors batching.items batching.models batching.run "
        "wire.errors wire.observe"
    ),
    "batching.metrics": "batching.models batching.signals wire.asgi wire.extras",
    "batching.models": "wire.api",
    "batching.records": "batching.conf batching.items batching.models batching.signals wire.api wire.asgi",
    "batching.routing": "batching.inspection wire.extras",
    "batching.run": (
        "batching.conf batching.errors batching.items batching.models batching.records wire.api wire.asgi "
        "wire.observe wire.once"
    ),
    "batching.tasks": "batching.background batching.conf batching.run",
    "batching.urls": "batching.api",
    "config.apps": "config.observe config.production config.throttles",
    "config.asgi": "assistant.lifespan assistant.routing batching.lifespan batching.routing wire.asgi",
    "config.celery": "batching.conf",
    "config.console": "assistant.observe batching.inspection wire.observe",
    "config.management": "assistant.models batching.models",
    "config.middleware": "config.production wire.errors",
    "config.observe": "assistant.metrics batching.metrics wire.errors wire.extras wire.observe",
    "config.settings": "assistant.conf batching.conf wire wire.server",
    "config.templatetags": "wire.observe",
    "config.throttles": "assistant.conf assistant.models assistant.signals wire.api wire.once",
    "config.urls": "config.observe config.throttles config.views",
    "config.views": "assistant.cluster assistant.conf assistant.providers wire.asgi",
}


@cache
def modules() -> dict[str, Path]:
    """Return the project's modules with their files; migrations say what was, and are left out."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {name_of(file): file for file in files if "migrations" not in file.parts}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imported(file: Path) -> frozenset[str]:
    """Return the modules that a file imports, those inside functions and for the type checker alone too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys()
            names |= inner or {node.module}
    return frozenset(names)


def ours(name: str) -> set[str]:
    """Return the project's modules that a module imports."""
    return set(imported(modules()[name]) & modules().keys()) - {name}


def room_of(name: str) -> str:
    """Return the folder of an app that a module is in; of a file beside them, its own name."""
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_what_it_may(room: str) -> None:
    found = {name: ours(name) for name in modules() if room_of(name) == room}
    assert found
    allowed = {room, *MAY_IMPORT[room].split()}
    for name, imports in found.items():
        assert {room_of(each) for each in imports} <= allowed, name


def test_the_table_has_each_room_and_allows_nothing_that_nobody_needs() -> None:
    needed = {
        room: {room_of(each) for name in modules() if room_of(name) == room for each in ours(name)} - {room}
        for room in map(room_of, modules())
    }
    assert {room: set(allowed.split()) for room, allowed in MAY_IMPORT.items()} == {
        room: imports for room, imports in needed.items() if imports
    }


def test_no_files_import_each_other_in_a_circle() -> None:
    TopologicalSorter({name: ours(name) for name in modules()}).prepare()


def test_no_rooms_import_each_other_in_a_circle() -> None:
    TopologicalSorter({room: allowed.split() for room, allowed in MAY_IMPORT.items()}).prepare()


def test_a_folder_holds_a_dozen_files_at_most() -> None:
    counts = Counter(file.parent for file in modules().values() if file.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_celery_is_imported_by_the_task_and_the_application_alone() -> None:
    found = {
        name for name, file in modules().items() if any("celery" in each.split(".")[:1] for each in imported(file))
    }
    assert found == {"batching.tasks", "config.celery"}
