"""The service's own paths, and the view that the items of the crash loop call."""

from django.urls import path

from config.urls import handler404, urlpatterns
from tests.crash.points import called

__all__ = ["handler404", "urlpatterns"]
urlpatterns = [path("api/called/<str:kind>/<str:name>", called), *urlpatterns]
