"""What the distribution's requirements bring, as far as this environment has it; nothing is fetched."""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def brought(requirements: Iterable[str]) -> set[str]:
    """Return the names of the distributions that these requirements install, with what they need themselves."""
    found: set[str] = set()
    waiting = [(Requirement(text), frozenset[str]()) for text in requirements]
    while waiting:
        requirement, extras = waiting.pop()
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found or requirement.extras:
            found.add(name)
            inner = distribution(name).requires or []
            waiting += [(Requirement(text), frozenset(requirement.extras)) for text in inner]
    return found


def named(requirements: Iterable[str]) -> list[str]:
    return [Requirement(text).name for text in requirements]


def modules(names: Iterable[str]) -> set[str]:
    """Return the modules of these distributions."""
    wanted = {canonicalize_name(name) for name in names}
    return {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & wanted
    }


def others(allowed: set[str]) -> set[str]:
    """Return the modules that this environment has from other distributions than the allowed ones."""
    return set(packages_distributions()) - modules(allowed) - sys.stdlib_module_names


def link(names: set[str], site: Path) -> None:
    """Put these distributions of this environment, and no others, into another one's site-packages."""
    for found in map(distribution, names):
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            (site / top).symlink_to(str(found.locate_file(top)))
