"""How large a body a view takes: the server asks the class that Django's resolver finds for a request's path."""

import logging
from contextvars import copy_context
from urllib.parse import unquote

from django.conf import settings
from django.urls import Resolver404, resolve
from django.utils.translation import get_language_from_path, override

logger = logging.getLogger(__name__)


def view_max_body_bytes(target: bytes, root_path: str) -> int:
    """Return `max_body_bytes()` of the class-based view at a request's target; 0 where there is none.

    The server asks only for a body that is larger than BODY_MAX_BYTES.
    """
    if not settings.configured:  # the application isn't Django
        return 0
    path = unquote(target.partition(b"?")[0].decode("latin-1"))
    try:
        # In a context of its own: the language of this path isn't the server's.
        return copy_context().run(max_body_bytes, path_info(path, settings.FORCE_SCRIPT_NAME or root_path))
    except Resolver404:
        return 0
    except Exception:  # a project's URL converters and views are foreign code, and the client needs an answer
        logger.exception("body_limit=unknown")
        return 0


def path_info(path: str, script_name: str) -> str:
    """Return the path below the script's name, as Django's ASGIRequest has it."""
    prefix = script_name.rstrip("/")
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def max_body_bytes(path: str) -> int:
    # `i18n_patterns` match the active language, which LocaleMiddleware takes from the path.
    with override(get_language_from_path(path)):
        view = resolve(path).func
    ask = getattr(getattr(view, "view_class", None), "max_body_bytes", None)
    return int(ask()) if ask else 0
