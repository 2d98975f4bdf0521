"""How long a device is still busy, from earlier sweeps and from what this one has run so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from melt.plan.expand import cell_key
from melt.records import RunSpec


@dataclass(slots=True)
class _Mean:
    """The mean of what was added, None before."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class TimeLeft:
    """What runs took and will take, in seconds. `history` maps a cell's key to the seconds of one repetition."""

    def __init__(self, history: Mapping[str, float]) -> None:
        self._history = history
        self._expected_s: dict[str, float | None] = {}
        self._of_cell: dict[str, _Mean] = defaultdict(_Mean)
        self._of_device: dict[str, _Mean] = defaultdict(_Mean)
        self._of_all = _Mean()
        self._slower: dict[str, _Mean] = defaultdict(_Mean)
        self._todo: dict[str, Counter[str]] = defaultdict(Counter)

    def plan(self, spec: RunSpec) -> str:
        """Count a run as one that is to be done, and return its cell's key."""
        key = cell_key(spec)
        if key not in self._expected_s:
            one_s = self._history.get(key)
            repetitions = spec.repeat.warmup + spec.repeat.repetitions
            # Nobody knows it, but a sustained workload lasts as long as it is asked to.
            one_s = spec.workload.duration_s if one_s is None else one_s
            self._expected_s[key] = None if one_s is None else one_s * repetitions
        self._todo[spec.device][key] += 1
        return key

    def drop(self, device: str, key: str, took_s: float | None = None) -> None:
        """Count a run as done, with the time it took from its begin to its end, None where that tells nothing."""
        self._todo[device][key] -= 1
        if took_s is None:
            return
        for mean in (self._of_cell[key], self._of_device[device], self._of_all):
            mean.add(took_s)
        if expected_s := self._expected_s.get(key):
            self._slower[device].add(took_s / expected_s)

    def expected_s(self, device: str, key: str) -> float | None:
        """Return what a run of the cell takes: as before in this sweep, as in earlier ones, or as its neighbours."""
        seen_s = self._of_cell[key].value
        if seen_s is not None:
            return seen_s
        earlier_s = self._expected_s.get(key)
        if earlier_s is not None:
            return earlier_s * (self._slower[device].value or 1.0)
        nearby_s = self._of_device[device].value
        return self._of_all.value if nearby_s is None else nearby_s

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
