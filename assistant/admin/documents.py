"""Documents in the admin: added, and what a query finds of them."""

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

from assistant.admin.forms import AddForm
from assistant.admin.lookup import Lookup, look_up
from assistant.models import Document
from assistant.search import uploads
from assistant.search.query import MAX_QUERY_CHARS
from wire.conf import read
from wire.server.limits import ServerLimits

# What a form has beside its files: its other fields, and the parts' headers.
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
        most_bytes = read(ServerLimits).body(request.path) - FORM_BYTES
        if request.method == "POST":
            form = AddForm(request.POST, request.FILES, most_bytes=most_bytes)
            if form.is_valid() and (stored := self.stored(request, form)):
                self.message_user(request, f"Added {spoken(stored)}.", messages.SUCCESS)
                return HttpResponseRedirect(reverse("admin:assistant_document_changelist"))
        else:
            form = AddForm(most_bytes=most_bytes)
        adminform = AdminForm(form, form.FIELDSETS, {}, model_admin=self)  # type: ignore[arg-type]  # any form will do
        context = {**self.page(request, "Add documents"), "adminform": adminform, "form": form}
        return TemplateResponse(request, "admin/assistant/document/add.html", context)

    def stored(self, request: HttpRequest, form: AddForm) -> uploads.Stored | None:
        try:
            stored = form.put()
        except uploads.Refused as refused:
            form.add_error(None, ValidationError(refused.shown))
            return None
        names = ", ".join(file.name or "" for file in form.cleaned_data["uploaded"]) or form.cleaned_data["title"]
        LogEntry.objects.create(
            user=request.user,  # type: ignore[misc]  # who comes here has signed in
            content_type=ContentType.objects.get_for_model(Document),
            object_repr=names[:200],
            action_flag=ADDITION,
            change_message=f"Added {spoken(stored)}.",
        )
        return stored

    def lookup_view(self, request: HttpRequest) -> TemplateResponse:
        """Show what a query finds and why."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        query = request.GET.get("q", "").strip()
        context = {**self.page(request, "What a query finds"), "query": query, "most_chars": MAX_QUERY_CHARS}
        try:
            lookup: Lookup | None = look_up(query) if query else None
            context |= {"lookup": lookup, "may_change": self.has_change_permission(request)}
        except ImproperlyConfigured as error:
            context["fault"] = str(error)
        return TemplateResponse(request, "admin/assistant/document/lookup.html", context)

    def page(self, request: HttpRequest, title: str) -> dict[str, Any]:
        """Return what a page beside the admin's own needs."""
        return {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "media": self.media}

    @admin.display(description="title", ordering="title")
    def name(self, document: Document) -> SafeString:
        return format_html("<bdi>{}</bdi>", document.title)


def spoken(stored: uploads.Stored) -> str:
    cut = f" as {stored.passages:,} passages" if stored.passages > stored.documents else ""
    replaced = f", {stored.replaced:,} in place of what was there" if stored.replaced else ""
    return f"{stored.documents:,} document{'s' * (stored.documents != 1)}{cut}{replaced}"
