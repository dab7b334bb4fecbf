"""The base of the views of batches, and the parameters that they share."""

from typing import Any

from django.db import transaction
from django.utils.decorators import method_decorator
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from batching.background import embedded
from batching.conf import get_settings
from batching.errors import NestedBatch, NotFound
from batching.models import Batch
from batching.run import dispatch
from wire.api.parsers import StrictJSONParser
from wire.api.views import JSONView


class BatchParser(StrictJSONParser):
    """Parses strict JSON of at most BATCH_MAX_BYTES."""

    def max_bytes(self) -> int:
        return get_settings().BATCH_MAX_BYTES


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class BatchingView(JSONView):
    """Base view of the app in any project: strict JSON in, JSON out, and no batch within a batch.

    It is outside the project's transactions, so that an error of the database still becomes a response.
    """

    parser_classes = [BatchParser]
    # The scopes that a token needs where the project checks them, under the name that django-oauth-toolkit uses.
    required_scopes = ["batches"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Here the path is resolved, however it was spelt or changed by middleware.
        if dispatch.inside_item.get():
            raise NestedBatch
        super().initial(request, *args, **kwargs)
        # A server without a lifespan starts its worker here.
        embedded.start()


def get_batch(request: Request, batch_id: str) -> Batch:
    """Return one of the caller's batches. Raises `NotFound`."""
    rows = Batch.objects.for_caller(request.user).filter(pk=batch_id)
    rows.abandoned().interrupt()
    if batch := rows.first():
        return batch
    raise NotFound


def number(request: Request, name: str) -> int | None:
    """Return a parameter of the query that has to be a whole number. Raises `ValidationError`."""
    value = request.query_params.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise ValidationError({name: ["This has to be a whole number."]})
    return int(value)
