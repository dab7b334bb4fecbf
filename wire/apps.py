from django.apps import AppConfig


class WireConfig(AppConfig):
    name = "wire"

    def ready(self) -> None:
        from wire.checks import replace_djangos  # it registers this package's checks

        replace_djangos()
