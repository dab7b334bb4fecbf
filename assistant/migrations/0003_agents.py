from django.db import migrations

AGENTS = [
    {
        "id": "default",
        "name": "Assistant",
        "description": "Answers questions.",
        "instructions": "You are a helpful assistant. Answer clearly and in a few sentences.",
        "tools": [],
    },
    {
        "id": "researcher",
        "name": "Researcher",
        "description": "Searches the documents and answers from what it found, with numbered sources.",
        "instructions": (
            "You are a careful researcher. Search the documents before you answer, answer only from what you found,"
            " and cite it as [1], [2] and so on. Say so when nothing was found. Small talk needs no search."
        ),
        "tools": ["search"],
        "temperature": 0.2,
    },
]


def create(apps, schema_editor):
    Agent = apps.get_model("assistant", "Agent")
    for agent in AGENTS:
        Agent.objects.using(schema_editor.connection.alias).get_or_create(id=agent["id"], defaults=agent)


class Migration(migrations.Migration):
    dependencies = [("assistant", "0002_search_index")]

    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
