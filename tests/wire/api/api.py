"""An API of four lines behind the service's middleware and DRF settings."""

from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError, ProgrammingError
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from rest_framework import serializers
from rest_framework.exceptions import Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from wire.errors import WireError

SECRET = "/srv/secret/key"
RAISED: dict[str, Exception] = {
    "crash": RuntimeError(SECRET),
    "wire": WireError("It is full.", details={"box": ["No room."]}, retry_after=3),
    "missing": Http404(SECRET),
    "forbidden": PermissionDenied(SECRET),
    "throttled": Throttled(wait=1.2),
    "unreachable": OperationalError(SECRET),
    "lost": InterfaceError(SECRET),
    "mistaken": ProgrammingError(SECRET),
    "suspicious": SuspiciousOperation(SECRET),
}


class Echo(APIView):
    permission_classes = [AllowAny]

    def post(self, request: Request) -> Response:
        return Response(request.data)

    def get(self, request: Request) -> Response:
        raise RAISED[request.query_params["raise"]]


class Body(serializers.Serializer[Any]):
    text = serializers.CharField()
    inner = serializers.ListField(child=serializers.DictField(child=serializers.IntegerField()), required=False)


class Checked(APIView):
    permission_classes = [AllowAny]

    def post(self, request: Request) -> Response:
        body = Body(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(body.validated_data)


def plain(request: HttpRequest) -> HttpResponse:
    raise RuntimeError(SECRET)


urlpatterns = [
    path("api/echo", Echo.as_view()),
    path("api/checked", Checked.as_view()),
    path("api/plain", plain),
    path("page", plain),
]


def post(client: Client, where: str, body: str | bytes, content_type: str = "application/json") -> Any:
    data = body.encode() if isinstance(body, str) else body
    return client.generic("POST", where, data, content_type=content_type)
