"""Programs that a test requires: if one is missing the test is skipped, in CI it fails."""

import os
import shutil


def require_program(program: str, package: str | None = None) -> str:
    """Return the program's path; `package` is the system package it comes in, where that is named otherwise."""
    if path := shutil.which(program):
        return path
    import pytest  # the benchmarks, which start the same servers, have none

    reason = f"{program} isn't installed (apt-get install {package or program})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
