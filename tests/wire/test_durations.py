"""Durations in words."""

import pytest

from wire.observe.durations import format_duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.0000123, "0.0123 ms"),
        (0.0421, "42.1 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (12.345, "12.3 s"),
        (119.6, "2 min"),
        (250, "4 min 10 s"),
        (7_260, "2 h 1 min"),
    ],
)
def test_a_duration_is_said_to_three_digits(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said
