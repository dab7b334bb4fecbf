from django.apps import AppConfig


class AssistantConfig(AppConfig):
    name = "assistant"
    verbose_name = "Assistant"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.utils.module_loading import autodiscover_modules

        from assistant import checks  # noqa: F401  # importing registers them
        from assistant.tools import builtin, calculator  # noqa: F401  # importing registers them

        autodiscover_modules("tools")
