"""The service's paths, and two that do nothing: one with DRF, one async."""

from django.http import HttpRequest, JsonResponse
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.urls import urlpatterns as service


class Nothing(APIView):
    def get(self, request: Request) -> Response:
        return Response({})


async def nothing(request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


urlpatterns = [path("api/nothing/drf", Nothing.as_view()), path("api/nothing/async", nothing), *service]
