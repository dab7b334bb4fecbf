"""Look up known weaknesses of the packages in requirements/run.txt; without a network that is left out, and said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ["pip_audit", "--requirement=requirements/run.txt", "--require-hashes", "--disable-pip", "--format=json"]
SECONDS = "5"


def report() -> list[dict[str, Any]]:
    """Return pip-audit's findings by package; nothing if it reached no database."""
    command = [sys.executable, "-m", *COMMAND, "--progress-spinner=off", f"--timeout={SECONDS}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603  # its own words
    try:
        packages: list[dict[str, Any]] = json.loads(said.stdout)["dependencies"]
    except ValueError:
        return []
    return [package for package in packages if "vulns" in package]


def weaknesses(packages: list[dict[str, Any]]) -> list[str]:
    return [
        f"{package['name']} {package['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}"
        for package in packages
        for found in package["vulns"]
    ]


if __name__ == "__main__":
    audited = report()
    found = weaknesses(audited)
    count = f"{len(audited)} packages audited." if audited else "Not audited: the database is out of reach."
    said = [*found, count]
    sys.stdout.write("\n".join(said) + "\n")
    sys.exit(bool(found))
