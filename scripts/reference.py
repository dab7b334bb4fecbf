"""The reference, as pages made from the code itself: settings, endpoints, events, errors, names and so on.

`pages()` wants Django to be set up. scripts/docs.py calls it for each site that it builds, so nothing of it is kept and
nothing of it can be stale.
"""

import ast
import inspect
import re
from argparse import Action
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from django.core.management import BaseCommand, get_commands, load_command_class
from drf_spectacular.generators import SchemaGenerator
from prometheus_client import REGISTRY
from prometheus_client.metrics import Counter, MetricWrapperBase

ROOT = Path(__file__).resolve().parent.parent
APPS = ("assistant", "batching", "wire", "config")
# How the reference names the type of a variable that a method of `env` reads.
KINDS = {
    "bool": "true or false",
    "int": "integer",
    "float": "number",
    "list": "list",
    "dj_db_url": "URL",
    "str": "text",
}


def pages() -> dict[str, tuple[str, str]]:
    """Return each page's title and text by its name."""
    return {
        "settings": ("Settings", settings()),
        "endpoints": ("Endpoints", endpoints()),
        "schemas": ("Schemas", schemas()),
        "events": ("Stream events", events()),
        "errors": ("Errors", errors()),
        "python": ("Python API", python()),
        "metrics": ("Metrics", metrics()),
        "commands": ("Commands", commands()),
    }


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(head), ["---"] * len(list(head)), *rows]
    return "\n".join("| " + " | ".join(cell(each) for each in line) + " |" for line in lines) + "\n"


def cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def code(value: object) -> str:
    return f"`{value}`" if value not in ("", None) else ""


def sentence(text: str | None) -> str:
    """Return the first paragraph of a docstring."""
    return inspect.cleandoc(text or "").split("\n\n")[0]


# Settings.


@dataclass
class Variables:
    """Environment variables that .env.example describes together."""

    section: str
    names: list[str]
    defaults: list[str]
    said: str


def variables() -> Iterator[Variables]:
    section, said, group = "", [], None
    for line in (ROOT / ".env.example").read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if line.startswith("# --- "):
            section, said, group = line[6:], [], None
        elif line.startswith("#"):
            said, group = [*([] if group else said), line[2:]], None
        elif is_setting and group:
            group.names.append(name)
            group.defaults.append(value)
        elif is_setting:
            group = Variables(section, [name], [value], " ".join(said))
            yield group


def settings() -> str:
    text = (
        "Of the service they are environment variables, or lines of a `.env` beside `manage.py`. An empty value counts "
        "as none, and one that can't be used stops the start with a sentence that names it. "
        "[At the end](#in-a-project-of-your-own) is what the apps read of the settings of another Django project.\n\n"
    )
    groups = list(variables())
    for section in dict.fromkeys(group.section for group in groups):
        rows = (row(group) for group in groups if group.section == section)
        text += f"## {section}\n\n{table(('setting', 'type', 'default', 'what it says'), rows)}\n"
    return text + in_a_project()


def row(group: Variables) -> list[str]:
    types = dict.fromkeys(KINDS[read_as()[name]] for name in group.names)
    return [", ".join(map(code, group.names)), ", ".join(types), ", ".join(map(code, group.defaults)), group.said]


def read_as() -> dict[str, str]:
    """Return the method of `env` that reads each variable: those that dataclasses declare, and config/settings.py's."""
    from config.settings import METHODS, declared_fields

    source = (ROOT / "config/settings.py").read_text()
    own = {name: method for method, name in re.findall(r'env\.(\w+)\(\s*"(\w+)"', source)}
    return {field.name: METHODS[kind] for field, kind in declared_fields()} | own


def in_a_project() -> str:
    text = (
        "## In a project of your own\n\nSettings of Django, read anew for each call. A `Count` is an integer from 1, "
        "and `Seconds` are above 0.\n\n"
    )
    said = {name: group.said for group in variables() for name in group.names}
    for app in ("assistant", "batching"):
        rows = (
            [code(name), code(kind), code(default), doc or said.get(name, "")] for name, kind, default, doc in conf(app)
        )
        text += f"### `{app}`\n\n{table(('setting', 'type', 'default', 'what it says'), rows)}\n"
    return text


