"""What the project had before."""

from django.contrib.auth.models import Group
from rest_framework.decorators import api_view
from rest_framework.response import Response


@api_view()
def hello(request):
    return Response({"hello": str(request.user)})


@api_view(["POST"])
def note(request):
    return Response({"id": Group.objects.create(name=request.data["name"]).pk}, status=201)


def own_errors(exception, context):
    return Response({"ours": str(exception)}, status=getattr(exception, "status_code", 500))
