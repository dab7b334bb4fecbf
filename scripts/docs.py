"""Build the site of the documentation, and fail at any warning: `docs.py [WHERE]`, build/docs unless it is said.

Its pages are docs/**/*.md, what these link to elsewhere in the repository, and the reference, made from the code.
docs/index.md is the navigation: each `## ` of it is a part, each `- [Title](page.md)` in that part a page.
"""

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
ENTRY = re.compile(r"^- \[[^\]]+\]\((\S+)\.md\)", re.MULTILINE)


def main(where: Path) -> int:
    from sphinx.cmd.build import build_main

    source, doctrees, html = where / "source", where / "doctrees", where / "html"
    for made in (source, doctrees, html):
        shutil.rmtree(made, ignore_errors=True)
    stage(source)
    write_reference(source, where / "data")
    write_navigation(source / "index.md")
    strict = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    return build_main([*strict, "-b", "html", "-c", str(DOCS), "-d", str(doctrees), str(source), str(html)])


def stage(source: Path) -> None:
    """Copy the pages and what they link to, so that each link leads to a copy."""
    waiting, staged = list(DOCS.rglob("*.md")), set()
    while waiting:
        file = waiting.pop()
        if file in staged:
            continue
        staged.add(file)
        copy = source / place(file)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            copy.write_text(LINK.sub(lambda link, file=file: moved(file, link[0]), file.read_text()))
            waiting += [linked(file, link) for link in LINK.findall(file.read_text())]
        else:
            shutil.copy(file, copy)


def linked(page: Path, link: str) -> Path:
    file = Path(os.path.normpath(page.parent / link))
    if not file.is_file():
        sys.exit(f"{page.relative_to(ROOT)} links to {link}, which isn't a file.")
    return file


def place(file: Path) -> Path:
    """Return where a file of the repository is among the pages."""
    return file.relative_to(DOCS if file.is_relative_to(DOCS) else ROOT)


def moved(page: Path, link: str) -> str:
    return os.path.relpath(place(linked(page, link)), place(page).parent)


def write_reference(source: Path, data: Path) -> None:
    import django

    os.environ |= {"DEBUG": "true", "ENV_FILE": os.devnull, "ASSISTANT_DATA_DIR": str(data)}
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    sys.path.insert(0, str(ROOT))
    django.setup()
    from reference import pages

    (source / "reference").mkdir()
    index = source / "index.md"
    entries = ""
    for name, (title, text) in pages().items():
        (source / "reference" / f"{name}.md").write_text(f"# {title}\n\n{text}")
        entries += f"- [{title}](reference/{name}.md)\n"
    index.write_text(index.read_text().replace("<!-- made from the code -->\n", entries))


def write_navigation(index: Path) -> None:
    """Add a table of contents, as Sphinx wants it, to each part of the index."""
    start, *parts = re.split(r"^(?=## )", index.read_text(), flags=re.MULTILINE)
    index.write_text("".join([start, *map(with_contents, parts)]))


def with_contents(part: str) -> str:
    title, pages = part.splitlines()[0][3:], "\n".join(ENTRY.findall(part))
    return f"{part.rstrip()}\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n\n"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else ROOT / "build/docs").absolute()))
