"""The admin of batches: watch, inspect, cancel, retry and download them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, get_script_prefix, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from batching.api import progress
from batching.background import acceptance, celery, embedded, queue
from batching.conf import get_settings
from batching.errors import BatchError
from batching.inspection import curl, export
from batching.inspection.badges import batch_badge
from batching.inspection.dates import DatedBatches
from batching.inspection.item_filter import ItemFilter, parse_filter
from batching.inspection.item_list import PAGE_CHARS, ItemList
from batching.inspection.list_filters import CallerFilter, DurationFilter, OutcomeFilter
from batching.inspection.live_progress import SOCKET, live_progress
from batching.inspection.overview import Overview
from batching.items.request_factory import is_asgi
from batching.models import Batch, BatchItem, Webhook
from batching.records.masking import mask_address
from wire.admin import ReadOnly, format_time, missing_permissions, users_named
from wire.asgi.threads import give_connections_back
from wire.observe.durations import format_duration
from wire.observe.request_id import request_id

__all__ = ["BatchAdmin"]

# Permissions beside viewing: cancel and retry batches; read requests and responses.
OPERATE_PERMISSION, READ_PERMISSION = "batching.operate_batch", "batching.view_batchitem"

# A search for a path may read every item; it stops at so many batches.
MAX_RESULTS = 1_000
MAX_RETRIES = 10

PAGE = "admin:batching_batch_change"

CANCELLED = "Cancelled: no more items of this batch start."


CALL_FIELDSET = (
    "The call",
    {
        "classes": ("collapse",),
        "fields": (("request_id", "client_address"), ("idempotency_key", "lease_expires_at")),
    },
)
TIME_FIELDS = ("total_time", "slowest_item", "when", "ended")
FIELDSETS = (
    (None, {"fields": (("state", "caller_name"), ("item_count", "successes", "failures"), TIME_FIELDS)}),
    CALL_FIELDSET,
)
# Its state and counts are shown as they change.
BACKGROUND_FIELDSETS = (
    (None, {"fields": (("caller_name", "priority", "retried", "retries"), TIME_FIELDS, "webhook_state")}),
    CALL_FIELDSET,
)


@admin.register(Batch)
class BatchAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # it can't be subscripted at run time
    """Batches and their items, to read, and to cancel or retry."""

    list_display = ("when", "state", "caller_name", "item_count", "failures", "slowest_item", "total_time", "id")
    list_display_links = ("when", "id")
    list_filter = ("status", OutcomeFilter, DurationFilter, CallerFilter)
    list_per_page = 50
    date_hierarchy = "created_at"
    search_fields = ("id",)  # enables the search; get_search_results implements it
    search_help_text = (
        "A batch's id or its beginning, an X-Request-ID, an owner's name, or a part of an item's path. "
        f"Finds the newest {MAX_RESULTS:,}."
    )
    show_full_result_count = False

    class Media:
        css = {"all": ("batching/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        # A join would have SQLite read the batches in the order of their owners: 2 s to sort 100,000.
        return DatedBatches(Batch).prefetch_related("owner")

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the items instead of reading and listing them: a batch may have very many."""
        batches = list(objs)
        lines = [f"{batch} and its {batch.total} items" for batch in batches]
        counts = {"batches": len(batches), "items": sum(batch.total for batch in batches)}
        return lines, counts, missing_permissions(self, request), []

    def get_search_results(
        self, request: HttpRequest, batches: QuerySet[Batch], term: str
    ) -> tuple[QuerySet[Batch], bool]:
        """Find batches by id, request id or owner; if there are none, by a part of an item's path."""
        term = term.strip()
        if not term:
            return batches, False
        named = Q(pk__startswith=term) | Q(request_id=term) | Q(owner__in=users_named(term))
        paths = BatchItem.objects.filter(batch=OuterRef("pk"), path__icontains=term)
        # Evaluated once: the page both counts and reads the results.
        get_batch = newest(batches.filter(named)) or newest(batches.filter(Exists(paths)))
        return batches.filter(pk__in=get_batch), False

    def get_fieldsets(self, request: HttpRequest, obj: Batch | None = None) -> Any:
        return BACKGROUND_FIELDSETS if obj and obj.is_background else FIELDSETS

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        batch, item_filter = context["original"], parse_filter(request.GET)
        may_read = request.user.has_perm(READ_PERMISSION)
        context |= {
            "item_filter": item_filter,
            "overview": Overview(batch, item_filter),
            "item_list": ItemList(batch, item_filter, bodies=may_read),
            "may_read": may_read,
            "may_operate": request.user.has_perm(OPERATE_PERMISSION),
        }
        if batch.is_background:
            context |= {"live": live_progress(batch), "socket": f"{get_script_prefix()}{SOCKET}{batch.pk}"}
        return super().render_change_form(request, context, *args, **kwargs)

    # Further pages of a batch.

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]  # a list of both in truth
        def route(name: str, route: str, view: Callable[..., HttpResponseBase]) -> URLPattern:
            return path(f"<slug:batch_id>/{route}", self.admin_site.admin_view(view), name=f"batching_batch_{name}")

        return [
            route("progress", "progress/", self.progress_view),
            route("item", "items/<int:position>/", self.item_view),
            route("cancel", "cancel/", self.cancel_view),
            route("retry", "retry/", self.retry_view),
            route("download", "download.<str:kind>", self.download_view),
            *super().get_urls(),
        ]

    def get_batch(self, request: HttpRequest, batch_id: str, *permissions: str) -> Batch:
        """Return a batch for a user with these permissions. Raises `PermissionDenied` and `Http404`."""
        if not self.has_view_permission(request) or not request.user.has_perms(permissions):
            raise PermissionDenied
        batch: Batch = get_object_or_404(self.get_queryset(request), pk=batch_id)
        return batch

    def progress_view(self, request: HttpRequest, batch_id: str) -> JsonResponse:
        """Return the progress of a batch, for pages without a WebSocket."""
        return JsonResponse(live_progress(self.get_batch(request, batch_id)).represent())

    def item_view(self, request: HttpRequest, batch_id: str, position: int) -> TemplateResponse:
        batch = self.get_batch(request, batch_id, READ_PERMISSION)
        item_list = ItemList(batch, ItemFilter(first=position, last=position), max_chars=PAGE_CHARS)
        if not item_list.rows:
            raise Http404
        item = item_list.items[0]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Item {item}",
            "opts": self.opts,
            "original": batch,
            "item_list": item_list,
            "row": item_list.rows[0],
            "command": curl.command(item, f"{request.scheme}://{request.get_host()}"),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/batching/batch/item_page.html", context)

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, batch_id: str) -> HttpResponseRedirect:
        batch = self.get_batch(request, batch_id, OPERATE_PERMISSION)
        if batch.is_cancellable:
            queue.cancel(batch)
            self.log_change(request, batch, "Cancelled.")
            self.message_user(request, CANCELLED, messages.SUCCESS)
        else:
            self.message_user(request, "Nothing to cancel: this batch has ended.", messages.WARNING)
        return HttpResponseRedirect(change_url(batch))

    @method_decorator(require_POST)
    @transaction.non_atomic_requests
    def retry_view(self, request: HttpRequest, batch_id: str) -> HttpResponseRedirect:
        """Retry failed items as the batch's caller, without the operator's permissions."""
        parent = self.get_batch(request, batch_id, OPERATE_PERMISSION)
        current = request_id.get()
        try:
            batch = acceptance.retry_as_owner(
                parent, request_id="" if current == "-" else current, settings=get_settings()
            )
        except BatchError as error:
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(change_url(parent))
        embedded.wake()
        celery.wake_for(batch)
        self.log_change(request, parent, f"Retried as {batch}.")
        self.log_addition(request, batch, f"Retries {parent}.")
        self.message_user(request, f"This batch retries {parent}.", messages.SUCCESS)
        return HttpResponseRedirect(change_url(batch))

    @method_decorator(require_POST)
    def download_view(self, request: HttpRequest, batch_id: str, kind: str) -> HttpResponseBase:
        batch = self.get_batch(request, batch_id, READ_PERMISSION)
        if kind not in export.FORMATS:
            raise Http404
        media_type, parts = export.FORMATS[kind]
        self.log_change(request, batch, f"Downloaded as {kind.upper()}.")
        give_connections_back()
        response = progress.response(parts(batch.pk), media_type, is_asgi=is_asgi(request))
        response.headers["Content-Disposition"] = f'attachment; filename="{batch.pk}.{kind}"'
        return response

    @admin.display(ordering="status")
    def state(self, batch: Batch) -> SafeString:
        badge = batch_badge(batch)
        return format_html('<span class="batching-mark batching-{}">{}</span>', badge.tone, badge.label)

    @admin.display(description="owner", ordering="owner_id")
    def caller_name(self, batch: Batch) -> SafeString | str:
        return format_html("<bdi>{}</bdi>", batch.owner) if batch.owner else "anonymous"

    @admin.display(description="items", ordering="total")
    def item_count(self, batch: Batch) -> str:
        is_open = batch.is_background and not batch.finished_at
        return f"{batch.total - batch.left:,} of {batch.total:,}" if is_open else f"{batch.total:,}"

    @admin.display(description="succeeded")
    def successes(self, batch: Batch) -> int:
        return batch.succeeded

    @admin.display(description="failed", ordering="failed")
    def failures(self, batch: Batch) -> SafeString | int:
        return format_html('<span class="batching-failed">{}</span>', batch.failed) if batch.failed else 0

    @admin.display(description="slowest", ordering="slowest")
    def slowest_item(self, batch: Batch) -> str:
        return "-" if batch.slowest is None else format_duration(batch.slowest)

    @admin.display(description="retries of it")
    def retries(self, batch: Batch) -> SafeString | str:
        links = ((change_url(one), one) for one in batch.retries.only("pk").order_by("-created_at")[:MAX_RETRIES])
        return format_html_join(", ", '<a href="{}">{}</a>', links) or "-"

    @admin.display(description="retry of")
    def retried(self, batch: Batch) -> SafeString | str:
        if batch.parent_id is None:
            return "-"
        return format_html('<a href="{}">{}</a>', reverse(PAGE, args=[quote(batch.parent_id)]), batch.parent_id)

    @admin.display(ordering="duration")
    def total_time(self, batch: Batch) -> str:
        return "-" if batch.duration is None else format_duration(batch.duration)

    @admin.display(description="webhook")
    def webhook_state(self, batch: Batch) -> str:
        webhook = Webhook.objects.filter(batch=batch).first()
        if webhook is None:
            return "-"
        tried = f"{webhook.state}, {webhook.attempts} attempts: {mask_address(webhook.url)}"
        return f"{tried} ({webhook.error})" if webhook.error else tried

    @admin.display(description="created at", ordering="created_at")
    def when(self, batch: Batch) -> SafeString:
        return show_time(batch.created_at)

    @admin.display(description="finished at")
    def ended(self, batch: Batch) -> SafeString | str:
        return show_time(batch.finished_at) if batch.finished_at else "-"


def change_url(batch: Batch) -> str:
    return reverse(PAGE, args=[quote(batch.pk)])


def show_time(moment: datetime) -> SafeString:
    return format_html('<span class="batching-moment">{}</span>', format_time(moment))


def newest(batches: QuerySet[Batch]) -> list[str]:
    return list(batches.order_by("-created_at", "-pk").values_list("pk", flat=True)[:MAX_RESULTS])
