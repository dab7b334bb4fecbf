from django.apps import AppConfig


class AssistantConfig(AppConfig):
    name = "assistant"
    verbose_name = "Assistant"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.utils.module_loading import autodiscover_modules

        from assistant import checks  # noqa: F401  # importing registers them
        from wire.extras import is_installed, needs_extra

        with needs_extra("assistant", "The app assistant"):
            from assistant.tools import builtin, calculator, toolbox  # noqa: F401  # the same
        if is_installed("drf_spectacular"):
            from assistant.api import openapi  # noqa: F401  # the same
        autodiscover_modules("tools")
        toolbox.check_names()
