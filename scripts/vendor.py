"""Fetch the browser's libraries from the npm registry as this machine has it set up: `make vendor`.

Each package is checked against the hash that stands here, and its files are kept in the repository with its licence.
To take a newer one, write its version and `npm view NAME@VERSION dist.integrity`.
"""

import base64
import hashlib
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = "assistant/static/assistant/vendor"
ADMIN = "config/static/vendor"
TESTS = "tests/browser/vendor"


@dataclass(frozen=True)
class Package:
    """An npm package; `files` are those that are kept, by the names that they get. `licence` is its SPDX name."""

    name: str
    version: str
    integrity: str
    licence: str
    where: str
    files: dict[str, str]


PACKAGES = [
    Package(
        "marked",
        "18.2.1",
        "sha512-ii4bxCTCqqwpT86XZWgJNs+ZnAIZksmLGYMViWA7PDIXYIeNo1x6cDdX3JOip9NM/cI6p8z57FxliACboTruMA==",
        "MIT",
        f"{PAGES}/marked",
        {"lib/marked.esm.js": "marked.js", "LICENSE": "LICENSE"},
    ),
    Package(
        "dompurify",
        "3.4.18",
        "sha512-ofe3wI/uNm68HInABYFJYqQxRw1EaKAjNdrFVKqjUY+UZurvNd2L/HuQe097s/4RivWiZyP6tT7aoT8atjfhwg==",
        "MPL-2.0 OR Apache-2.0",
        f"{PAGES}/dompurify",
        {"dist/purify.es.mjs": "purify.js", "LICENSE": "LICENSE"},
    ),
    Package(
        "@highlightjs/cdn-assets",
        "11.12.0",
        "sha512-KvOKXODaiFmId9xaq3xc5xCL66wVLUuOngDbO9B/kewbFTqdGbn2nJxNhN3H5R1cgDTVj6R8vH0zgiNDEGjpDw==",
        "BSD-3-Clause",
        f"{PAGES}/highlight",
        {"es/highlight.min.js": "highlight.js", "LICENSE": "LICENSE"},
    ),
    Package(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        "MIT",
        f"{ADMIN}/uplot",
        {"dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css", "LICENSE": "LICENSE"},
    ),
    Package(
        "axe-core",
        "4.14.1",
        "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
        "MPL-2.0",
        f"{TESTS}/axe",
        {"axe.min.js": "axe.js", "LICENSE": "LICENSE"},
    ),
]
# A map that isn't kept: a browser's tools would ask for it.
SOURCE_MAP = re.compile(rb"\n//# sourceMappingURL=\S+\s*$")


def fetched(package: Package, directory: Path) -> Path:
    """Return the package's archive. Raises `ValueError` where it isn't the one whose hash is known."""
    command = ["npm", "pack", "--silent", f"--pack-destination={directory}", f"{package.name}@{package.version}"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)  # noqa: S603  # this file's own words
    [archive] = directory.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise ValueError(f"{package.name}@{package.version} isn't what was vendored: its hash is sha512-{digest}")
    return archive


def unpack(package: Package, archive: Path) -> None:
    where = ROOT / package.where
    where.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as packed:
        for name, kept in package.files.items():
            member = packed.extractfile(f"package/{name}")
            if member is None:
                raise ValueError(f"{package.name} has no {name}")
            (where / kept).write_bytes(SOURCE_MAP.sub(b"\n", member.read()))
    (where / "VERSION").write_text(f"{package.name} {package.version}, {package.licence}\n")


def main() -> None:
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as directory:
            unpack(package, fetched(package, Path(directory)))


if __name__ == "__main__":
    main()
