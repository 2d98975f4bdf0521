"""What measuring cost: the agent reports its own CPU time, memory and the ticks it could not keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melt.analysis.figures import Figure
from melt.telemetry.journal import Event

_NOT_SAID = "the agent did not report on itself"


@dataclass(frozen=True, slots=True)
class Overhead:
    """The agent's own figures. `cpu_ratio` is of one CPU; `ticks` were kept, `missed` were not."""

    cpu_ratio: float | None
    rss_bytes: float | None
    missed: int | None
    ticks: int | None

    @property
    def missed_share(self) -> float | None:
        """Missed ticks of all that were due."""
        if self.missed is None or self.ticks is None or self.missed + self.ticks == 0:
            return None
        return self.missed / (self.missed + self.ticks)


def overhead(events: Sequence[Event]) -> Overhead:
    """Read the agent's `self` events. Their counters begin at the start of the job."""
    own = [e for e in events if e.name == "self"]
    cpu = [(e.t_ns, value) for e in own if (value := _number(e.data.get("cpu_ns"))) is not None]
    memory = [value for e in own if (value := _number(e.data.get("rss_bytes"))) is not None]
    cpu_ratio = None
    if len(cpu) > 1 and cpu[-1][0] > cpu[0][0]:
        cpu_ratio = (cpu[-1][1] - cpu[0][1]) / (cpu[-1][0] - cpu[0][0])
    return Overhead(
        cpu_ratio=cpu_ratio,
        rss_bytes=max(memory) if memory else None,
        missed=_last_sum(own, "missed"),
        ticks=_last_sum(own, "ticks"),
    )


def overhead_figures(seen: Overhead) -> dict[str, Figure]:
    """Return the agent's CPU share, memory and missed ticks."""
    values = {"agent_cpu_ratio": seen.cpu_ratio, "agent_rss_bytes": seen.rss_bytes, "missed_ticks": seen.missed}
    return {name: Figure(value, _NOT_SAID if value is None else None, "agent") for name, value in values.items()}


def _last_sum(events: Sequence[Event], key: str) -> int | None:
    """Add up a counter that is kept per group, as it stood last."""
    for event in reversed(events):
        counts = event.data.get(key)
        if isinstance(counts, Mapping):
            return sum(int(value) for count in counts.values() if (value := _number(count)) is not None)
    return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
