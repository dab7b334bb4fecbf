import time
from contextlib import suppress

import pytest
from django.contrib.auth.models import AnonymousUser
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.errors import CallerError
from assistant.tools import toolbox
from assistant.tools.calculator import MAX_EXPRESSION_CHARS, calculator


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 2 * 3", 7),
        ("10 / 2", 5),
        ("10 / 4", 2.5),
        ("0.1 + 0.2", 0.3),
        ("7 // 2 + 7 % 2", 4),
        ("-2 ^ 2", -4),
        ("2 ** 10", 1024),
        ("15 × 4 ÷ 3 − 1", 19),  # noqa: RUF001  # as people type it
        ("sqrt(2) ^ 2", 2),
        ("round(pi, 2)", 3.14),
        ("max(1, 2.5, -3)", 2.5),
        ("ln(e)", 1),
        ("factorial(10)", 3628800),
        ("2 ^ 100", "1267650600228229401496703205376"),
    ],
)
def test_calculates(expression, result):
    assert calculator(expression) == result


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("1 / 0", "divides by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("1e308 * 10", "too large"),
        ("round(5, -10 ** 300)", "too large"),
        ("factorial(100000)", "too large"),
        ("9" * MAX_EXPRESSION_CHARS, "too large"),
        ("sqrt(-1)", "no real number"),
        ("(-8) ** (1/3)", "no real number"),
        ("'a' * 1000000", "no real number"),
        ("[1] * 1000000", "isn't arithmetic"),
        ("x + 1", "There is no x here"),
        ("open('/etc/passwd')", "There is no open here"),
        ("().__class__.__mro__", "isn't arithmetic"),
        ("(lambda: 1)()", "isn't arithmetic"),
        ("1; 2", "can't be read"),
        ("a = 1", "can't be read"),
        ("(" * MAX_EXPRESSION_CHARS, "can't be read"),
        ("-" * (MAX_EXPRESSION_CHARS - 1) + "1", "can't be read"),
        ("sqrt(1, 2)", "given what it doesn't take"),
    ],
)
def test_says_what_is_wrong(expression, sentence):
    with pytest.raises(CallerError, match=sentence) as refused:
        calculator(expression)
    assert refused.value.details == {"expression": [refused.value.message]}


async def test_an_expression_has_a_longest_length():
    with pytest.raises(CallerError, match="expression: String should have at most 500 characters"):
        await toolbox.get("calculator", AnonymousUser()).run({"expression": "1" * (MAX_EXPRESSION_CHARS + 1)})


NUMBERS = st.one_of(st.integers(-(10**400), 10**400), st.floats()).map(str)
FUNCTIONS = st.sampled_from("abs round max factorial lcm gcd exp sqrt log floor tan sinh".split())  # noqa: SIM905


def grown(inner):
    return st.one_of(
        st.tuples(inner, st.sampled_from("+ - * / // % ** ^".split()), inner).map("({0[0]}) {0[1]} ({0[2]})".format),  # noqa: SIM905
        st.tuples(FUNCTIONS, st.lists(inner, min_size=1, max_size=3)).map(
            lambda call: f"{call[0]}({','.join(call[1])})"
        ),
        inner.map("-({})".format),
    )


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(st.text(max_size=40), st.recursive(NUMBERS, grown, max_leaves=12)).map(lambda t: t[:MAX_EXPRESSION_CHARS])
)
def test_answers_or_refuses_any_expression_at_once(expression):
    began = time.thread_time()
    with suppress(CallerError):
        assert isinstance(calculator(expression), int | float | str)
    assert time.thread_time() - began < 0.5