def conf(app: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield each field of an app's settings with its type, its default and its docstring, as they are written."""
    tree = ast.parse((ROOT / app / "conf.py").read_text())
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Settings")]
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=ast.expr() as default):
                yield name, ast.unparse(kind), ast.unparse(default), written(after)


def written(node: ast.stmt) -> str:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
    return ""


# Endpoints and what they take and give, from the OpenAPI description.


@cache
def description() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return made


def endpoints() -> str:
    text = "What `/api/schema` of a running service describes. [The HTTP API](../api.md) tells what it means.\n\n"
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            text += f"## {method.upper()} {path}\n\n{sentence(operation.get('description'))}\n\n{details(operation)}"
    return text


def details(operation: Mapping[str, Any]) -> str:
    text = ""
    if parameters := operation.get("parameters"):
        rows = (
            [code(each["name"]), each["in"], kind(each["schema"]), each.get("description", "")] for each in parameters
        )
        text += table(("parameter", "in", "type", "what it says"), rows) + "\n"
    if asked := operation.get("requestBody"):
        text += f"Body: {contents(asked)}\n\n"
    answers: dict[str, list[str]] = {}
    for status, response in operation["responses"].items():
        answers.setdefault(contents(response), []).append(status)
    return text + table(("status", "answer"), ([", ".join(each), answer] for answer, each in answers.items())) + "\n"


def contents(message: Mapping[str, Any]) -> str:
    """Return what a body may be."""
    return "; ".join(f"{kind(each['schema'])} (`{media}`)" for media, each in message.get("content", {}).items())


def kind(schema: Mapping[str, Any]) -> str:
    """Return a JSON Schema in words."""
    match schema:
        case {"$ref": str(ref)}:
            return referred(ref.rpartition("/")[2])
        case {"allOf": [only]}:
            return kind(only)
        case {"oneOf": choices} | {"anyOf": choices}:
            return " or ".join(dict.fromkeys(map(kind, choices)))
        case {"enum": values}:
            return ", ".join(map(code, filter(None, values)))
        case {"type": "array", "items": items}:
            return f"list of {kind(items)}"
        case {"type": "array"}:
            return "list"
        case {"type": str(name)}:
            return name + (" or null" if schema.get("nullable") else "")
    return "any JSON"


def referred(name: str) -> str:
    schema = description()["components"]["schemas"][name]
    return kind(schema) if "enum" in schema else f"[{name}](schemas.md#{name.lower()})"


def schemas() -> str:
    text = "What [the endpoints](endpoints.md) take and give.\n\n"
    for name, schema in description()["components"]["schemas"].items():
        if "enum" not in schema:
            text += f"## {name}\n\n{sentence(schema.get('description'))}\n\n{properties(schema)}\n"
    return text


