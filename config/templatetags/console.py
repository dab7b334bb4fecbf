"""How the admin's front page says seconds."""

from datetime import datetime

from django import template

from wire.observe.durations import format_duration

register = template.Library()


@register.filter
def seconds(number: float | None) -> str:
    return "-" if number is None else format_duration(number)


@register.filter
def until(begin: datetime, end: datetime) -> str:
    """Say how long it was from one moment to another."""
    return format_duration(max((end - begin).total_seconds(), 0.0))
