"""What the views of batches share: strict JSON in, JSON out, and what a request says outside its body."""

from typing import Any

from django.db import transaction
from django.utils.decorators import method_decorator
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from batching.background import embedded
from batching.conf import BatchingSettings, get_settings
from batching.errors import NestedBatch, NotFound
from batching.items.parse import Rules
from batching.items.request_factory import RequestFactory
from batching.models import Batch
from batching.run import dispatch
from wire.api.rest import StrictJSONParser
from wire.api.views import JSONView


class BatchParser(StrictJSONParser):
    """At most BATCH_MAX_BYTES of strict JSON."""

    def max_bytes(self) -> int:
        return get_settings().BATCH_MAX_BYTES


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class BatchingView(JSONView):
    """What the app's views share, in any project: strict JSON in, JSON out, and no batch within a batch.

    They are outside of the project's transactions: what fails in one, fails where an error still becomes an answer.
    """

    parser_classes = [BatchParser]
    # What a key or a token whose scopes the project looks at has to have, as django-oauth-toolkit names it.
    required_scopes = ["batches"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Here the path has been resolved, however it was spelt and whatever middleware made of it.
        if dispatch.inside_item.get():
            raise NestedBatch
        super().initial(request, *args, **kwargs)
        # A server that has no lifespan goes on here with what it was working on when it ended.
        embedded.start()


def found(request: Request, batch_id: str) -> Batch:
    """Return a batch of the caller's. Raises `NotFound`."""
    mine = Batch.objects.for_caller(request.user).filter(pk=batch_id)
    mine.abandoned().interrupt()
    if batch := mine.first():
        return batch
    raise NotFound


def rules_of(settings: BatchingSettings, origin: RequestFactory, max_size: int) -> Rules:
    return Rules(max_size=max_size, allowed=settings.BATCH_ALLOWED_PATHS, script_name=origin.script_name)


def number(request: Request, name: str) -> int | None:
    """Return a whole number of the query, None where it says nothing. Raises `ValidationError`."""
    said = request.query_params.get(name)
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 10):
        raise ValidationError({name: ["This has to be a whole number."]})
    return int(said)
