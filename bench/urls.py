"""The service's paths, four that do nothing (DRF, async, one that waits, one that reads a row), and the pacer's."""

import asyncio

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bench.peers.paced import pacer
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


async def pace(request: HttpRequest, count: int) -> HttpResponse:
    pacer.pace(count)
    return HttpResponse()


urlpatterns = [
    path("pace/<int:count>", pace),
    path("api/nothing/drf", Nothing.as_view()),
    path("api/nothing/async", nothing),
    path("api/nothing/wait", wait),
    path("api/nothing/row", row),
    *service,
]
