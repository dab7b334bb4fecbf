"""Durations as text."""


def format_duration(seconds: float) -> str:
    """Return a duration to three digits: `1.23 s`, `2 min 5 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms" if seconds >= 0.000001 else "0 ms"
    if seconds < 119.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
