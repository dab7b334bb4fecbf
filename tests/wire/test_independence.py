"""The package knows nothing of the apps above it: not their names, their words or their paths."""

import re
from pathlib import Path

import wire

PACKAGE = Path(wire.__file__).parent
WORDS = re.compile(r"batch|assistant|chat|conversation|/api/", re.IGNORECASE)
DISTRIBUTION = "django-assistant-backend"  # the package's own

# Lines that may hold a word all the same, with the reason.
EXCEPTIONS = {
    'is_api = request.path.startswith(getattr(settings, "API_PREFIX", "/api/"))': "the default of a setting",
}


def test_no_word_of_the_apps_occurs() -> None:
    lines = [
        (str(file.relative_to(PACKAGE)), line.strip())
        for file in PACKAGE.rglob("*.py")
        for line in file.read_text().splitlines()
    ]
    found = [(file, line) for file, line in lines if WORDS.search(line.replace(DISTRIBUTION, ""))]
    assert [each for each in found if each[1] not in EXCEPTIONS] == []
    assert EXCEPTIONS.keys() <= {line for _, line in found}
