"""The code blocks of the documentation, and a checkout in which their commands are run."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import CLEAN, DEVELOPMENT, PATIENCE, ROOT

FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A block that begins so isn't run; tests/project/test_docs.py lists all of them.
NOT_RUN = "# Not run by the tests"
SERVICE = "http://localhost:8000"
# It goes on after a backslash, and on lines that begin with the shell's second prompt.
COMMAND = re.compile(r"[^\n]*(?:(?<=\\)\n[^\n]*|\n> [^\n]*)*")
IDENTIFIER = re.compile(r"\b(msg|batch)_[0-9a-f]+(?:\.\.\.)?")
# What a shell finds in its place: the one that a command told last.
TOLD_LAST = r"$(grep -oE '\1_[0-9a-f]{24}' .told | tail -n 1)"
# What differs from run to run in what a session shows, when all blanks are gone, and what may stand there instead.
VARIES = re.compile(
    r'"(?P<text>content|response)":"(?:\\.|[^"\\])*"'
    r'|"(?P<number>\w+_tokens|\w*processing_time)":[\d.]+'
    r"|(?P<prefix>msg|conv|batch|call)_[0-9a-f]+"
    r"|(?P<event>\bid:)\d+"
    r"|(?P<rest>\.\.\.)"
)
INSTEAD = {
    "text": r'"{}":"(?:\\.|[^"\\])*"',
    "number": r'"{}":[\d.]+',
    "prefix": r"{}_[0-9a-f]+",
    "event": r"{}\d+",
    "rest": r".*",
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return not self.text.startswith(NOT_RUN)

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yield each command of a session with what it shows."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command = COMMAND.match(part)
            assert command
            yield command[0].replace("\n> ", "\n"), part[command.end() :]


def blocks() -> list[Block]:
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [each for page in pages for each in read(page)]


def read(page: Path) -> Iterator[Block]:
    text, name = page.read_text(), page.relative_to(ROOT).as_posix()
    assert text.count("```") == 2 * len(FENCE.findall(text)), f"{name} has a block that isn't read"
    for found in FENCE.finditer(text):
        yield Block(name, text.count("\n", 0, found.start()) + 1, found[1], found[2])


@dataclass
class Checkout:
    """A directory in which commands find what they find in a checkout, with a service that is running."""

    directory: Path
    url: str
    data: str
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        for path in ROOT.iterdir():
            if path.name != ".venv":
                (self.directory / path.name).symlink_to(path)
        (self.directory / ".venv").symlink_to(sys.prefix)
        (self.directory / ".curlrc").write_text("silent\n")
        (self.directory / "bin").mkdir()
        (self.directory / "bin/manage.py").write_text('#!/bin/sh\nexec python manage.py "$@"\n')
        (self.directory / "bin/manage.py").chmod(0o755)

    def run(self, script: str, **more: str) -> tuple[int, str]:
        """Run lines of a shell; return their status and what they told. localhost:8000 stands for the service."""
        script = IDENTIFIER.sub(TOLD_LAST, script).replace(SERVICE, self.url)
        development = {} if "SECRET_KEY=" in script else DEVELOPMENT | self.more
        path = f"{self.directory / 'bin'}:{self.directory / '.venv/bin'}:{CLEAN['PATH']}"
        own = {"PATH": path, "CURL_HOME": str(self.directory), "ASSISTANT_DATA_DIR": self.data}
        with (self.directory / ".told").open("a+") as told:
            before = told.tell()
            result = subprocess.run(
                ["sh", "-ec", script],
                cwd=self.directory,
                env=CLEAN | development | own | more,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE * 4,
                check=False,
            )
            told.seek(before)
            return result.returncode, told.read()


def shape(shown: str) -> re.Pattern[str]:
    """Return what a command may show where a page shows this: blanks, ids, times and the model's words may differ."""
    text, end, pattern = re.sub(r"\s", "", shown), 0, ""
    for found in VARIES.finditer(text):
        assert found.lastgroup
        pattern += re.escape(text[end : found.start()]) + INSTEAD[found.lastgroup].format(found[found.lastgroup])
        end = found.end()
    return re.compile(pattern + re.escape(text[end:]), re.DOTALL)
