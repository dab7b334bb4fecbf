import pytest

from assistant.tools import toolbox


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(toolbox, "REGISTRY", dict(toolbox.REGISTRY))
