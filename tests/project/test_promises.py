"""docs/promises.md names tests that exist."""

import ast
import re

import pytest

from tests.processes import ROOT

NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/promises.md").read_text())


def test_promises_name_tests() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_a_test_that_holds_a_promise_is_there(file: str, name: str) -> None:
    defined = ast.walk(ast.parse((ROOT / file).read_text()))
    assert name in {node.name for node in defined if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
