"""The admin: batches to watch, to inspect and to operate, and what became of each of their items."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, get_script_prefix, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from batching.api import progress
from batching.background import accept, celery, embedded, queue
from batching.conf import get_settings
from batching.errors import BatchError
from batching.inspection import curl, export
from batching.inspection.dates import DatedBatches
from batching.inspection.inspection import PAGE_ROOM, Choice, Inspection, choice_of, mark_of_batch
from batching.inspection.live import SOCKET, live
from batching.inspection.overview import Overview
from batching.items.request_factory import factory_of
from batching.models import Batch, BatchItem, Webhook
from batching.records.masking import masked_address
from wire.admin import ReadOnly
from wire.asgi.threads import give_connections_back
from wire.observe.durations import spoken
from wire.observe.request_id import request_id

__all__ = ["BatchAdmin"]

# What may be done beside viewing: cancelling and retrying; reading what was asked and answered.
OPERATE, READ = "batching.operate_batch", "batching.view_batchitem"

# Finding a path may read every item; it stops at so many batches.
MOST_FOUND = 1_000
MOST_RETRIES = 10

PAGE = "admin:batching_batch_change"


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failures", "with failed items"), ("successes", "all items succeeded")]

    def queryset(self, request: HttpRequest, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        match self.value():
            case "failures":
                return batches.filter(failed__gt=0)
            case "successes":
                return batches.filter(failed=0, status=Batch.Status.COMPLETED)
        return batches


class DurationFilter(admin.SimpleListFilter):
    title = "total time"
    parameter_name = "seconds"
    choice_seconds = ("1", "5", "30")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(seconds, f"{seconds} s and longer") for seconds in self.choice_seconds]

    def queryset(self, request: HttpRequest, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        seconds = self.value()
        return batches.filter(duration__gte=seconds) if seconds in self.choice_seconds else batches


class CallerFilter(admin.SimpleListFilter):
    """No list of the owners: there may be as many as there are users."""

    title = "caller"
    parameter_name = "caller"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("signed-in", "signed in"), ("anonymous", "anonymous")]

    def queryset(self, request: HttpRequest, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        match self.value():
            case "signed-in":
                return batches.filter(owner__isnull=False)
            case "anonymous":
                return batches.filter(owner=None)
        return batches


CALL = (
    "The call",
    {
        "classes": ("collapse",),
        "fields": (("request_id", "client_address"), ("idempotency_key", "lease_expires_at")),
    },
)
TIMES = ("total_time", "slowest_item", "when", "ended")
IN_A_REQUEST = ((None, {"fields": (("state", "caller_name"), ("item_count", "successes", "failures"), TIMES)}), CALL)
# Its state and counts are shown as they change.
IN_THE_BACKGROUND = ((None, {"fields": (("caller_name", "priority", "retried", "retries"), TIMES, "told")}), CALL)


@admin.register(Batch)
class BatchAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # it can't be subscripted at run time
    """Batches and their items, to read, and to cancel or retry."""

    list_display = ("when", "state", "caller_name", "item_count", "failures", "slowest_item", "total_time", "id")
    list_display_links = ("when", "id")
    list_filter = ("status", OutcomeFilter, DurationFilter, CallerFilter)
    list_per_page = 50
    date_hierarchy = "created_at"
    search_fields = ("id",)  # that there is a search; get_search_results says what for
    search_help_text = (
        "The id of a batch, or how it begins; an X-Request-ID; an owner's name; or a part of an item's path. "
        f"Finds the newest {MOST_FOUND:,}."
    )
    show_full_result_count = False

    class Media:
        css = {"all": ("batching/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        # A join instead would have SQLite read the batches in the order of their owners: 2 s for a sort of 100,000.
        return DatedBatches(Batch).prefetch_related("owner")

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the items instead of reading and listing them: a batch may have very many."""
        batches = list(objs)
        lines = [f"{batch} and its {batch.total} items" for batch in batches]
        counts = {"batches": len(batches), "items": sum(batch.total for batch in batches)}
        lacking = set() if self.has_delete_permission(request) else {str(self.opts.verbose_name)}
        return lines, counts, lacking, []

    def get_search_results(
        self, request: HttpRequest, batches: QuerySet[Batch], term: str
    ) -> tuple[QuerySet[Batch], bool]:
        """Look for what has this name; if nothing has, for paths that contain it."""
        term = term.strip()
        if not term:
            return batches, False
        named = Q(pk__startswith=term) | Q(request_id=term) | Q(owner__in=named_users(term))
        paths = BatchItem.objects.filter(batch=OuterRef("pk"), path__icontains=term)
        # Looked up here, once: the page counts what is found and then reads it.
        found = newest(batches.filter(named)) or newest(batches.filter(Exists(paths)))
        return batches.filter(pk__in=found), False

    def get_fieldsets(self, request: HttpRequest, obj: Batch | None = None) -> Any:
        return IN_THE_BACKGROUND if obj and obj.is_background else IN_A_REQUEST

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        batch, choice, bodies = context["original"], choice_of(request.GET), request.user.has_perm(READ)
        context |= {
            "choice": choice,
            "overview": Overview(batch, choice),
            "inspection": Inspection(batch, choice, bodies=bodies),
            "may_read": bodies,
            "may_operate": request.user.has_perm(OPERATE),
        }
        if batch.is_background:
            context |= {"live": live(batch), "socket": f"{get_script_prefix()}{SOCKET}{batch.pk}"}
        return super().render_change_form(request, context, *args, **kwargs)

    # The pages of one batch beside the admin's own.

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]  # a list of both in truth
        def own(name: str, route: str, view: Callable[..., HttpResponseBase]) -> URLPattern:
            return path(f"<slug:batch_id>/{route}", self.admin_site.admin_view(view), name=f"batching_batch_{name}")

        return [
            own("progress", "progress/", self.progress_view),
            own("item", "items/<int:position>/", self.item_view),
            own("cancel", "cancel/", self.cancel_view),
            own("retry", "retry/", self.retry_view),
            own("download", "download.<str:kind>", self.download_view),
            *super().get_urls(),
        ]

    def found(self, request: HttpRequest, batch_id: str, *permissions: str) -> Batch:
        """Return a batch to who may view it and has these permissions. Raises `PermissionDenied` and `Http404`."""
        if not self.has_view_permission(request) or not request.user.has_perms(permissions):
            raise PermissionDenied
        batch: Batch = get_object_or_404(self.get_queryset(request), pk=batch_id)
        return batch

    def progress_view(self, request: HttpRequest, batch_id: str) -> JsonResponse:
        """Tell how far a batch is, for pages that have no WebSocket."""
        return JsonResponse(live(self.found(request, batch_id)).represent())

    def item_view(self, request: HttpRequest, batch_id: str, position: int) -> TemplateResponse:
        batch = self.found(request, batch_id, READ)
        inspection = Inspection(batch, Choice(first=position, last=position), most_room=PAGE_ROOM)
        if not inspection.rows:
            raise Http404
        item = inspection.items[0]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Item {item}",
            "opts": self.opts,
            "original": batch,
            "inspection": inspection,
            "row": inspection.rows[0],
            "command": curl.command(item, f"{request.scheme}://{request.get_host()}"),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/batching/batch/item_page.html", context)

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, batch_id: str) -> HttpResponseRedirect:
        batch = self.found(request, batch_id, OPERATE)
        if batch.is_cancellable:
            queue.cancel(batch)
            self.log_change(request, batch, "Cancelled.")
            self.message_user(request, "Cancelled: nothing more of this batch starts.", messages.SUCCESS)
        else:
            self.message_user(request, "There was nothing to cancel.", messages.WARNING)
        return HttpResponseRedirect(page_of(batch))

    @method_decorator(require_POST)
    @transaction.non_atomic_requests
    def retry_view(self, request: HttpRequest, batch_id: str) -> HttpResponseRedirect:
        """Run what failed again, as its own caller: whoever may operate batches lends them no permission of theirs."""
        parent = self.found(request, batch_id, OPERATE)
        current = request_id.get()
        try:
            batch = accept.again(parent, request_id="" if current == "-" else current, settings=get_settings())
        except BatchError as error:
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(page_of(parent))
        embedded.wake()
        celery.call_for(batch)
        self.log_change(request, parent, f"Retried as {batch}.")
        self.log_addition(request, batch, f"Retries {parent}.")
        self.message_user(request, f"This batch retries {parent}.", messages.SUCCESS)
        return HttpResponseRedirect(page_of(batch))

    @method_decorator(require_POST)
    def download_view(self, request: HttpRequest, batch_id: str, kind: str) -> HttpResponseBase:
        batch = self.found(request, batch_id, READ)
        if kind not in export.FORMATS:
            raise Http404
        media_type, parts = export.FORMATS[kind]
        self.log_change(request, batch, f"Downloaded as {kind.upper()}.")
        give_connections_back()
        response = progress.response(parts(batch.pk), media_type, in_server=factory_of(request).in_server)
        response.headers["Content-Disposition"] = f'attachment; filename="{batch.pk}.{kind}"'
        return response

    @admin.display(ordering="status")
    def state(self, batch: Batch) -> SafeString:
        mark = mark_of_batch(batch)
        return format_html('<span class="batching-mark batching-{}">{}</span>', mark.tone, mark.label)

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
        return "-" if batch.slowest is None else spoken(batch.slowest)

    @admin.display(description="retries of it")
    def retries(self, batch: Batch) -> SafeString | str:
        links = ((page_of(one), one) for one in batch.retries.only("pk").order_by("-created_at")[:MOST_RETRIES])
        return format_html_join(", ", '<a href="{}">{}</a>', links) or "-"

    @admin.display(description="retry of")
    def retried(self, batch: Batch) -> SafeString | str:
        if batch.parent_id is None:
            return "-"
        return format_html('<a href="{}">{}</a>', reverse(PAGE, args=[quote(batch.parent_id)]), batch.parent_id)

    @admin.display(ordering="duration")
    def total_time(self, batch: Batch) -> str:
        return "-" if batch.duration is None else spoken(batch.duration)

    @admin.display(description="webhook")
    def told(self, batch: Batch) -> str:
        webhook = Webhook.objects.filter(batch=batch).first()
        if webhook is None:
            return "-"
        tried = f"{webhook.state}, {webhook.attempts} attempts: {masked_address(webhook.url)}"
        return f"{tried} ({webhook.error})" if webhook.error else tried

    @admin.display(description="created at", ordering="created_at")
    def when(self, batch: Batch) -> SafeString:
        return moment(batch.created_at)

    @admin.display(description="finished at")
    def ended(self, batch: Batch) -> SafeString | str:
        return moment(batch.finished_at) if batch.finished_at else "-"


def page_of(batch: Batch) -> str:
    return reverse(PAGE, args=[quote(batch.pk)])


def moment(of: datetime) -> SafeString:
    """Return a moment to the second in the current time zone."""
    return format_html('<span class="batching-moment">{}</span>', timezone.localtime(of).strftime("%Y-%m-%d %H:%M:%S"))


def named_users(term: str) -> QuerySet[Any]:
    users = get_user_model()
    return users._default_manager.filter(**{users.USERNAME_FIELD: term}).values("pk")


def newest(batches: QuerySet[Batch]) -> list[str]:
    return list(batches.order_by("-created_at", "-pk").values_list("pk", flat=True)[:MOST_FOUND])
