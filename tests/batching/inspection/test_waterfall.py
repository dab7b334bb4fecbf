"""Bars and ticks on a scale of time."""

import pytest

from batching.inspection.waterfall import BarSegment, Interval, Scale, fit_scale


def test_a_bar_waits_and_then_runs() -> None:
    bar = Scale(10).bar(Interval(queued=0, started=2.5, finished=10))
    assert bar.waiting == BarSegment("0.000%", "25.000%")
    assert bar.running == BarSegment("25.000%", "75.000%")


def test_a_bar_that_never_ran_only_waits() -> None:
    bar = Scale(10).bar(Interval(queued=0, started=None, finished=5))
    assert (bar.waiting, bar.running) == (BarSegment("0.000%", "50.000%"), None)


def test_a_bar_that_did_not_wait_only_runs() -> None:
    assert Scale(10).bar(Interval(queued=0, started=0, finished=5)).waiting is None


@pytest.mark.parametrize(
    "interval",
    [Interval(0, None, 0), Interval(10, 10, 10), Interval(0, 5, 4), Interval(-5, -3, 20), Interval(0, 9.999, 10)],
)
def test_a_bar_is_seen_and_stays_on_the_scale(interval: Interval) -> None:
    bar = Scale(10).bar(interval)
    segments = [segment for segment in (bar.waiting, bar.running) if segment]
    assert segments
    for segment in segments:
        x, width = float(segment.x[:-1]), float(segment.width[:-1])
        assert x >= 0
        assert width >= 0.3
        assert x + width <= 100.001


@pytest.mark.parametrize(
    ("length", "labels"),
    [
        (0.0021, ["0", "0.5 ms", "1 ms", "1.5 ms", "2 ms"]),
        (1, ["0", "200 ms", "400 ms", "600 ms", "800 ms", "1 s"]),
        (30, ["0", "10 s", "20 s", "30 s"]),
        (200, ["0", "60 s", "2 min", "3 min"]),
        (10 * 86_400, ["0", "48 h", "96 h", "144 h", "192 h", "240 h"]),
    ],
)
def test_a_scale_has_a_few_round_ticks(length: float, labels: list[str]) -> None:
    ticks = Scale(length).ticks()
    assert [tick.label for tick in ticks] == labels
    assert ticks[0].anchor == "start"


def test_a_scale_has_room_for_every_span() -> None:
    assert fit_scale([Interval(0, 1, 3), Interval(0, None, 7)], length=5).length == 7
    assert fit_scale([], length=5).length == 5
    assert fit_scale([Interval(0, 0, 0)]).length > 0
