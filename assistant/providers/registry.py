"""Models by their names, each made once a process.

A model is named `provider:name`. ASSISTANT_PROVIDERS has a project's own; `openai:` is any server with OpenAI's
protocol of chat completions, `local:` llama.cpp on this machine; others go to pydantic-ai, where it is installed.
"""

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from assistant.conf import get_settings
from assistant.providers.base import Model
from wire.once import once


def get_model(name: str) -> Model:
    """Return the process's one instance of a model.

    Raises `ImproperlyConfigured` with a sentence for a name that can't be used.
    """
    provider, separator, rest = name.partition(":")
    if not (separator and provider and rest):
        raise ImproperlyConfigured(f"The model {name!r} is not of the form provider:name, such as local:smollm2.")
    return load(provider, rest)


@once
def load(provider: str, name: str) -> Model:
    """Import only what the model needs: llama.cpp or another provider's client may not be installed."""
    if own := get_settings().ASSISTANT_PROVIDERS.get(provider):
        return made(own, name)
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


def made(path: str, name: str) -> Model:
    """Return the model that a project's own class or function makes of a name."""
    try:
        make = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"ASSISTANT_PROVIDERS can't name {path}: {error}.") from None
    model: Model = make(name)
    return model
