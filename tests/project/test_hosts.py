"""The wheel in projects of others: two of the ways of `make hosts`, and what the pages on extending it show."""

import re
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest

from tests.hosts import pages
from tests.hosts.journey import travel
from tests.hosts.project import Host, borrowing, build
from tests.packages import BASE, EXTRAS, brought
from tests.processes import ROOT
from tests.upstream import Upstream, reply
from wire import __version__

pytestmark = pytest.mark.server

# The index comes first: it has the model.
EXTENDING = sorted(
    (path.stem for path in (ROOT / "docs/extend").glob("*.md")), key=lambda stem: (stem != "README", stem)
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has the wheel."""
    return borrowing(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture
def model() -> Iterator[Upstream]:
    with Upstream(reply("Hello", " world")).in_thread() as upstream:
        yield upstream


def test_the_wheel_has_all_that_the_apps_need_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    apps = [path for app in ("assistant", "batching", "wire") for path in (ROOT / app).rglob("*")]
    assert names == {
        path.relative_to(ROOT).as_posix() for path in apps if path.is_file() and path.suffix not in (".pyc", ".pyo")
    }
    assert {f"{app}/py.typed" for app in ("assistant", "batching", "wire")} <= names


def test_its_metadata_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        text = files.read(next(name for name in files.namelist() if name.endswith("/METADATA"))).decode()
    metadata = message_from_string(text)
    assert (metadata["Version"], metadata["License-Expression"]) == (__version__, "Apache-2.0")
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS.keys()
    assert str(metadata.get_payload()).startswith("# An assistant backend for Django")


def test_batches_alone_in_a_project_under_wsgi(wheel: Path, tmp_path: Path) -> None:
    """The environment has what the distribution needs without an extra, and nothing else."""
    python = borrowing(tmp_path / "environment", wheel, only=brought(BASE))
    host = Host(tmp_path / "host", python)
    host.start()
    travel(host, ("batching",), "runserver")


def test_both_apps_in_a_project_with_rules_of_its_own(python: Path, tmp_path: Path, model: Upstream) -> None:
    host = Host(tmp_path / "host", python, own=True, variables={"OPENAI_BASE_URL": model.url})
    host.start()
    travel(host, ("assistant", "batching"), "uvicorn")


def test_what_the_pages_on_extending_it_show(python: Path, tmp_path: Path) -> None:
    """Each page's files go into one project, whose tests are the pages' own."""
    host = Host(tmp_path / "host", python)
    host.create()
    host.append("urls.py", "from django.urls import include")
    for name, text in pages.installing({"assistant", "batching"}).items():
        host.append(name, text)
    for page in EXTENDING:
        for name, text in pages.shown(f"docs/extend/{page}.md"):
            host.write(name, text)
        if page == "README":
            host.run("manage.py", "makemigrations", "shop")
    said = host.ran("manage.py", "test", "--verbosity=2").stderr
    tested = set(re.findall(r"\(shop\.tests\.test_(\w+)\..*\) \.\.\. .*ok$", said, re.MULTILINE))
    assert tested == {page for page in EXTENDING if page != "README"}, said
