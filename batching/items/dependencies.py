"""The graph of a batch's `depends_on`."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from batching.errors import CallerError


class BadDependencies(CallerError):
    """The items can't be ordered: a dependency is unknown, on itself, or circular."""

    def __init__(self, message: str) -> None:
        super().__init__(message, details={"requests": [message]})


def check(dependencies: Mapping[str, Iterable[str]]) -> None:
    """Raise `BadDependencies` unless every item can start once its dependencies have ended."""
    for item, names in dependencies.items():
        for name in names:
            if name == item:
                raise BadDependencies(f"Item {item} depends on itself.")
            if name not in dependencies:
                raise BadDependencies(f"Item {item} depends on {name}, which isn't in the batch.")
    try:
        TopologicalSorter(dependencies).prepare()
    except CycleError as error:
        cycle = " on ".join(error.args[1][::-1])
        raise BadDependencies(f"These items depend on each other in a circle: {cycle}.") from None
