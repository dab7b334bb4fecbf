"""What happens in a cycle: what a client does, and what befalls the processes meanwhile."""

import json
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.crash.client import Client
from tests.crash.fleet import Fleet, Process
from tests.crash.ledger import Ledger, Lines
from tests.crash.points import AFTER, BEFORE, IN_THE_VIEW
from tests.processes import stop

# How many of the latest batches are looked at after a cycle: late writes reach back.
LATEST = 6

# Seconds without a call, after which a cycle is stuck; and how many times that in all.
PATIENCE = 60.0
TIMES = 10

POINTS = (*BEFORE, *AFTER, IN_THE_VIEW)
# What a client has to do for a point to be reached; all others are reached whatever he does.
LEADS_TO = {
    "before a release": "later",
    "released": "later",
    "cancelling": "cancel",
    "cancelled": "cancel",
    "before a retry": "retry",
    "slice accepted": "upload",
    "before a slice is accepted": "upload",
}
# Where a process that is paused has an item in its hands.
WITH_AN_ITEM = (IN_THE_VIEW, "after the view", "before the end is written")
# What goes wrong only if it comes together: what a second process does while the first one sleeps in the middle.
PAIRS = (
    (("pause", "before a batch shows"), ("pause", "forgetting")),
    (("pause", "slice accepted"), ("kill", "forgetting")),
    (("pause", "after the view"), ("pause", "before the reaper")),
    (("kill", "claimed"), ("kill", "after the reaper")),
    (("kill", "in the view"), ("kill", "before a release")),
    (("pause", "between rows and counts"), ("kill", "claimed")),
    (("pause", "before the end is written"), ("kill", "after the view")),
)


@dataclass
class Fault:
    """Something that befalls a process: at a point, or where there is none `after` so many seconds.

    One that is paused is `asleep` for so many leases, or until its item is `taken` over.
    """

    action: str
    point: str = ""
    after: float = 0.0
    chance: float = 1.0
    asleep: float = 0.0
    taken: bool = False


@dataclass
class Plan:
    doing: str
    faults: list[Fault] = field(default_factory=list)


def plan(luck: random.Random, outages: dict[str, int]) -> Plan:
    """Draw what a cycle is to be; `outages` says how often, in a hundred cycles or so, what is taken away."""
    weights = {"kill at": 55, "pause at": 18, "pair": 8, "kill": 10, "pause": 5, **outages}
    kind = luck.choices(list(weights), list(weights.values()))[0]
    if kind == "pair":
        pair = [Fault(action, point, asleep=asleep(luck)) for action, point in luck.choice(PAIRS)]
        return Plan("upload" if "forgetting" in pair[1].point else "batch", pair)
    if kind.endswith(" at"):
        point = luck.choice(POINTS)
        action = kind.removesuffix(" at")
        if action == "pause" and point in WITH_AN_ITEM and luck.random() < 0.5:
            return taken_over(point)
        doing = LEADS_TO.get(point) or luck.choice(["batch", "later"])
        chance = 1.0 if point in LEADS_TO else luck.choice([1.0, 0.6, 0.3])
        return Plan(doing, [Fault(action, point, chance=chance, asleep=asleep(luck))])
    doing = luck.choice(["batch", "later", "cancel", "retry", "upload", "hang up"])
    count = luck.choice([1, 2]) if kind == "kill" else 1
    return Plan(doing, [Fault(kind, after=luck.uniform(0, 0.3), asleep=asleep(luck)) for _ in range(count)])


def taken_over(point: str) -> Plan:
    """Have a process come back just when another one is about the same item."""
    return Plan("taken over", [Fault("pause", point, asleep=8, taken=True)])


def asleep(luck: random.Random) -> float:
    """Return for how many leases a process sleeps: long enough to lose what it holds, and what it receives."""
    return luck.uniform(1.4, 3.2)


class Stuck(Exception):
    """A batch has not ended, though everything that was taken away is there again."""


class Trouble:
    """Has faults happen, one after the other, and wakes up who was put to sleep."""

    def __init__(self, loop: "Loop", faults: list[Fault]) -> None:
        self.record, self.database, self.fleet = loop.record, loop.database, loop.fleet
        self.luck, self.lease, self.broker = loop.luck, loop.lease, loop.broker
        self.ahead = list(faults)
        self.began = time.monotonic()
        self.asleep: list[tuple[float, bool, Process]] = []
        self.happened: Counter[str] = Counter()
        self.arm()

    @property
    def is_over(self) -> bool:
        """Tell whether all has happened; what waits for a point that nobody reaches need not."""
        return not self.asleep and all(fault.point for fault in self.ahead)

    def arm(self) -> None:
        if self.ahead and self.ahead[0].point:
            self.record.arm(self.ahead[0])

    def disarm(self) -> None:
        self.record.disarm()
        self.happened["not reached"] += len(self.ahead)

    def step(self) -> None:
        now = time.monotonic()
        taken = any(call["fence"] > 1 for call in self.record.calls.new())
        for strike in self.record.strikes.new():
            process = self.fleet.found(strike["pid"]) if strike["action"] == "pause" else None
            if self.ahead and self.ahead[0].point == strike["point"]:
                self.over(now, process)
            elif process:  # struck just when its cycle ended
                self.asleep.append((now + self.lease, False, process))
        if self.ahead and not self.ahead[0].point and now - self.began > self.ahead[0].after:
            self.strike(self.ahead[0], now)
        for sleeper in list(self.asleep):
            until, or_taken, process = sleeper
            if until <= now or (or_taken and taken):
                self.fleet.wake(process)
                self.asleep.remove(sleeper)

    def over(self, now: float, process: Process | None) -> None:
        """Go on after a process was struck."""
        fault = self.ahead.pop(0)
        self.happened[f"{fault.action} {fault.point}".strip()] += 1
        if fault.action == "pause" and process:
            self.asleep.append((now + fault.asleep * self.lease, fault.taken, process))
        self.arm()

    def strike(self, fault: Fault, now: float) -> None:
        """Do to any process, or to the database, what isn't bound to a point."""
        process = self.luck.choice(self.fleet.processes)
        match fault.action:
            case "kill":
                process.signal(signal.SIGKILL)
            case "pause":
                process.signal(signal.SIGSTOP)
            case "crash":
                self.database.crash()
            case "outage":
                with self.database.gone():
                    time.sleep(fault.asleep * self.lease)
            case "broker":
                stop(self.broker.process)
                time.sleep(fault.asleep * self.lease)
                self.broker.start()
        self.over(now, process)


