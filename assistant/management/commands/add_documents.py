from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.core.management.base import BaseCommand, CommandError, CommandParser

from assistant.search.documents import add_document
from assistant.search.readers import DocumentError, clean_text, find_files, read_file


class Command(BaseCommand):
    help = (
        "Add text, Markdown, HTML and PDF files, or folders of them, to the search."
        " Adding a file again under the same path replaces it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument(
            "--url-prefix", default="", help="The public address of the files: https://example.com/docs"
        )
        parser.add_argument("--credit", default="", help="Author and licence, shown with each result.")

    def handle(self, *, paths: list[Path], url_prefix: str, credit: str, **options: Any) -> None:
        found = [(root, path) for root in paths for path in find_files(root)]
        failures = 0
        for root, path in self.with_progress(found):
            try:
                self.add(path, url=address(root, path, url_prefix), credit=credit)
            except DocumentError as reason:
                failures += 1
                self.stderr.write(f"{path}: not added, {reason}.")
        if failures:
            raise CommandError(f"{failures} of {len(found)} files couldn't be added.")

    def add(self, path: Path, *, url: str, credit: str) -> None:
        count = add_document(read_file(path), source=clean_text(path.as_posix()), url=url, credit=credit)
        if not self.stdout.isatty():
            self.stdout.write(f"{path}: added" + (f" as {count} passages." if count > 1 else "."))

    def with_progress[T](self, files: list[T]) -> Iterable[T]:
        """Show a progress bar in a terminal, if rich is installed."""
        if not self.stdout.isatty():
            return files
        try:
            from rich.progress import track
        except ImportError:
            return files
        return track(files, description="Adding files")


def address(root: Path, path: Path, prefix: str) -> str:
    """Return the URL of a file: the prefix and the path inside the given folder."""
    if not prefix:
        return ""
    inside = path.name if path == root else path.relative_to(root).as_posix()
    return f"{prefix.rstrip('/')}/{quote(inside, errors='replace')}"
