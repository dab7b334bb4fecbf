"""The admin: batches to inspect, and what became of each of their items."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from batching.inspection import Inspection, mark_of_batch
from batching.masking import masked_address
from batching.models import Batch, BatchItem, Webhook
from batching.periods import DatedBatches
from batching.waterfall import spoken

# Finding a path may read every item; it stops at so many batches.
MOST_FOUND = 1_000


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


@admin.register(Batch)
class BatchAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # it can't be subscripted at run time
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
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("state", "caller_name"),
                    ("item_count", "successes", "failures"),
                    ("total_time", "slowest_item", "when", "ended"),
                )
            },
        ),
        (
            "The call",
            {
                "classes": ("collapse",),
                "fields": (("request_id", "client_address"), ("idempotency_key", "lease_expires_at"), "told"),
            },
        ),
    )

    class Media:
        css = {"all": ("batching/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        # A join instead would have SQLite read the batches in the order of their owners: 2 s for a sort of 100,000.
        return DatedBatches(Batch).prefetch_related("owner")

    # What is recorded is read, not edited. Whoever may delete batches still may: else no user who has some could be.

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Batch | None = None) -> bool:
        return False

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

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        first = request.GET.get("first", "")
        batch = context["original"]
        context["inspection"] = Inspection(batch, int(first) if first.isdecimal() and len(first) < 9 else 0)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(ordering="status")
    def state(self, batch: Batch) -> SafeString:
        mark = mark_of_batch(batch)
        return format_html('<span class="batching-mark batching-{}">{}</span>', mark.tone, mark.label)

    @admin.display(description="owner", ordering="owner_id")
    def caller_name(self, batch: Batch) -> SafeString | str:
        return format_html("<bdi>{}</bdi>", batch.owner) if batch.owner else "anonymous"

    @admin.display(description="items", ordering="total")
    def item_count(self, batch: Batch) -> int:
        return batch.total

    @admin.display(description="succeeded")
    def successes(self, batch: Batch) -> int:
        return batch.succeeded

    @admin.display(description="failed", ordering="failed")
    def failures(self, batch: Batch) -> SafeString | int:
        return format_html('<span class="batching-failed">{}</span>', batch.failed) if batch.failed else 0

    @admin.display(description="slowest", ordering="slowest")
    def slowest_item(self, batch: Batch) -> str:
        return "-" if batch.slowest is None else spoken(batch.slowest)

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


def moment(of: datetime) -> SafeString:
    """Return a moment to the second in the current time zone."""
    return format_html('<span class="batching-moment">{}</span>', timezone.localtime(of).strftime("%Y-%m-%d %H:%M:%S"))


def named_users(term: str) -> QuerySet[Any]:
    users = get_user_model()
    return users._default_manager.filter(**{users.USERNAME_FIELD: term}).values("pk")


def newest(batches: QuerySet[Batch]) -> list[str]:
    return list(batches.order_by("-created_at", "-pk").values_list("pk", flat=True)[:MOST_FOUND])
