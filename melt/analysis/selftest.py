"""What a self-test says of a device: steps, each with what was found, the figures behind it and raw excerpts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from melt.records import DeviceFacts


class Status(StrEnum):
    """`ABSENT`: the device has no such thing, which is no defect."""

    PASS = "pass"
    FAIL = "fail"
    ABSENT = "not there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a step found: one sentence, the figures behind it (names carry units; None: not measured), raw excerpts."""

    status: Status
    said: str
    figures: dict[str, float | None] = field(default_factory=dict)
    raw: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step as it was taken. `room` is what it belongs to: link, agent, channels, ..."""

    room: str
    name: str
    finding: Finding
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selftest:
    """A whole self-test. `device` None: it was not reached. `snapshot` maps path or command to what it said."""

    selector: str
    melt_version: str
    agent_version: str | None
    host: str
    started_utc_ns: int
    device: DeviceFacts | None
    steps: tuple[Step, ...]
    snapshot: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> Mapping[Status, int]:
        """How many steps ended in which way."""
        found = Counter(step.finding.status for step in self.steps)
        return {status: found[status] for status in Status}

    @property
    def fine(self) -> bool:
        """Whether nothing failed."""
        return not self.counts[Status.FAIL]


def verdict(
    fine: bool, said: str, figures: Mapping[str, float | None] | None = None, raw: str | None = None
) -> Finding:
    """Return a finding that passes or fails."""
    return Finding(status=Status.PASS if fine else Status.FAIL, said=said, figures=dict(figures or {}), raw=raw)


def absent(said: str, figures: Mapping[str, float | None] | None = None, raw: str | None = None) -> Finding:
    """Return a finding of what a device does not have."""
    return Finding(status=Status.ABSENT, said=said, figures=dict(figures or {}), raw=raw)
