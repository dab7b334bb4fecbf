"""What a project may rely on: the names in `__all__`, which a page of the reference lists."""

import re
import runpy
from functools import cache
from importlib.util import find_spec
from typing import Any

from tests.processes import ROOT

DOTTED = re.compile(r"\b(?:assistant|batching|wire)(?:\.[A-Za-z_]\w*)+")
IMPORTED = re.compile(r"^from ((?:assistant|batching|wire)[\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
# Pages that tell of the inside, and what looks like a name there and is none: attributes of spans, a logger.
INSIDE = {"docs/why.md", "docs/architecture.md"}
NO_NAMES = {"assistant.message.id", "assistant.message.status", "assistant.answers.run"}


@cache
def public() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = runpy.run_path(str(ROOT / "scripts/reference.py"))["public"]()
    return found


def test_each_name_says_what_it_is() -> None:
    assert [f"{each.module}.{each.name}" for names in public().values() for each in names if not each.doc] == []


def test_it_is_as_much_as_can_be_kept() -> None:
    assert 50 < sum(map(len, public().values())) < 200


def test_the_documentation_names_nothing_else() -> None:
    # The changelog tells of names that are gone.
    pages = [page for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")] if page.name != "CHANGELOG.md"]
    texts = {page.relative_to(ROOT).as_posix(): "\n".join(CODE.findall(page.read_text())) for page in pages}
    wrong = {
        name: page
        for page, text in texts.items()
        for name in (named(text) if page not in INSIDE else ())
        if not is_public(name)
    }
    assert wrong == {}


def named(text: str) -> set[str]:
    """Return what a text imports of the apps, or names with at least one module of theirs."""
    imported = {
        f"{module}.{name.split(' as ')[0].strip()}"
        for module, names in IMPORTED.findall(text)
        for name in names.partition("#")[0].strip("()\n ").split(",")
    }
    dotted = {name for name in DOTTED.findall(text) if name.count(".") > 1 or find_spec(name)}
    return (imported | dotted) - NO_NAMES


def is_public(name: str) -> bool:
    module, _, inner = name.rpartition(".")
    return name in public() or inner in {each.name for each in public().get(module, [])}
