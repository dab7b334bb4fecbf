"""API keys in the admin, and their usage. Only superusers see them."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import F, IntegerField, OuterRef, QuerySet, Subquery, Sum, Window
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from assistant.conf import get_settings
from assistant.models import Allowance, APIKey, MonthlyUsage
from assistant.models.usage import month_of
from wire.admin import ReadOnly

TOKENS = F("input_tokens") + F("output_tokens")


class SuperuserOnly:
    """Hides a model from all other users, regardless of their permissions."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.is_allowed(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.is_allowed(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.is_allowed(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.is_allowed(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.is_allowed(request)

    def is_allowed(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)


class APIKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        required=False,
        choices=APIKey.Scope,
        widget=forms.CheckboxSelectMultiple,
        help_text="What the key may call; with none ticked, everything.",
    )

    class Meta:
        model = APIKey
        fields = ["name", "user", "scopes", "requests_per_minute", "tokens_per_minute", "tokens_per_month"]

    def clean(self) -> dict[str, Any]:
        """Refuse a second key of a name, which a form that is sent twice would create."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        user = self.instance.user_id or cleaned.get("user")
        same = APIKey.objects.usable().filter(user=user, name=cleaned.get("name")).exclude(pk=self.instance.pk)
        if user and same.exists():
            raise ValidationError({"name": "This user already has a key with this name."})
        return cleaned


@admin.register(APIKey)
class APIKeyAdmin(SuperuserOnly, admin.ModelAdmin):
    """API keys: a new one is shown once, and revoked ones are kept."""

    form = APIKeyForm
    list_display = ["name", "hint", "user", "may_call", "spent", "tokens_per_month", "last_used_at", "state"]
    list_filter = ["revoked_at"]
    list_select_related = ["user"]
    search_fields = ["name", "hint"]
    raw_id_fields = ["user"]  # the user's admin may be missing, or have no search
    actions = ["revoke"]
    change_form_template = "admin/assistant/apikey/change_form.html"
    fieldsets = (
        (None, {"fields": ["name", "user"]}),
        ("Scopes", {"fields": ["scopes"]}),
        ("Limits", {"fields": ["requests_per_minute", "tokens_per_minute", "tokens_per_month"]}),
    )
    HISTORY = ("hint", "spent", "created_at", "last_used_at", "revoked_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        keys: QuerySet[APIKey] = super().get_queryset(request)
        used = MonthlyUsage.objects.filter(api_key=OuterRef("pk"), month=month_of(timezone.now()))
        return keys.annotate(spent=Subquery(used.values_list(TOKENS)[:1], output_field=IntegerField()))

    def get_fieldsets(self, request: HttpRequest, obj: APIKey | None = None) -> Any:
        return (*self.fieldsets, ("Usage", {"fields": self.HISTORY})) if obj else self.fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: APIKey | None = None) -> tuple[str, ...]:
        return ("user", *self.HISTORY) if obj else ()

    @admin.display(description="may call")
    def may_call(self, key: APIKey) -> str:
        return ", ".join(key.scopes) or "everything"

    @admin.display(description="tokens this month", ordering="spent")
    def spent(self, key: APIKey) -> int:
        return key.spent or 0  # type: ignore[attr-defined]  # annotated above

    @admin.display(description="usable", boolean=True, ordering="revoked_at")
    def state(self, key: APIKey) -> bool:
        return key.revoked_at is None

    # Create a key.

    def save_model(self, request: HttpRequest, obj: APIKey, form: Any, change: bool) -> None:
        if change:
            # Concurrent changes, such as a revocation, are kept.
            obj.save(update_fields=form.changed_data)
        else:
            obj.make_secret()
            obj.save(force_insert=True)

    def response_add(self, request: HttpRequest, obj: APIKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the secret in the response: a message would be stored in a cookie or session."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": obj,
            "title": "API key",
            "secret": obj.secret,
            "address": request.build_absolute_uri("/"),
        }
        return TemplateResponse(request, "admin/assistant/apikey/issued.html", context)

    # Revoke a key.

    def get_urls(self) -> list[Any]:
        revoke = require_POST(self.admin_site.admin_view(self.revoke_view))
        return [path("<int:pk>/revoke/", revoke, name="assistant_apikey_revoke"), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        self.revoke(request, [get_object_or_404(APIKey, pk=pk)])
        return HttpResponseRedirect(reverse("admin:assistant_apikey_change", args=[pk]))

    @admin.action(description="Revoke the selected API keys", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: Iterable[APIKey]) -> None:
        for key in keys:
            if key.revoked_at is None:
                key.revoke()
                self.log_change(request, key, "Revoked.")
        self.message_user(request, "Revoked keys stop working at once.", messages.SUCCESS)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow a key to be deleted only with its user: its usage is deleted with it."""
        asked = request.resolver_match.url_name or "" if request.resolver_match else ""
        return self.is_allowed(request) and not asked.startswith("assistant_apikey_")


@admin.register(Allowance)
class AllowanceAdmin(SuperuserOnly, admin.ModelAdmin):
    """The tokens by the month of users who don't have the default."""

    list_display = ["user", "tokens_per_month"]
    list_select_related = ["user"]
    raw_id_fields = ["user"]  # the user's admin may be missing, or have no search


@admin.register(MonthlyUsage)
class MonthlyUsageAdmin(ReadOnly, SuperuserOnly, admin.ModelAdmin):
    """The tokens of each user and key by month, beside their limits, in one query."""

    list_display = [
        *("in_month", "user", "api_key", "answers", "input_tokens", "output_tokens"),
        *("tokens", "limit_of_key", "tokens_of_user", "limit_of_user"),
    ]
    list_display_links = None
    list_select_related = ["user", "api_key"]
    date_hierarchy = "month"
    search_help_text = "The name of a user."
    show_full_result_count = False
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[MonthlyUsage]:
        rows: QuerySet[MonthlyUsage] = super().get_queryset(request)
        return rows.annotate(
            tokens=TOKENS,
            tokens_of_user=Window(Sum(TOKENS), partition_by=["user", "month"]),
            allowance=F("user__token_allowance__tokens_per_month"),
        )

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [f"user__{get_user_model().USERNAME_FIELD}"]

    @admin.display(description="month", ordering="month")
    def in_month(self, row: MonthlyUsage) -> str:
        return f"{row.month:%Y-%m}"

    @admin.display(ordering="tokens")
    def tokens(self, row: Any) -> str:
        return f"{row.tokens:,}"

    @admin.display(description="limit of the key", ordering="api_key__tokens_per_month")
    def limit_of_key(self, row: Any) -> str:
        return share(row.tokens, row.api_key.tokens_per_month) if row.api_key else "-"

    @admin.display(description="tokens of the user", ordering="tokens_of_user")
    def tokens_of_user(self, row: Any) -> str:
        return f"{row.tokens_of_user:,}"

    @admin.display(description="limit of the user", ordering="allowance")
    def limit_of_user(self, row: Any) -> str:
        return share(row.tokens_of_user, row.allowance or get_settings().USER_TOKENS_PER_MONTH)


def share(used: int, limit: int | None) -> str:
    """Return a limit with the share of it that is used."""
    return f"{limit:,} ({used / limit:.0%})" if limit else "-"
