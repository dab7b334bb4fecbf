from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import AnonymousUser

from assistant.errors import CallerError
from assistant.tools import toolbox


async def test_tells_the_time_in_a_zone():
    output = await toolbox.get("current_time", AnonymousUser()).run({"zone": "Asia/Kolkata"})
    told = datetime.fromisoformat(output.data["time"])
    assert told.utcoffset() == timedelta(hours=5, minutes=30)
    assert abs(told - datetime.now(UTC)) < timedelta(minutes=1)
    assert output.text == f"{told:%A}, {output.data['time']} in Asia/Kolkata"


async def test_is_utc_unless_told_otherwise():
    assert (await toolbox.get("current_time", AnonymousUser()).run({})).data["zone"] == "UTC"


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "../../etc/passwd", "/etc/localtime", "Europe", "a" * 5000, "U\x00"]
)
async def test_an_unknown_zone_is_the_callers_mistake(zone):
    with pytest.raises(CallerError) as refused:
        await toolbox.get("current_time", AnonymousUser()).run({"zone": zone})
    assert list(refused.value.details) == ["zone"]
