"""The API's paths: `path("api/", include("batching.urls"))`."""

from django.urls import path

from batching.api import background_views, views

__all__ = ["app_name", "urlpatterns"]

app_name = "batching"
"""The namespace of the API's URLs."""

urlpatterns = [
    path("batch", views.BatchesView.as_view(), name="batches"),
    path("batch/<str:batch_id>", views.BatchView.as_view(), name="batch"),
    path("batch/<str:batch_id>/results", background_views.BatchResultsView.as_view(), name="batch-results"),
    path("batch/<str:batch_id>/events", background_views.BatchEventsView.as_view(), name="batch-events"),
    path("batch/<str:batch_id>/cancel", background_views.BatchCancelView.as_view(), name="batch-cancel"),
    path("batch/<str:batch_id>/retry", background_views.BatchRetryView.as_view(), name="batch-retry"),
]
"""The API's paths, for `include`."""
