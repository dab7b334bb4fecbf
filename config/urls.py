from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from config.views import home, readyz

urlpatterns = [
    path("", home, name="home"),
    path("readyz", readyz),
    path("admin/", admin.site.urls),
    path("api/", include("assistant.urls")),
    path("api/", include("batching.urls")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
]
if settings.METRICS_TOKEN:  # otherwise nothing of Prometheus is imported
    from config.metrics import metrics

    urlpatterns += [path("metrics", metrics)]
handler404 = "wire.errors.not_found"
