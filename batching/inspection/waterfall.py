"""Bars that show when items waited and ran, on one scale of time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wire.observe.durations import format_duration

MAX_TICKS = 5
# Seconds between two ticks: 1, 2 or 5 of a decimal unit, and fractions of an hour.
STEPS = (
    *(factor * 10.0**power for power in (-4, -3, -2, -1) for factor in (1, 2, 5)),
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0),
    *(3600.0, 7200.0, 21_600.0, 43_200.0, 86_400.0),
)
# In per cent of the scale; a narrower segment is invisible.
MIN_WIDTH = 0.3


@dataclass(frozen=True, slots=True)
class Interval:
    """The times of an item, in seconds since the scale's start; `started` is None if it never ran."""

    queued: float
    started: float | None
    finished: float

    @property
    def wait_time(self) -> float:
        return max((self.finished if self.started is None else self.started) - self.queued, 0.0)

    @property
    def run_time(self) -> float | None:
        return None if self.started is None else max(self.finished - self.started, 0.0)


@dataclass(frozen=True, slots=True)
class BarSegment:
    """A segment of a bar. `x` and `width` are percentages for SVG, independent of the language."""

    x: str
    width: str


@dataclass(frozen=True, slots=True)
class Bar:
    interval: Interval
    waiting: BarSegment | None
    running: BarSegment | None


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick of the scale; `anchor` is the SVG text-anchor that keeps its label inside."""

    x: str
    label: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale of time from 0 to `length` seconds, above 0."""

    length: float

    def bar(self, interval: Interval) -> Bar:
        start = interval.finished if interval.started is None else interval.started
        waiting = self.segment(interval.queued, start) if interval.started is None or interval.wait_time else None
        return Bar(interval, waiting, None if interval.started is None else self.segment(start, interval.finished))

    def segment(self, start: float, end: float) -> BarSegment:
        """Return the segment between two moments, clipped to the scale and wide enough to be visible."""
        left, right = self.percent(start), self.percent(end)
        left = min(left, 100 - MIN_WIDTH)
        return BarSegment(format_percent(left), format_percent(max(right - left, MIN_WIDTH)))

    def percent(self, seconds: float) -> float:
        return min(max(seconds / self.length, 0.0), 1.0) * 100

    def ticks(self) -> list[Tick]:
        step = next((step for step in STEPS if self.length / step <= MAX_TICKS), STEPS[-1])
        step *= math.ceil(self.length / step / MAX_TICKS)
        return [self.tick(step * number) for number in range(math.floor(self.length / step + 1e-9) + 1)]

    def tick(self, seconds: float) -> Tick:
        x = self.percent(seconds)
        return Tick(
            format_percent(x),
            format_duration(seconds) if seconds else "0",
            "start" if x < 3 else "end" if x > 97 else "middle",
        )


def fit_scale(intervals: Sequence[Interval], length: float = 0.0) -> Scale:
    """Return a scale that contains all intervals and is at least `length` seconds long."""
    return Scale(max([length, 0.001, *(interval.finished for interval in intervals)]))


def format_percent(number: float) -> str:
    return f"{number:.3f}%"
