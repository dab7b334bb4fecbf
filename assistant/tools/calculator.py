"""The tool `calculator`: arithmetic whose steps are bounded, so that no expression takes long."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from simpleeval import FunctionNotDefined, InvalidExpression, NameNotDefined, SimpleEval

from assistant.errors import CallerError
from assistant.tools.toolbox import tool

MAX_EXPRESSION_CHARS = 500
MAX_BITS = 1_024
MAX_FACTORIAL = 150
MAX_DIGITS = 300
# JSON parsers agree on integers up to here; a larger one is returned as text (RFC 7493, 2.2).
MAX_JSON_INTEGER = 2**53 - 1
TYPED_SIGNS = str.maketrans(
    {"^": "**", "\N{MULTIPLICATION SIGN}": "*", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-", "\N{MIDDLE DOT}": "*"}
)

Number = int | float


def with_bounds(function: Callable[..., Any]) -> Callable[..., Number]:
    """Wrap a step of a calculation: it takes and returns only real numbers of a bounded size."""

    def step(*numbers: Any) -> Number:
        return check_number(function(*map(check_number, numbers)))

    return step


def check_number(value: Any) -> Number:
    if type(value) not in (int, float):
        raise ValueError("not a number")
    if not math.isfinite(value) or (isinstance(value, int) and value.bit_length() > MAX_BITS):
        raise OverflowError
    number: Number = value
    return number


def power(base: Number, exponent: Number) -> Any:
    """Raise to a power, unless the result would clearly be too large."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > 2 * MAX_BITS:
        raise OverflowError
    return base**exponent


def factorial(number: int) -> int:
    if number > MAX_FACTORIAL:
        raise OverflowError
    return math.factorial(number)


def bounded_round(number: Number, digits: int = 0) -> Number:
    if abs(digits) > MAX_DIGITS:
        raise OverflowError
    return round(number, digits)


# fmt: off
MATH: tuple[Callable[..., Any], ...] = (
    abs, min, max, factorial, math.sqrt, math.cbrt, math.exp, math.log, math.log2, math.log10, math.floor, math.ceil,
    math.gcd, math.lcm, math.sin, math.cos, math.tan, math.asin, math.acos, math.atan, math.atan2, math.sinh, math.cosh,
    math.tanh, math.degrees, math.radians,
)
# fmt: on
FUNCTIONS: dict[str, Callable[..., Any]] = {function.__name__: function for function in MATH} | {
    "ln": math.log,
    "round": bounded_round,
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
NODES = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Constant)


def make_evaluator() -> SimpleEval:
    evaluator = SimpleEval(
        operators={node: with_bounds(function) for node, function in OPERATORS.items()},
        functions={name: with_bounds(function) for name, function in FUNCTIONS.items()},
        names={"pi": math.pi, "e": math.e, "tau": math.tau},
    )
    evaluator.nodes = {node: evaluator.nodes[node] for node in NODES}
    return evaluator


# Shared by all threads: between expressions it keeps only the text for its own error messages.
EVALUATOR = make_evaluator()


@tool
def calculator(
    expression: Annotated[
        str,
        Field(description="Such as (17.5 * 4 - 3) / 2 or sqrt(2) ^ 3.", min_length=1, max_length=MAX_EXPRESSION_CHARS),
    ],
) -> int | float | str:
    """Calculate an arithmetic expression, with + - * / // % ^ and functions such as sqrt, sin, log, round and max."""
    try:
        tree = ast.parse(expression.translate(TYPED_SIGNS).strip(), mode="eval").body
        return simplify(check_number(EVALUATOR.eval(expression, previously_parsed=tree)))
    except (SyntaxError, MemoryError, RecursionError):  # the last two: nested too deeply
        message = "This can't be read as arithmetic."
    except ZeroDivisionError:
        message = "This divides by zero."
    except OverflowError:
        message = "The numbers in this get too large."
    except (NameNotDefined, FunctionNotDefined) as error:
        message = f"There is no {getattr(error, 'name', None) or error.func_name} here."
    except InvalidExpression:
        message = "This isn't arithmetic."
    except TypeError:
        message = "A function in this is given what it doesn't take."
    except ValueError:
        message = "This has no real number as its result."
    raise CallerError(message, details={"expression": [message]})


def simplify(value: Number) -> int | float | str:
    """Return a number as people write it: 0.1 + 0.2 is 0.3, and 10 / 2 is 5."""
    if isinstance(value, float):
        short = float(f"{value:.15g}")
        return int(short) if short.is_integer() and abs(short) <= MAX_JSON_INTEGER else short
    return value if abs(value) <= MAX_JSON_INTEGER else str(value)
