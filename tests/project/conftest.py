"""What several modules here share."""

from collections.abc import Iterator

import pytest

from tests.processes import Served, prepared, serving


@pytest.fixture(scope="session")
def real() -> Iterator[Served]:
    """The service with its real model and its documents, as `make run` starts it."""
    with serving(prepared, ASSISTANT_MODEL="local:smollm2") as it:
        yield it
