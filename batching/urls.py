"""The API's paths: `path("api/", include("batching.urls"))`."""

from django.urls import path

from batching import views

app_name = "batching"

urlpatterns = [
    path("batch", views.BatchesView.as_view(), name="batches"),
    path("batch/<str:batch_id>", views.BatchView.as_view(), name="batch"),
]
