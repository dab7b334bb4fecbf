import asyncio
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from pydantic import BaseModel, Field

import assistant
from assistant.apps import AssistantConfig
from assistant.errors import CallerError, NotFound, ToolError, ToolTimeout
from assistant.models import Document
from assistant.tools import toolbox
from assistant.tools.output import ToolOutput
from assistant.tools.toolbox import tool


async def run(function, **parameters):
    """Register a function and call it as a caller does, by its name."""
    tool(function)
    return await toolbox.get(function.__name__, AnonymousUser()).run(parameters)


def greet(name: str, times: Annotated[int, Field(description="How often.", ge=1)] = 1) -> str:
    """Say hello.

    More than once, if wanted.
    """
    return "Hello " * times + name


class TestRegistering:
    def test_returns_the_function_unchanged(self):
        assert tool(greet) is greet
        assert tool(timeout=1)(greet) is greet

    def test_a_model_sees_name_docstring_and_a_schema_of_the_signature(self):
        tool(greet)
        spec = toolbox.get("greet", AnonymousUser()).spec
        assert spec.name == "greet"
        assert spec.description == "Say hello.\n\nMore than once, if wanted."
        assert spec.parameters == {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "times": {"type": "integer", "description": "How often.", "minimum": 1, "default": 1},
            },
            "required": ["name"],
            "additionalProperties": False,
        }

    def test_without_a_docstring_is_refused(self):
        def silent(name: str) -> str:
            return name

        with pytest.raises(TypeError, match="The tool silent needs a docstring"):
            tool(silent)

    def test_a_parameter_without_a_type_is_refused(self):
        def vague(name):
            """Do something."""

        with pytest.raises(TypeError, match="The parameter name of the tool vague needs a type"):
            tool(vague)

    def test_parameters_without_a_name_are_refused(self):
        def many(*names: str) -> None:
            """Do something."""

        with pytest.raises(TypeError, match="can't have the parameter"):
            tool(many)

    def test_two_tools_with_one_name_are_refused(self):
        def search(query: str) -> str:
            """Search elsewhere."""
            return query

        with pytest.raises(TypeError, match="tools are named search: assistant"):
            tool(search)

    def test_the_same_function_may_come_again(self):
        tool(greet)
        tool(greet)
        assert toolbox.get("greet", AnonymousUser()).function is greet

    def test_a_parameter_may_have_any_name(self):
        def named(schema: str, copy: int = 1, model_config: bool = False) -> str:
            """Do something."""
            return f"{schema} {copy} {model_config}"

        assert asyncio.run(run(named, schema="a")).text == "a 1 False"


class TestFinding:
    def test_an_unknown_name_is_not_found(self):
        with pytest.raises(NotFound, match="There is no such tool"):
            toolbox.get("nothing", AnonymousUser())

    def test_what_is_off_is_neither_found_nor_listed(self, settings):
        settings.ASSISTANT_TOOLS_OFF = ["calculator"]
        assert "calculator" not in [each.name for each in toolbox.all_tools()]
        with pytest.raises(NotFound):
            toolbox.get("calculator", AnonymousUser())

    @pytest.mark.parametrize("off", [[], ["calculator"], ["calculator", "search", "current_time"]])
    def test_fetching_pages_is_enabled_by_its_own_setting_alone(self, settings, off):
        settings.ASSISTANT_TOOLS_OFF = off
        assert "fetch_url" not in [each.name for each in toolbox.all_tools()]
        settings.ASSISTANT_FETCH_URL = True
        assert "fetch_url" in [each.name for each in toolbox.all_tools()]

    def test_a_name_that_does_not_exist_stops_the_start(self, settings):
        settings.ASSISTANT_TOOLS_OFF = ["calculater", "search"]
        with pytest.raises(ImproperlyConfigured, match="ASSISTANT_TOOLS_OFF can't name calculater: the tools are "):
            AssistantConfig("assistant", assistant).ready()

    @pytest.mark.django_db
    def test_a_permission_hides_a_tool_from_those_without_it(self):
        tool(permission="assistant.view_document")(greet)
        reader = User.objects.create_user("reader")
        reader.user_permissions.add(Permission.objects.get(codename="view_document"))
        named = [[each.name for each in toolbox.for_caller(user)] for user in (AnonymousUser(), reader)]
        assert "greet" not in named[0]
        assert "search" in named[0]
        assert "greet" in named[1]


NO_STRING = "Input should be a valid string."


class Colour(BaseModel):
    name: Literal["red", "blue"]


def paint(colour: Colour, on: date, tags: list[str]) -> str:
    """Paint."""
    return f"{colour.name} {on:%Y} {len(tags)}"


class TestParameters:
    async def test_come_as_json_has_them(self):
        output = await run(paint, colour={"name": "red"}, on="2026-01-31", tags=["a"])
        assert output.text == "red 2026 1"

    @pytest.mark.parametrize(
        ("parameters", "details", "sentence"),
        [
            ({}, {"name": ["This parameter is required."]}, "name: This parameter is required."),
            (
                {"name": "Ada", "loud": True},
                {"loud": ["There is no such parameter."]},
                "loud: There is no such parameter.",
            ),
            (
                {"name": "Ada", "times": "5"},
                {"times": ["Input should be a valid integer."]},
                "times: Input should be a valid integer.",
            ),
            (
                {"name": 5, "times": 0},
                {
                    "name": [NO_STRING],
                    "times": ["Input should be greater than or equal to 1."],
                },
                f"name: {NO_STRING}",
            ),
            ({"name": None}, {"name": [NO_STRING]}, f"name: {NO_STRING}"),
        ],
    )
    async def test_that_do_not_fit_are_named(self, parameters, details, sentence):
        with pytest.raises(CallerError) as refused:
            await run(greet, **parameters)
        assert refused.value.status == 400
        assert refused.value.details == details
        assert refused.value.message == sentence

    async def test_are_named_with_their_place_inside(self):
        with pytest.raises(CallerError) as refused:
            await run(paint, colour={"name": "green"}, on="2026-01-31", tags=["a", 5])
        assert set(refused.value.details) == {"colour.name", "tags.1"}

    async def test_with_half_a_surrogate_pair_are_refused(self):
        with pytest.raises(CallerError, match="text that JSON can't represent"):
            await run(greet, name="\ud800")


