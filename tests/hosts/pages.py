"""The files that a page of the documentation shows: fenced blocks whose first line, a comment, names the file."""

import re
from collections.abc import Iterator

from tests.processes import ROOT

BLOCK = re.compile(r"^```(?:python|html)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"^(?:# |\{# )([\w/.-]+\.(?:py|html))(?:: .*)?(?: #\})?$", re.MULTILINE)
INCLUDED = re.compile(r'include\("(\w+)\.urls"\)')


def shown(page: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file, in the page's order; a block may show several."""
    for block in BLOCK.findall((ROOT / page).read_text()):
        yield from files(block)


def files(block: str) -> Iterator[tuple[str, str]]:
    _, *parts = NAME.split(block)
    return zip(parts[::2], parts[1::2], strict=True)


def installing(apps: set[str]) -> dict[str, str]:
    """Return what the documentation has a project add to which file to install these apps."""
    blocks = [block for page in ("README.md", "docs/host.md") for block in BLOCK.findall((ROOT / page).read_text())]
    return next(dict(files(block)) for block in blocks if set(INCLUDED.findall(block)) == apps)


def serving(*, whole: bool) -> Iterator[tuple[str, str]]:
    """Yield what the documentation adds for `manage.py serve`; `whole` with middleware and the asgi.py of both apps."""
    for block in BLOCK.findall((ROOT / "docs/host.md").read_text()):
        if 'INSTALLED_APPS += ["wire"]' in block or (whole and ("MIDDLEWARE" in block or "Lifespan(" in block)):
            yield from files(block)
