"""The endpoints of tools: list, describe, execute."""

import time
from typing import Any

from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils.decorators import method_decorator
from rest_framework.request import Request
from rest_framework.response import Response

from assistant.api.base import ToolsScopedView, validate
from assistant.api.serializers import ExecuteSerializer, ExecutionSerializer, ToolListSerializer, ToolSerializer
from assistant.tools import toolbox
from wire.api.openapi import extend_schema, fails
from wire.asgi.threads import give_connections_back


class ToolsView(ToolsScopedView):
    @extend_schema(operation_id="tools", responses={200: ToolListSerializer, **fails(401, 403)})
    def get(self, request: Request) -> Response:
        """The tools that the caller may use."""
        return Response({"tools": [represent(tool) for tool in toolbox.for_caller(request.user)]})


class ToolView(ToolsScopedView):
    @extend_schema(operation_id="tool", responses={200: ToolSerializer, **fails(401, 403, 404)})
    def get(self, request: Request, name: str) -> Response:
        """One tool that the caller may use."""
        return Response(represent(toolbox.get(name, request.user)))


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class ExecuteView(ToolsScopedView):
    @extend_schema(
        operation_id="tool_execute",
        request=ExecuteSerializer,
        responses={200: ExecutionSerializer, **fails(400, 401, 403, 404, 413, 415, 502, 504)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Run a tool."""
        began = time.monotonic()
        tool = toolbox.get(name, request.user)
        parameters = validate(ExecuteSerializer, request.data)["parameters"]
        give_connections_back()
        output = async_to_sync(tool.run)(parameters)
        return Response(
            {
                "tool": tool.name,
                "result": output.text,
                "data": output.data,
                "processing_time": round(time.monotonic() - began, 6),
            }
        )


def represent(tool: toolbox.Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
