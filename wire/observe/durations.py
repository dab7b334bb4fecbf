"""How long something took, in words."""


def spoken(seconds: float) -> str:
    """Say how long something took, to three digits."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms" if seconds >= 0.000001 else "0 ms"
    if seconds < 119.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
