"""The service as an app: checks and exporters that start with Django, in each process."""

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class ServiceConfig(AppConfig):
    name = "config"
    verbose_name = "Service"

    def ready(self) -> None:
        from config import observe, production, throttles  # noqa: F401  # they import models

        production.check(settings)
        observe.begin()


class AdminConfig(DjangoAdminConfig):
    """Django's admin with this service's front page."""

    default_site = "config.console.Site"
