"""What `make` and the scripts behind it promise."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from config.settings import declared_fields
from tests.processes import ROOT

BROKEN = "#!/bin/sh\necho 'pyenv: python: command not found' >&2\nexit 127\n"
WITHOUT_ENSUREPIP = "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'ensurepip'\" >&2\nexit 1\n"


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, timeout=60, check=False
    )


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """Return a directory with the few programs that the scripts use, and none of the machine's Pythons."""
    for name in ("sh", "tail", "env"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}" if name == "sh" else f"/usr/bin/{name}")
    return tmp_path / "bin"


def find_python(bin_dir: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return run("/bin/sh", "scripts/find_python", **{"PATH": str(bin_dir), "HOME": str(bin_dir.parent), **env})


def working(path: Path) -> Path:
    return program(path, f'#!/bin/sh\nexec {sys.executable} "$@"\n')


def test_make_alone_tells_what_there_is() -> None:
    output = run("make").stdout
    named = "run test crash hosts wheel lint docs bench requirements vendor screenshots clean"
    for target in named.split():
        assert re.search(rf"^make {target} +\S", output, re.MULTILINE)


@pytest.mark.parametrize(
    ("tests", "host"), [("tests/wire/test_json.py", False), ("-q tests/batching/test_paths.py", True)]
)
def test_some_of_the_tests_can_be_run(tests: str, host: bool, tmp_path: Path) -> None:
    """Those of batching get their own project."""
    for name in ("scripts/system_packages", "scripts/install", ".venv/bin/python"):
        program(tmp_path / name, '#!/bin/sh\necho "$@"\n')
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "scripts/test", tmp_path / "scripts/test")
    told = run("make", "--directory", str(tmp_path), "test", f"TESTS={tests}").stdout
    assert f"-m pytest {'--ds=tests.host.settings ' if host else ''}{tests}\n" in told


def test_the_newest_python_that_works_is_found(bin_dir: Path) -> None:
    program(bin_dir / "python3.14", BROKEN)
    working(bin_dir / "python3.13")
    working(bin_dir / "python3.12")
    assert find_python(bin_dir).stdout == "python3.13\n"


def test_a_python_that_only_pyenv_has_is_found(bin_dir: Path) -> None:
    program(bin_dir / "python3.12", BROKEN)
    hidden = working(bin_dir.parent / ".pyenv/versions/3.12.1/bin/python3.12")
    assert find_python(bin_dir).stdout == f"{hidden}\n"


def test_a_named_python_is_taken(bin_dir: Path) -> None:
    working(bin_dir / "python3.13")
    other = working(bin_dir / "mine")
    assert find_python(bin_dir, PYTHON=str(other)).stdout == f"{other}\n"


def test_a_named_python_that_does_not_work_is_refused(bin_dir: Path) -> None:
    working(bin_dir / "python3.13")
    broken = program(bin_dir / "mine", BROKEN)
    result = find_python(bin_dir, PYTHON=str(broken))
    assert result.returncode == 1
    assert result.stderr == f"PYTHON={broken} can't be used: pyenv: python: command not found\n"


def test_no_python_is_said_in_a_sentence(bin_dir: Path) -> None:
    program(bin_dir / "python3", BROKEN)
    result = find_python(bin_dir)
    assert result.returncode == 1
    assert result.stderr.startswith("No Python 3.12, 3.13 or 3.14 that works was found.")
    assert result.stderr.count("\n") == 1


def test_a_python_without_venv_is_told_what_to_install(bin_dir: Path) -> None:
    program(bin_dir / "python3", WITHOUT_ENSUREPIP)
    result = find_python(bin_dir)
    assert result.returncode == 1
    assert "apt-get install python3-venv" in result.stderr


def test_requirements_were_compiled_from_pyproject_as_it_is() -> None:
    result = run(sys.executable, "scripts/requirements.py", "check")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["run", "test", "docs"])
def test_requirements_name_no_address_and_pin_everything(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links", text)
    starts = re.findall(r"^(?!#)\S.*$", text, re.MULTILINE)
    assert starts
    assert all("==" in line for line in starts)


def test_what_is_vendored_has_its_version_and_licence() -> None:
    packages = runpy.run_path(str(ROOT / "scripts/vendor.py"))["PACKAGES"]
    for package in packages:
        where = ROOT / package.where
        assert (where / "VERSION").read_text() == f"{package.name} {package.version}, {package.licence}\n"
        assert {path.name for path in where.iterdir()} == {*package.files.values(), "VERSION"}
        assert (where / "LICENSE").stat().st_size > 500


def test_a_library_that_is_not_the_one_that_is_known_is_not_vendored(tmp_path: Path) -> None:
    program(tmp_path / "npm", "#!/bin/sh\necho changed >package.tgz\n")
    result = run(sys.executable, "scripts/vendor.py", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert result.returncode == 1
    assert "isn't what was vendored: its hash is sha512-" in result.stderr


def test_tests_run_on_what_the_service_runs_on() -> None:
    run_pins, test_pins = (
        set(re.findall(r"^(\S+==\S+)", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))
        for name in ("run", "test")
    )
    assert run_pins <= test_pins


def test_every_setting_of_the_environment_is_documented() -> None:
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', (ROOT / "config/settings.py").read_text()))
    documented = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert documented == read | {field.name for field, _ in declared_fields()}


def test_the_defaults_that_are_documented_are_the_codes(tmp_path: Path) -> None:
    def settings(file: str) -> dict[str, object]:
        told = {"DEBUG": "true", "ENV_FILE": file, "ASSISTANT_DATA_DIR": str(tmp_path)}
        with mock.patch.dict(os.environ, told, clear=True):
            read = runpy.run_path(str(ROOT / "config/settings.py"))
        return {name: value for name, value in read.items() if name.isupper()}

    assert settings(str(ROOT / ".env.example")) == settings(os.devnull)


@pytest.mark.parametrize(
    "script", sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.suffix)
)
def test_scripts_can_be_run(script: str) -> None:
    path = ROOT / "scripts" / script
    assert os.access(path, os.X_OK)
    assert run("bash", "-n", str(path)).returncode == 0
