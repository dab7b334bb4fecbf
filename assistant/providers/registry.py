"""Models by name, each created once per process.

A model is named `provider:name`. ASSISTANT_PROVIDERS holds a project's own providers; `openai:` is any server with
OpenAI's chat-completions protocol, `local:` is llama.cpp on this machine, and pydantic-ai handles the others.
"""

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from assistant.conf import get_settings
from assistant.providers.base import Model
from wire.once import once


def get_model(name: str) -> Model:
    """Return the process's one instance of a model.

    Raises `ImproperlyConfigured` for a name that can't be used.
    """
    provider, separator, rest = name.partition(":")
    if not (separator and provider and rest):
        raise ImproperlyConfigured(f"The model {name!r} is not of the form provider:name, such as local:smollm2.")
    return load(provider, rest)


@once
def load(provider: str, name: str) -> Model:
    """Import only the model's provider: the clients of others may not be installed."""
    if own := get_settings().ASSISTANT_PROVIDERS.get(provider):
        return make_custom(own, name)
    match provider:
        case "local":
            from assistant.providers.local import LocalModel

            return LocalModel(name)
        case "openai":
            from assistant.providers.openai import OpenAIModel

            return OpenAIModel.from_settings(name)
        case _:
            from assistant.providers.pydantic_ai import PydanticAIModel

            return PydanticAIModel(provider, name)


def make_custom(path: str, name: str) -> Model:
    """Return the model that a project's own class or function creates for a name."""
    try:
        make = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"ASSISTANT_PROVIDERS names {path}, which can't be imported: {error}.") from None
    model: Model = make(name)
    return model
