"""The endpoint that lists agents."""

from rest_framework.request import Request
from rest_framework.response import Response

from assistant.api.base import ChatScopedView
from assistant.api.serializers import AgentListSerializer, AgentSerializer
from assistant.models import Agent
from wire.api.openapi import extend_schema, fails


class AgentsView(ChatScopedView):
    @extend_schema(operation_id="agents", responses={200: AgentListSerializer, **fails(401, 403)})
    def get(self, request: Request) -> Response:
        """The agents that the caller may use."""
        agents = Agent.objects.for_caller(request.user)
        return Response({"agents": AgentSerializer(agents, many=True).data})
