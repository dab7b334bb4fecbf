"""The service's settings with Django's own middlewares, for a request as Django answers it: under daphne, by itself."""

from bench.settings import *  # noqa: F403

# Those of wire.asgi.middleware are named as what they stand in for.
THEIRS = {
    "AuthenticationMiddleware": "django.contrib.auth.middleware",
    "CommonMiddleware": "django.middleware.common",
    "ContentSecurityPolicyMiddleware": "django.middleware.csp",
    "CsrfViewMiddleware": "django.middleware.csrf",
    "MessageMiddleware": "django.contrib.messages.middleware",
    "SecurityMiddleware": "django.middleware.security",
    "SessionMiddleware": "django.contrib.sessions.middleware",
    "XFrameOptionsMiddleware": "django.middleware.clickjacking",
}


def theirs(path: str) -> str:
    module, _, name = path.rpartition(".")
    return f"{THEIRS[name]}.{name}" if module == "wire.asgi.middleware" else path


MIDDLEWARE = [theirs(path) for path in MIDDLEWARE]  # noqa: F405