def properties(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = (
        [code(name), kind(inner), "always" if name in required else "", inner.get("description", "")]
        for name, inner in schema.get("properties", {}).items()
    )
    return table(("field", "type", "there", "what it is"), rows)


# Events.


def events() -> str:
    from assistant.events import NAMES

    text = (
        "One JSON object each, with its `type`; [the order](../api.md#streaming) is tested. "
        "Batches have [events of their own](../batches.md#streaming).\n\n"
    )
    for event, name in NAMES.items():
        rows = ([code(each.name), code(annotation(event, each)), default(each)] for each in fields(event))
        text += f"## {name}\n\n{sentence(event.__doc__)}\n\n{table(('field', 'type', 'default'), rows)}\n"
    return text


def annotation(event: type, field: Field[Any]) -> str:
    hint = get_type_hints(event)[field.name]
    return hint.__name__ if isinstance(hint, type) and hint.__module__ != "types" else str(hint).replace("typing.", "")


def default(field: Field[Any]) -> str:
    """Return a default; None is left out of the JSON."""
    if field.default is None:
        return "left out"
    return code(field.default) if field.default is not MISSING else ""


# Errors.


def errors() -> str:
    from wire.errors import SENTENCES, WireError

    rows: Iterable[Iterable[object]] = SENTENCES.items()
    text = (
        'Each is `{"error": "one sentence", "code": 400}`, with `details` where a field is to blame. A sentence may '
        "say more than the one here.\n\n## What is said where nothing better is known\n\n"
        f"{table(('status', 'sentence'), rows)}\n"
    )
    for module in dict.fromkeys(each.__module__ for each in below(WireError)):
        rows = (refusal(each) for each in below(WireError) if each.__module__ == module)
        text += f"## `{module}`\n\n{table(('class', 'status', 'come back', 'sentence', 'when'), rows)}\n"
    return text


def below(kind: type) -> Iterator[Any]:
    for each in kind.__subclasses__():
        if each.__module__.startswith(APPS):
            yield each
        yield from below(each)


def refusal(error: Any) -> list[object]:
    again = f"after {error.retry_after} s" if error.retry_after else "later" if error.retryable else ""
    return [code(error.__name__), error.status, again, error.message, sentence(error.__dict__.get("__doc__"))]


# The Python API.


@dataclass
class Public:
    """A name of a module's `__all__`; what is not a function or a class has its docstring below its assignment."""

    module: str
    name: str
    value: Any
    doc: str

    @property
    def call(self) -> str:
        """Return how it is called, where that is a promise."""
        if not (inspect.isfunction(self.value) or is_dataclass(self.value)):
            return self.name
        signature = str(inspect.signature(self.value)).removesuffix(" -> None").replace("<factory>", "...")
        return self.name + re.sub(r"(?:\b[a-z_]+\.)+(?=\w)", "", signature)


def public() -> dict[str, list[Public]]:
    """Return what a project may rely on, by modules: those that have an `__all__`."""
    files = (file for app in APPS[:3] for file in sorted((ROOT / app).rglob("*.py")) if "migrations" not in file.parts)
    found = {name_of(file): file for file in files if re.search(r"^__all__ = ", file.read_text(), re.MULTILINE)}
    return {name: list(names_of(import_module(name), file)) for name, file in found.items()}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def names_of(module: ModuleType, file: Path) -> Iterator[Public]:
    assigned = dict(assignments(ast.parse(file.read_text()).body))
    for name in module.__all__:
        value = getattr(module, name)
        own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
        yield Public(module.__name__, name, value, assigned.get(name, own or ""))


def assignments(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield each name that is assigned in a module with the docstring below it."""
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, written(after)


def python() -> str:
    text = "What a project may import. Everything else is private to its package, and may change in any release.\n\n"
    for name, names in public().items():
        rows = ([code(each.call), sentence(each.doc)] for each in names)
        listed = table(("name", "what it is"), rows) if names else ""
        text += f"## `{name}`\n\n{sentence(import_module(name).__doc__)}\n\n{listed}\n"
    return text


# Metrics.


def metrics() -> str:
    from config.observe import register_metrics

    register_metrics()
    text = "What `GET /metrics` has beside `process_*` and `python_*`, where METRICS_TOKEN is set.\n\n"
    return text + table(("metric", "type", "labels", "what it is"), map(measured, ours()))


def ours() -> list[MetricWrapperBase]:
    known = set(REGISTRY._names_to_collectors.values())
    return sorted((each for each in known if isinstance(each, MetricWrapperBase)), key=lambda each: each._name)


def measured(metric: MetricWrapperBase) -> list[str]:
    name = f"{metric._name}_total" if isinstance(metric, Counter) else metric._name
    return [code(name), metric._type, ", ".join(map(code, metric._labelnames)), metric._documentation]


# Commands.


def commands() -> str:
    text = "`.venv/bin/python manage.py NAME`; each has Django's own options too (`--help`).\n\n"
    for name, app in sorted(get_commands().items()):
        if app in APPS:
            command = load_command_class(app, name)
            text += f"## {name}\n\n{sentence(command.help)}\n\n{options(command, name)}\n"
    return text


def options(command: BaseCommand, name: str) -> str:
    usual = {action.dest for action in BaseCommand().create_parser("manage.py", name)._actions}
    actions = [each for each in command.create_parser("manage.py", name)._actions if each.dest not in usual]
    return table(("argument", "default", "what it says"), map(option, actions)) if actions else ""


def option(action: Action) -> list[str]:
    named = ", ".join(action.option_strings) or str(action.metavar or action.dest).upper()
    takes = f" {action.metavar or action.dest.upper()}" if action.option_strings and action.nargs != 0 else ""
    value = "" if action.nargs == 0 or action.default is None else action.default
    return [code(named + takes), code(value), (action.help or "") % vars(action)]
