"""How long a device is still busy, from earlier sweeps and from what this one has run so far."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping

from melt.plan.expand import cell_key
from melt.records import RunSpec


class TimeLeft:
    """What runs took and will take, in seconds. `history` maps a cell's key to the seconds of one repetition."""

    def __init__(self, history: Mapping[str, float]) -> None:
        self._history = history
        self._expected_s: dict[str, float | None] = {}
        self._of_cell: dict[str, list[float]] = defaultdict(list)
        self._of_device: dict[str, list[float]] = defaultdict(list)
        self._slower: dict[str, list[float]] = defaultdict(list)
        self._todo: dict[str, Counter[str]] = defaultdict(Counter)

    def plan(self, spec: RunSpec) -> str:
        """Count a run as one that is to be done, and return its cell's key."""
        key = cell_key(spec)
        if key not in self._expected_s:
            one_s = self._history.get(key)
            repetitions = spec.repeat.warmup + spec.repeat.repetitions
            self._expected_s[key] = None if one_s is None else one_s * repetitions
        self._todo[spec.device][key] += 1
        return key

    def drop(self, device: str, key: str, took_s: float | None = None) -> None:
        """Count a run as done, with the time it took from its begin to its end, None where that tells nothing."""
        self._todo[device][key] -= 1
        if took_s is None:
            return
        self._of_cell[key].append(took_s)
        self._of_device[device].append(took_s)
        if expected_s := self._expected_s.get(key):
            self._slower[device].append(took_s / expected_s)

    def expected_s(self, device: str, key: str) -> float | None:
        """Return what a run of the cell takes: as before in this sweep, as in earlier ones, or as its neighbours."""
        if key in self._of_cell:
            return statistics.mean(self._of_cell[key])
        earlier_s = self._expected_s.get(key)
        if earlier_s is not None:
            return earlier_s * statistics.median(self._slower[device] or [1.0])
        if self._of_device[device]:
            return statistics.mean(self._of_device[device])
        everywhere = [took_s for times in self._of_device.values() for took_s in times]
        return statistics.mean(everywhere) if everywhere else None

    def left_s(self, device: str, running: str | None, elapsed_s: float) -> float | None:
        """Return the time until all runs of a device are done; None where nothing is known of one of them.

        `running` is the cell of the run under way, begun `elapsed_s` ago.
        """
        total_s = 0.0
        for key, count in self._todo[device].items():
            if count > 0:
                each_s = self.expected_s(device, key)
                if each_s is None:
                    return None
                total_s += count * each_s - (min(elapsed_s, each_s) if key == running else 0.0)
        return total_s
