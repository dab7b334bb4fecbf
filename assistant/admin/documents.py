"""Documents in the admin: add them, and look up the hits of a query."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import AdminForm
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from assistant.admin.forms import AddDocumentsForm
from assistant.admin.lookup import LookupResult, run_lookup
from assistant.models import Document
from assistant.search import uploads
from assistant.search.query import MAX_QUERY_CHARS
from wire.conf import body_max_bytes

# The size of a form beside its files: its other fields, and the headers of its parts.
FORM_BYTES = 65_536


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    """The documents that agents search, with forms to add and to search them."""

    list_display = ["name", "source", "updated_at"]
    search_fields = ["title", "source"]
    show_full_result_count = False

    class Media:
        css = {"all": ["assistant/admin.css"]}

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]  # a list of both in truth
        lookup = self.admin_site.admin_view(self.lookup_view)
        return [path("lookup/", lookup, name="assistant_document_lookup"), *super().get_urls()]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        max_bytes = body_max_bytes() - FORM_BYTES
        if request.method == "POST":
            form = AddDocumentsForm(request.POST, request.FILES, max_bytes=max_bytes)
            if form.is_valid() and (summary := self.store(request, form)):
                self.message_user(request, f"Added {describe_summary(summary)}.", messages.SUCCESS)
                return HttpResponseRedirect(reverse("admin:assistant_document_changelist"))
        else:
            form = AddDocumentsForm(max_bytes=max_bytes)
        adminform = AdminForm(form, form.FIELDSETS, {}, model_admin=self)  # type: ignore[arg-type]  # any form works
        context = {**self.page_context(request, "Add documents"), "adminform": adminform, "form": form}
        return TemplateResponse(request, "admin/assistant/document/add.html", context)

    def store(self, request: HttpRequest, form: AddDocumentsForm) -> uploads.UploadSummary | None:
        try:
            summary = form.store()
        except uploads.UploadError as error:
            form.add_error(None, ValidationError(error.messages))
            return None
        names = ", ".join(file.name or "" for file in form.cleaned_data["uploaded"]) or form.cleaned_data["title"]
        LogEntry.objects.create(
            user=request.user,  # type: ignore[misc]  # only signed-in users reach this
            content_type=ContentType.objects.get_for_model(Document),
            object_repr=names[:200],
            action_flag=ADDITION,
            change_message=f"Added {describe_summary(summary)}.",
        )
        return summary

    def lookup_view(self, request: HttpRequest) -> TemplateResponse:
        """Show the hits of a query and why they match."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        query = request.GET.get("q", "").strip()
        context = {**self.page_context(request, "Test a query"), "query": query, "most_chars": MAX_QUERY_CHARS}
        try:
            lookup: LookupResult | None = run_lookup(query) if query else None
            context |= {"lookup": lookup, "may_change": self.has_change_permission(request)}
        except ImproperlyConfigured as error:
            context["fault"] = str(error)
        return TemplateResponse(request, "admin/assistant/document/lookup.html", context)

    def page_context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        """Return the context of a page beside the admin's own."""
        return {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "media": self.media}

    @admin.display(description="title", ordering="title")
    def name(self, document: Document) -> SafeString:
        return format_html("<bdi>{}</bdi>", document.title)


def describe_summary(summary: uploads.UploadSummary) -> str:
    cut = f" as {summary.passages:,} passages" if summary.passages > summary.documents else ""
    replaced = f", {summary.replaced:,} of them replaced" if summary.replaced else ""
    return f"{summary.documents:,} document{'s' * (summary.documents != 1)}{cut}{replaced}"
