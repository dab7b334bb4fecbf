"""Fields that take a value of their own type alone."""

from typing import Any

import pytest
from rest_framework import serializers

from assistant.api.serializers import StrictBooleanField, StrictCharField


class Body(serializers.Serializer[Any]):
    text = StrictCharField()
    flag = StrictBooleanField(required=False)


def errors(body: Any) -> list[str]:
    serializer = Body(data=body)
    serializer.is_valid()
    return list(serializer.errors)


@pytest.mark.parametrize("body", [{"text": 1}, {"text": True}, {"text": None}, {"text": []}, {"text": ""}, {}])
def test_only_a_string_is_a_string(body: Any) -> None:
    assert errors(body) == ["text"]


@pytest.mark.parametrize("flag", ["true", "yes", 1, 0, "", None, []])
def test_only_true_and_false_are_booleans(flag: Any) -> None:
    assert errors({"text": "a", "flag": flag}) == ["flag"]


@pytest.mark.parametrize("flag", [True, False])
def test_a_string_is_kept_to_the_letter(flag: bool) -> None:
    body = {"text": " a\n", "flag": flag}
    serializer = Body(data=body)
    assert serializer.is_valid()
    assert serializer.validated_data == body