@dataclass
class Weather:
    degrees: float
    sky: str


@dataclass
class Spoken(Weather):
    def __str__(self):
        return f"{self.degrees} degrees, {self.sky}"


class TestResults:
    @pytest.mark.parametrize(
        ("value", "text", "data"),
        [
            ("plain", "plain", "plain"),
            ({"a": [1, None]}, '{"a":[1,null]}', {"a": [1, None]}),
            (Weather(21.5, "clear"), '{"degrees":21.5,"sky":"clear"}', {"degrees": 21.5, "sky": "clear"}),
            (Spoken(21.5, "clear"), "21.5 degrees, clear", {"degrees": 21.5, "sky": "clear"}),
            (Colour(name="red"), '{"name":"red"}', {"name": "red"}),
            (date(2026, 1, 31), "2026-01-31", "2026-01-31"),
            ([float("nan"), float("-inf"), 1.5], "[null,null,1.5]", [None, None, 1.5]),
            ("half \ud83d, nul \x00", "half \ufffd, nul \ufffd", "half \ufffd, nul \ufffd"),
            ({"\ud83d": "\x00"}, '{"\ufffd":"\ufffd"}', {"\ufffd": "\ufffd"}),
            (Spoken(1.0, "\ud83d"), "1.0 degrees, \ufffd", {"degrees": 1.0, "sky": "\ufffd"}),
            (None, "null", None),
        ],
    )
    async def test_are_text_and_data(self, value, text, data):
        def give() -> object:
            """Give something."""
            return value

        assert await run(give) == ToolOutput(text, data)

    async def test_of_an_async_function_are_the_same(self):
        async def give() -> dict[str, int]:
            """Give something."""
            return {"a": 1}

        assert await run(give) == ToolOutput('{"a":1}', {"a": 1})

    async def test_a_model_is_given_as_much_as_the_tool_says(self):
        tool(max_result_chars=10)(greet)
        made = toolbox.get("greet", AnonymousUser())
        assert made.for_model(await made.run({"name": "Ada"})) == "Hello Ada"
        assert made.for_model(await made.run({"name": "Augusta Ada"})) == "Hello Augu... (cut here)"


class TestFailing:
    @pytest.mark.parametrize(
        "error", [RuntimeError("secret"), SystemExit("secret"), StopIteration("secret"), TimeoutError("secret")]
    )
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_says_nothing_of_the_cause_but_logs_it(self, error, is_async, caplog):
        def fail() -> None:
            """Fail."""
            raise error

        async def fail_async() -> None:
            """Fail."""
            raise error

        with pytest.raises(ToolError) as failed:
            await run(fail_async if is_async else fail)
        assert failed.value.status == 502
        assert "secret" not in failed.value.message
        assert "secret" in caplog.text

    @pytest.mark.parametrize("error", [ToolError("The shop is closed."), CallerError("The shop has no such thing.")])
    async def test_in_a_sentence_of_its_own_passes_through(self, error):
        def fail() -> None:
            """Fail."""
            raise error

        with pytest.raises(type(error)) as failed:
            await run(fail)
        assert failed.value is error

    @pytest.mark.parametrize("value", [object(), b"\xff"])
    async def test_a_result_that_is_no_json_is_a_failure(self, value):
        def give() -> object:
            """Give something."""
            return value

        with pytest.raises(ToolError, match="The tool give failed"):
            await run(give)

    async def test_over_time_ends_an_async_function(self):
        ended = []

        @tool(timeout=0.05)
        async def dawdle() -> None:
            """Take long."""
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        with pytest.raises(ToolTimeout, match="The tool dawdle took longer than 0"):
            await toolbox.get("dawdle", AnonymousUser()).run({})
        assert ended == [True]

    async def test_over_time_leaves_a_function_in_its_thread_alone(self, settings):
        settings.TOOL_TIMEOUT = 0.05
        release = threading.Event()

        def dawdle() -> None:
            """Take long."""
            release.wait()

        try:
            with pytest.raises(ToolTimeout):
                await run(dawdle)
        finally:
            release.set()


class TestThreads:
    async def test_are_not_the_event_loops(self):
        def where() -> str:
            """Tell where it runs."""
            return threading.current_thread().name

        async def here() -> str:
            """Tell where it runs."""
            return threading.current_thread().name

        assert (await run(where)).text.startswith("assistant-tool")
        assert (await run(here)).text == threading.current_thread().name

    async def test_have_the_callers_context(self):
        caller = ContextVar("caller", default="nobody")
        caller.set("Ada")

        def who() -> str:
            """Tell who calls."""
            return caller.get()

        assert (await run(who)).text == "Ada"

    @pytest.mark.django_db(transaction=True)
    async def test_close_the_connections_that_a_tool_opened(self):
        used = []

        def count() -> int:
            """Count the documents."""
            used.append(connections["default"])
            return Document.objects.count()

        assert (await run(count)).data == 0
        while used[0].connection:  # a moment, for the next tool
            await asyncio.sleep(0.01)
