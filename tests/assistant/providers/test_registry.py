"""A project's own models."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from assistant.providers.registry import get_model


class House:
    def __init__(self, name: str) -> None:
        self.name = name


def test_a_projects_own_class_makes_the_model(settings: Any) -> None:
    settings.ASSISTANT_PROVIDERS = {"house": f"{__name__}.House"}
    model = get_model("house:orders")
    assert isinstance(model, House)
    assert model.name == "orders"


def test_a_class_that_is_not_there_is_named(settings: Any) -> None:
    settings.ASSISTANT_PROVIDERS = {"gone": "nowhere.Model"}
    with pytest.raises(
        ImproperlyConfigured, match=r"ASSISTANT_PROVIDERS names nowhere\.Model, which can't be imported"
    ):
        get_model("gone:orders")
