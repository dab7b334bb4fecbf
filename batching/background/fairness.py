"""Round-robin fairness: callers share the workers, however much each has sent."""

from collections.abc import Mapping


class RoundRobin:
    """Favours the callers with the fewest running items, and among these the one served longest ago."""

    def __init__(self) -> None:
        self._turn = 0
        self._last_served: dict[str, int] = {}

    def share(self, count: int, waiting: Mapping[str, int], running: Mapping[str, int]) -> dict[str, int]:
        """Return how many of `count` items each caller may start. `waiting` holds the priority of a caller's items."""
        highest = max(waiting.values(), default=0)
        callers = [caller for caller, priority in waiting.items() if priority == highest]
        self._last_served = {caller: turn for caller, turn in self._last_served.items() if caller in waiting}
        shares = dict.fromkeys(callers, 0)
        for _ in range(count if callers else 0):
            self._turn += 1
            caller = min(callers, key=lambda one: (running.get(one, 0) + shares[one], self._last_served.get(one, 0)))
            shares[caller] += 1
            self._last_served[caller] = self._turn
        return {caller: share for caller, share in shares.items() if share}
