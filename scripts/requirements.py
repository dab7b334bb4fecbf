"""Compile requirements/*.txt from pyproject.toml, or check without a network that it was done.

`requirements.py compile [uv's options]`, such as --upgrade; `requirements.py check`.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = [
    "--extra=assistant",
    "--extra=webhooks",
    "--extra=openapi",
    "--extra=server",
    "--extra=local",
    "--extra=documents",
    "--extra=postgres",
    "--extra=redis",
    "--extra=celery",
    "--extra=metrics",
    "--extra=otel",
    "--group=service",
]
TEST = [*RUN, "--extra=pydantic-ai", "--group=dev", "--constraint=requirements/run.txt"]
# Not bound to run.txt: LiteLLM wants an older rich than the service.
BENCH = [*(option for option in RUN if option not in ("--extra=local", "--extra=documents")), "--group=bench"]
# Installed beside either of the first two.
DOCS = ["--group=docs", "--constraint=requirements/test.txt"]
FILES = {"run": RUN, "test": TEST, "docs": DOCS, "bench": BENCH}
# No index, no path: the files are the same wherever they were compiled.
OPTIONS = ["--quiet", "--universal", "--python-version=3.12", "--generate-hashes", "--no-header", "--no-annotate"]


def header() -> str:
    """Return the first line of each file, which changes with what it was compiled from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    source = [
        project["project"]["dependencies"],
        project["project"]["optional-dependencies"],
        project["dependency-groups"],
        FILES,
    ]
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
    return f"# make requirements: from pyproject.toml's dependencies {digest[:16]}\n"


def path(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def compile_all(options: list[str]) -> None:
    for name, choice in FILES.items():
        output = path(name)
        command = ["uv", "pip", "compile", *OPTIONS, *choice, *options, "pyproject.toml", "-o", str(output)]
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True)  # noqa: S603  # this file's own words
        output.write_text(header() + output.read_text())


def check() -> int:
    stale = [path(name).name for name in FILES if not path(name).read_text().startswith(header())]
    if stale:
        sys.stderr.write(f"{' and '.join(stale)} not compiled from pyproject.toml as it is: make requirements.\n")
    return len(stale)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["compile", *options]:
            compile_all(options)
        case ["check"]:
            sys.exit(bool(check()))
        case _:
            sys.exit(__doc__)
