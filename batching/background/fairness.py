"""By turns: callers share the workers, whoever has sent how much."""

from collections.abc import Mapping


class RoundRobin:
    """Whose turn it is: those who have the least running, and among them who was served longest ago."""

    def __init__(self) -> None:
        self._turn = 0
        self._served: dict[str, int] = {}

    def deal(self, places: int, waiting: Mapping[str, int], running: Mapping[str, int]) -> dict[str, int]:
        """Return how many places each caller gets. `waiting` has the priority of what each has waiting."""
        highest = max(waiting.values(), default=0)
        callers = [caller for caller, priority in waiting.items() if priority == highest]
        self._served = {caller: turn for caller, turn in self._served.items() if caller in waiting}
        dealt = dict.fromkeys(callers, 0)
        for _ in range(places if callers else 0):
            self._turn += 1
            next_one = min(callers, key=lambda each: (running.get(each, 0) + dealt[each], self._served.get(each, 0)))
            dealt[next_one] += 1
            self._served[next_one] = self._turn
        return {caller: count for caller, count in dealt.items() if count}