class Record:
    """The files by which the loop and the processes under test know of each other."""

    def __init__(self, directory: Path) -> None:
        self.calls, self.strikes = Lines(directory / "calls"), Lines(directory / "strikes")
        self.armed = directory / "armed"

    def arm(self, fault: Fault) -> None:
        draft = self.armed.with_suffix(".new")
        draft.write_text(json.dumps({"point": fault.point, "action": fault.action, "chance": fault.chance}))
        draft.rename(self.armed)

    def disarm(self) -> None:
        self.armed.unlink(missing_ok=True)


class Loop:
    """One run: cycle after cycle on one database."""

    def __init__(
        self,
        directory: Path,
        database: Any,
        fleet: Fleet,
        client: Client,
        *,
        luck: random.Random,
        lease: float,
        broker: Any,
    ) -> None:
        self.record, self.database, self.fleet, self.client = Record(directory), database, fleet, client
        self.luck, self.lease, self.broker = luck, lease, broker
        self.patience = PATIENCE
        self.happened: Counter[str] = Counter()
        self.doing = ThreadPoolExecutor(1)

    def cycle(self, number: int, plan: Plan) -> list[str]:
        """Do what is planned until everything has ended; returns what isn't as promised."""
        name = f"{number}-{self.luck.randrange(16**6):06x}"
        trouble = Trouble(self, plan.faults)
        done = self.doing.submit(getattr(self, plan.doing.replace(" ", "_")), name)
        began = latest = time.monotonic()
        calls = 0
        try:
            while not (done.done() and trouble.is_over and not self.open()):
                now = time.monotonic()
                if len(self.record.calls.all) > calls:
                    calls, latest = len(self.record.calls.all), now
                if now - latest > self.patience or now - began > TIMES * self.patience:
                    raise Stuck(f"{self.open()} batches are open, {now - latest:.0f} s after the last call")
                self.fleet.tend()
                trouble.step()
                time.sleep(0.01)
        finally:
            trouble.disarm()
            self.happened += trouble.happened
        done.result()
        return self.ledger(whole=False).wrong()

    def start_over(self) -> None:
        """Begin with new processes and without any batch."""
        self.fleet.kill()
        for table in ("crash_transition", "batching_batchitem", "batching_batch"):
            self.database.do(f"DELETE FROM {table}")
        self.client.promises.clear()

    def ledger(self, *, whole: bool) -> Ledger:
        self.record.calls.new()
        promises = self.client.promises
        return Ledger(self.database, self.record.calls.all, promises if whole else promises[-LATEST:], whole=whole)

    def open(self) -> int:
        found: int = self.database.rows("SELECT COUNT(*) FROM batching_batch WHERE finished_at IS NULL")[0][0]
        return found

    # What a client does.

    def batch(self, name: str) -> None:
        self.client.submit(name, self.items(name, ["fine", "fine", "fine", "refused"]))

    def taken_over(self, name: str) -> None:
        """Send one item that takes whoever takes it over so long that both are about it at once."""
        self.client.submit(name, self.items(name, ["fine"], again=1)[:1])

    def later(self, name: str) -> None:
        """Send what is to be tried again."""
        self.client.submit(name, self.items(name, ["later"]))

    def upload(self, name: str) -> None:
        """Send a batch slowly."""
        self.client.submit(name, self.items(name, ["fine"]), pause=self.luck.uniform(0, 0.03))

    def cancel(self, name: str) -> None:
        batch_id = self.client.submit(name, self.items(f"cancel-{name}", ["fine"], seconds=0.05))
        time.sleep(self.luck.uniform(0, 0.15))
        self.client.cancel(batch_id)

    def retry(self, name: str) -> None:
        """Send what fails, and ask for it again until that is heard: it is refused as long as the batch is open."""
        batch_id = self.client.submit(name, self.items(name, ["refused"]))
        self.client.retry(batch_id, self.client.promises[-1].total)

    def hang_up(self, name: str) -> None:
        with suppress(OSError):
            self.client.hang_up(self.items(name, ["fine"]))
        self.client.submit(name, self.items(f"{name}-again", ["fine"]))

    def items(self, name: str, kinds: list[str], **seconds: float) -> list[dict[str, str]]:
        return [
            {"id": str(n), "method": "POST", "path": f"/api/called/{kind}/{name}-{n}?{self.times(**seconds)}"}
            for n, kind in enumerate(self.luck.choices(kinds, k=self.luck.randint(3, 6)))
        ]

    def times(self, **seconds: float) -> str:
        return urlencode({"seconds": self.luck.choice([0, 0, 0.02, 0.1]), "again": 0.02, **seconds})
