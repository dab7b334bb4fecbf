"""The tokens that a user or an API key may use in a month."""

import math
from datetime import UTC, datetime, time, timedelta

from django.db.models import F
from django.utils import timezone

from assistant.conf import get_settings
from assistant.errors import TokensSpent
from assistant.models import APIKey, MonthlyUsage
from assistant.models.usage import month_of
from wire.api.callers import Caller


def refuse_spent(caller: Caller, key: APIKey | None) -> None:
    """Raise `TokensSpent` where a user or the user's key has none left; an anonymous caller has no allowance.

    An answer is counted when it ends: one that runs when the last token is used runs on.
    """
    if not caller.is_authenticated:
        return
    keys, own = key.tokens_per_month if key else None, user_allowance(caller)
    if keys is None and own is None:
        return
    now = timezone.now()
    usage = MonthlyUsage.objects.filter(user=caller.pk, month=month_of(now))
    used = dict(usage.values_list("api_key", F("input_tokens") + F("output_tokens")))
    if key and keys is not None and used.get(key.pk, 0) >= keys:
        raise tokens_spent("This API key has", keys, now)
    if own is not None and sum(used.values()) >= own:
        raise tokens_spent("You have", own, now)


def user_allowance(caller: Caller) -> int | None:
    """Return a user's tokens of a month. They are loaded with an API key's user, and queried for a session's."""
    allowance = getattr(caller, "token_allowance", None)
    return allowance.tokens_per_month if allowance else get_settings().USER_TOKENS_PER_MONTH


def tokens_spent(who: str, limit: int, now: datetime) -> TokensSpent:
    renewal = renewal_after(now)
    sentence = f"{who} used the {limit:,} tokens of this month; there are new ones from {renewal:%Y-%m-%d} on (UTC)."
    return TokensSpent(sentence, retry_after=math.ceil((renewal - now).total_seconds()))


def renewal_after(moment: datetime) -> datetime:
    """Return when the next month begins, in UTC."""
    next_month = (month_of(moment) + timedelta(days=31)).replace(day=1)
    return datetime.combine(next_month, time(), UTC)
