"""Who may import whom, as a table."""

import ast
from pathlib import Path

import pytest

from tests.processes import ROOT

MAY_IMPORT = {
    "wire": {"wire"},
    "assistant": {"assistant", "wire"},
    "batching": {"batching", "wire"},
    "config": {"config", "assistant", "batching", "wire"},
}
# The bottom of an app: everybody stands on these, and they on nobody of their own package.
BOTTOM = ["assistant/events.py", "assistant/errors.py", "assistant/conf.py", "batching/errors.py", "batching/conf.py"]


def imported(file: Path) -> set[str]:
    """Return the modules that a file imports, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_what_it_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        ours = {name.partition(".")[0] for name in imported(file)} & MAY_IMPORT.keys()
        assert ours <= MAY_IMPORT[package], file


@pytest.mark.parametrize("path", BOTTOM)
def test_the_bottom_imports_nothing_of_its_package(path: str) -> None:
    package = path.partition("/")[0]
    assert not {name for name in imported(ROOT / path) if name.partition(".")[0] == package}


def test_celery_is_imported_by_the_task_and_the_application_alone() -> None:
    files = [file for package in MAY_IMPORT for file in (ROOT / package).rglob("*.py")]
    found = {
        str(file.relative_to(ROOT)) for file in files if any("celery" in name.split(".") for name in imported(file))
    }
    assert found == {"batching/tasks.py", "config/celery.py"}
