"""The service's paths, and four that do nothing: one with DRF, one async, one that waits, one that reads a row."""

import asyncio

from django.contrib.auth.models import User
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


async def wait(request: HttpRequest) -> JsonResponse:
    await asyncio.sleep(0.2)
    return JsonResponse({})


def row(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"users": User.objects.exists()})


urlpatterns = [
    path("api/nothing/drf", Nothing.as_view()),
    path("api/nothing/async", nothing),
    path("api/nothing/wait", wait),
    path("api/nothing/row", row),
    *service,
]
