"""Problems that keep an agent from answering, for the operator."""

from difflib import get_close_matches

from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured

from assistant.errors import ModelError, ModelRefusedCredentials
from assistant.models import Agent
from assistant.providers.base import HostedModel
from assistant.providers.registry import get_model
from assistant.tools import toolbox

MAX_NAMES = 5


def problems(agent: Agent) -> list[str]:
    """Return a sentence for each known problem, without a request to the model's server."""
    problems = [model_problem(agent.model_name), tools_problem(agent.tools)]
    return [sentence for sentence in problems if sentence]


def model_problem(name: str) -> str | None:
    try:
        model = get_model(name)
    except ImproperlyConfigured as error:
        return str(error)
    if isinstance(model, HostedModel) and model.lacks_key:
        return f"The model {name} needs a key: set OPENAI_API_KEY."
    return None


def tools_problem(names: list[str]) -> str | None:
    known = {tool.name for tool in toolbox.all_tools()}
    unknown = [name for name in names if name not in known]
    return f"These tools aren't installed, or are disabled: {', '.join(unknown)}." if unknown else None


def warnings(agent: Agent) -> list[str]:
    """Return possible problems; asks the model's server, for at most a few seconds.

    They aren't certain: a server may be down for now, or accept names that it doesn't list.
    """
    model = get_model(agent.model_name)
    warning = async_to_sync(server_warning)(model) if isinstance(model, HostedModel) else None
    unused = [name for name in agent.tools if name != "search"] if not model.calls_tools else []
    too_small = f"The model {agent.model_name} is too small to call tools: it doesn't use {', '.join(unused)}."
    return [*([warning] if warning else []), *([too_small] if unused else [])]


async def server_warning(model: HostedModel) -> str | None:
    try:
        names = await model.list_models()
    except ModelRefusedCredentials:
        return "The model's server refuses OPENAI_API_KEY."
    except ModelError:
        return "The model's server can't be reached right now."
    if not names or model.name in names:
        return None
    close = get_close_matches(model.name, names, MAX_NAMES, cutoff=0) or sorted(names)[:MAX_NAMES]
    return f"The model's server doesn't list {model.name}; it lists {', '.join(close)}."
