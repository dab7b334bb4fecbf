"""The full-text index of the documents, which the database itself keeps in step.

SQLite: an FTS5 table beside the documents, with triggers. A later migration that makes Django rebuild the table of the
documents drops the triggers, and has to run `SQLITE` again. PostgreSQL: a generated column with a GIN index. Elsewhere:
nothing.
"""

from django.db import migrations

SQLITE = [
    """
    CREATE VIRTUAL TABLE assistant_document_index USING fts5(
        title, text, content='assistant_document', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
    )
    """,
    """
    CREATE TRIGGER assistant_document_inserted AFTER INSERT ON assistant_document BEGIN
        INSERT INTO assistant_document_index(rowid, title, text) VALUES (new.id, new.title, new.text);
    END
    """,
    """
    CREATE TRIGGER assistant_document_deleted AFTER DELETE ON assistant_document BEGIN
        INSERT INTO assistant_document_index(assistant_document_index, rowid, title, text)
        VALUES ('delete', old.id, old.title, old.text);
    END
    """,
    """
    CREATE TRIGGER assistant_document_updated AFTER UPDATE OF id, title, text ON assistant_document BEGIN
        INSERT INTO assistant_document_index(assistant_document_index, rowid, title, text)
        VALUES ('delete', old.id, old.title, old.text);
        INSERT INTO assistant_document_index(rowid, title, text) VALUES (new.id, new.title, new.text);
    END
    """,
    "INSERT INTO assistant_document_index(assistant_document_index) VALUES ('rebuild')",
]
SQLITE_BACK = [
    "DROP TRIGGER assistant_document_updated",
    "DROP TRIGGER assistant_document_deleted",
    "DROP TRIGGER assistant_document_inserted",
    "DROP TABLE assistant_document_index",
]

# A tsvector holds 1 MB at most, so that only the beginning of a huge text is indexed. Accents are taken off, as FTS5
# does: NFD makes them characters of their own, from U+0300 to U+036F.
WITHOUT_ACCENTS = r"normalize(regexp_replace(normalize(left({}, 100000), NFD), '[\u0300-\u036f]', '', 'g'), NFC)"
POSTGRESQL = [
    f"""
    ALTER TABLE assistant_document ADD COLUMN search_vector tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', {WITHOUT_ACCENTS.format("title")}), 'A') ||
        setweight(to_tsvector('english', {WITHOUT_ACCENTS.format("text")}), 'B')
    ) STORED
    """,
    "CREATE INDEX assistant_document_search ON assistant_document USING gin (search_vector)",
]
POSTGRESQL_BACK = ["ALTER TABLE assistant_document DROP COLUMN search_vector"]

THERE = {"sqlite": SQLITE, "postgresql": POSTGRESQL}
BACK = {"sqlite": SQLITE_BACK, "postgresql": POSTGRESQL_BACK}


def create_index(apps, schema_editor):
    for statement in THERE.get(schema_editor.connection.vendor, []):
        schema_editor.execute(statement)


def drop_index(apps, schema_editor):
    for statement in BACK.get(schema_editor.connection.vendor, []):
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("assistant", "0001_initial")]

    operations = [migrations.RunPython(create_index, drop_index)]
