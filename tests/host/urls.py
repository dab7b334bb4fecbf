from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.urls import include, path

from tests.host import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("batching.urls")),
    path("api/again/", include("batching.urls", namespace="again")),
    path("api/echo", views.Echo.as_view()),
    path("api/echo/<str:name>", views.Echo.as_view()),
    path("api/echo/<str:name>/more", views.Echo.as_view()),
    path("api/files/<path:name>", views.Echo.as_view()),
    path("api/echo-plain", views.echo_plain),
    path("api/echo-async", views.echo_async),
    path("api/protected", views.protected),
    path("api/private", views.Private.as_view()),
    path("api/failing/<int:status>", views.failing),
    path("api/failing-once", views.failing_once),
    path("api/burning", views.burning),
    path("api/noting", views.noting),
    path("api/keyed", views.Keyed.as_view()),
    path("api/either", views.Either.as_view()),
    path("api/whoami", views.whoami),
    path("api/all-headers", views.all_headers),
    path("api/slow", views.slow),
    path("api/slow-async", views.slow_async),
    path("api/stubborn", views.stubborn),
    path("api/raising/<str:how>", views.raising),
    path("api/raising-async/<str:how>", views.raising_async),
    path("api/answering/<str:what>", views.answering),
    path("api/marking", views.marking),
    path("api/around", views.around),
    path("api/around-async", views.around_async),
    path("api/groups", views.Groups.as_view()),
    path("api/unfinished", views.unfinished),
    path("api/throttled", views.Throttled.as_view()),
    path("api/events", views.events),
    path("api/events-sync", views.events_sync),
    path("api/lines", views.lines),
    path("other/echo", views.Echo.as_view()),
    *i18n_patterns(path("translated/", include("batching.urls", namespace="translated"))),
]
