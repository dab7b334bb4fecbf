"""What a test needs of the machine: without it the test is skipped, but in CI that is a failure."""

import os
import shutil


def needs(program: str, package: str | None = None) -> str:
    """Return the program's path; `package` is the system package it comes in, where that is named otherwise."""
    if path := shutil.which(program):
        return path
    import pytest  # the benchmarks, which start the same servers, have none

    reason = f"{program} isn't installed (apt-get install {package or program})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
