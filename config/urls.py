from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from config.throttles import login_throttled
from config.views import home, readyz

urlpatterns = [
    path("", home, name="home"),
    path("readyz", readyz),
    path(f"{settings.ADMIN_PATH}/login/", login_throttled(admin.site.login)),
    path(f"{settings.ADMIN_PATH}/", admin.site.urls),
    path("api/", include("assistant.urls")),
    path("api/", include("batching.urls")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path(
        "api/docs",
        SpectacularSwaggerSplitView.as_view(url_name="schema", http_method_names=["get", "head"]),
        name="docs",
    ),
]
if settings.METRICS_TOKEN:  # otherwise nothing of Prometheus is imported
    from config.observe import metrics, register_metrics

    register_metrics()
    urlpatterns += [path("metrics", metrics)]
handler404 = "wire.errors.not_found"
