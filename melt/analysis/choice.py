"""Levels of a model as candidates for a device: what each gives, which can be told apart, which are dominated.

A level is dominated where another one is at least as good in all that was measured and told apart in something, so that
nobody has a reason to take it. docs/quants.md says what that rests on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean, median
from types import MappingProxyType

from melt.analysis.figures import Figure as RunFigure
from melt.analysis.judgement import Judgement, judge_difference
from melt.analysis.quality_compare import Difference, Told, differences
from melt.analysis.statistics import MIN_SESSIONS, mean_reach
from melt.records import Artifact
from melt.records.quality import Quality

LEAST_FOR_INTERVAL = 3
"""Two sessions that agree by chance look precise (plan/repeats.py)."""

LEAST_CHUNKS = 2
"""One chunk does not tell how chunks differ."""

EVEN = 0.05
"""Of a few sessions, medians that differ by up to so much count as even, and a figure so near to a limit is not certain
to be on its side of it: sessions vary by 2 %, so two of them differ by 5.5 % (1.96 * root of 2 * 2 %) by chance."""


SAME_SIZE = 0.001
"""Files that differ by less hold the same weights under another header: an importance matrix leaves its name there."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that levels differ in. `better` is +1 where more is better, else -1; `unit` is as stored.

    `counts` says whether it decides who is dominated.
    """

    title: str
    unit: str
    better: int
    counts: bool = True


SIZE, MEMORY, TTFT, DECODE = "file_bytes", "peak_rss_bytes", "ttft_s", "decode_tps"
SUSTAINED, ENERGY, HEAT, LOSS, ACCURACY = (
    "steady_tps",
    "energy_per_token_j",
    "temperature_rise_c",
    "quality_loss",
    "accuracy",
)
QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        SIZE: Quantity("file size", "bytes", -1),
        MEMORY: Quantity("peak memory", "bytes", -1),
        TTFT: Quantity("TTFT", "s", -1),
        DECODE: Quantity("decode", "tok/s", 1),
        SUSTAINED: Quantity("sustained", "tok/s", 1),
        ENERGY: Quantity("energy per token", "j/tok", -1),
        # It depends on how warm the device was, and what it does to a user shows in the sustained rate.
        HEAT: Quantity("temperature rise", "c", -1, counts=False),
        LOSS: Quantity("quality loss", "ratio", -1),
        ACCURACY: Quantity("accuracy", "ratio", 1),
    }
)
"""By name, in the order of a report. Names of metrics are those of runs; `quality_loss` is exp(KL divergence) - 1."""

_PAIRED = {LOSS: "kl", ACCURACY: "accuracy"}
"""What is compared chunk by chunk or item by item, and what `quality_compare` calls it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a level; `low` and `high` bound it with 95 % confidence, None: not known. Exact ones have neither.

    `values` are those of the sessions, one each; none where nothing is known of how such figures vary. `uncertainty` is
    what a meter may be off by in all of them alike; `low` and `high` hold it already.
    """

    value: float
    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] = ()
    exact: bool = False
    uncertainty: float = 0.0

    @property
    def reach(self) -> tuple[float, float]:
        """Between what it lies: its interval, or where too few sessions give none a twentieth and the uncertainty.

        It is without bounds where there is nothing to tell them by.
        """
        if self.low is not None and self.high is not None:
            return self.low, self.high
        if self.exact:
            return self.value, self.value
        if not self.values:
            return -math.inf, math.inf
        ends = [(v, math.hypot(EVEN * v, self.uncertainty)) for v in self.values]
        return min(v - off for v, off in ends), max(v + off for v, off in ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A level. `figures` has what was measured, by quantity, `missing` why something was not.

    `out_of_memory` counts its runs that ended so, whatever became of the others.
    `outcome` is what became of it where it has no figures of the device (`oom`, `cannot be made`), and `why` the
    reason. `needed_bytes` is what a run is expected to take of the memory, of which `available_bytes` were free.
    `answers` says what its answers are worth, by the names of `efficiency_answers.ANSWERS`.
    """

    level: str
    artifact: Artifact | None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    outcome: str | None = None
    why: str | None = None
    sessions: int = 0
    suspect: int = 0
    out_of_memory: int = 0
    needed_bytes: int | None = None
    available_bytes: int | None = None
    total_bytes: int | None = None
    text: Quality | None = None
    choices: Quality | None = None
    answers: Mapping[str, RunFigure] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether it was measured on the device, so that it can be chosen."""
        return self.outcome is None

    @property
    def fits(self) -> str | None:
        """Whether it fits into the memory: `yes`, `not always`, `if memory is freed`, or `no`; None: not known."""
        if self.outcome == "oom":
            return "no"
        if self.runs and self.sessions:
            return "not always" if self.out_of_memory else "yes"
        if self.needed_bytes is None or self.total_bytes is None:
            return None
        if self.needed_bytes > self.total_bytes:
            return "no"
        return "yes" if self.needed_bytes <= (self.available_bytes or 0) else "if memory is freed"

    @property
    def is_reference(self) -> bool:
        """Whether the divergences of all others are from this very file."""
        return self.text is not None and self.text.method.reference_sha256 == self.text.artifact.sha256


class Relation(StrEnum):
    """What can be said of a level against another one in one quantity. `SEEMS_` is by medians of too few sessions."""

    BETTER = "better"
    SEEMS_BETTER = "seems better"
    EVEN = "cannot be told apart"
    SEEMS_WORSE = "seems worse"
    WORSE = "worse"
    UNKNOWN = "not known"


_REVERSED = {
    Relation.BETTER: Relation.WORSE,
    Relation.SEEMS_BETTER: Relation.SEEMS_WORSE,
    Relation.SEEMS_WORSE: Relation.SEEMS_BETTER,
    Relation.WORSE: Relation.BETTER,
}
_OF_TOLD = {Told.BETTER: Relation.BETTER, Told.WORSE: Relation.WORSE, Told.ALIKE: Relation.EVEN}


def over_sessions(values: Sequence[float], uncertainty: float | None = None) -> Figure | None:
    """Boil sessions down to their median with the 95 % interval of Student's t, on logarithms where all are positive.

    `uncertainty` is what a meter may be off by in all of them alike. None for no values; no interval under 3.
    """
    if not values:
        return None
    middle, off = median(values), uncertainty or 0.0
    if len(values) < LEAST_FOR_INTERVAL:
        return Figure(middle, values=tuple(values), uncertainty=off)
    positive = min(values) > 0
    scaled = [math.log(value) for value in values] if positive else list(values)
    mean, half = fmean(scaled), mean_reach(scaled)
    low, high = mean - half, mean + half
    if positive:
        low, high = math.exp(low), math.exp(high)
    # Equal values lie where they are, whatever their logarithms round to.
    low, high = (middle, middle) if min(values) == max(values) else (min(middle, low), max(middle, high))
    return Figure(
        middle,
        middle - math.hypot(middle - low, off),
        middle + math.hypot(high - middle, off),
        tuple(values),
        uncertainty=off,
    )


def quality_loss(quality: Quality) -> Figure | None:
    """Return exp(KL) - 1: by what share a file's perplexity is above the reference's own, as the reference expects it.

    Never negative, hence never better by luck; 0 for the reference. The interval is Student's t over the chunks; of one
    chunk there is none, since tokens of the same text vary together. None where there was no reference.
    """
    text = quality.text
    if text is None:
        return None
    if text.kl_mean is None:
        is_reference = quality.method.reference_sha256 == quality.artifact.sha256
        return Figure(0.0, exact=True) if is_reference else None
    # A rounding below nothing is nothing: a divergence has no other side.
    loss = math.expm1(max(0.0, text.kl_mean))
    if len(text.chunk_kl) < LEAST_CHUNKS:
        return Figure(loss)
    half = mean_reach(text.chunk_kl)
    return Figure(loss, math.expm1(max(0.0, text.kl_mean - half)), math.expm1(text.kl_mean + half))


def relation(first: Candidate, second: Candidate, name: str) -> Relation:
    """Say what `first` is against `second` in a quantity; UNKNOWN where one of them lacks it."""
    a, b = first.figures.get(name), second.figures.get(name)
    if a is None or b is None:
        return Relation.UNKNOWN
    better = QUANTITIES[name].better
    if name in _PAIRED:
        return _paired(first, second, name, a, b)
    if a.exact and b.exact:
        same = abs(a.value - b.value) <= SAME_SIZE * max(a.value, b.value)
        return Relation.EVEN if same else _side(a.value > b.value, better)
    judged = judge_difference(b.values, a.values)
    if judged in (Judgement.HIGHER, Judgement.LOWER):
        return _side(judged is Judgement.HIGHER, better)
    if judged is Judgement.NO_DIFFERENCE:
        return Relation.EVEN
    if abs(a.value - b.value) <= EVEN * max(abs(a.value), abs(b.value)):
        return Relation.EVEN
    higher = (a.value > b.value) == (better > 0)
    return Relation.SEEMS_BETTER if higher else Relation.SEEMS_WORSE


def _side(higher: bool, better: int) -> Relation:
    return Relation.BETTER if higher == (better > 0) else Relation.WORSE


def _paired(first: Candidate, second: Candidate, name: str, a: Figure, b: Figure) -> Relation:
    if name == LOSS and (first.is_reference or second.is_reference):
        # The reference has no divergence to pair with: what is surely above nothing is worse than it.
        other = b if first.is_reference else a
        if first.is_reference and second.is_reference:
            return Relation.EVEN
        sure = Relation.SEEMS_BETTER if other.low is None else Relation.BETTER
        told = sure if (other.value if other.low is None else other.low) > 0 else Relation.EVEN
        return told if first.is_reference else _REVERSED.get(told, told)
    one, other_one = (first.text, second.text) if name == LOSS else (first.choices, second.choices)
    if one is None or other_one is None:
        return Relation.UNKNOWN
    change = next((d for d in differences(other_one, one) if d.quantity == _PAIRED[name]), None)
    return Relation.UNKNOWN if change is None else _of_change(change, a, b, name)


def _of_change(change: Difference, a: Figure, b: Figure, name: str) -> Relation:
    if change.told in _OF_TOLD:
        return _OF_TOLD[change.told]
    if a.value == b.value:
        return Relation.EVEN
    higher = (a.value > b.value) == (QUANTITIES[name].better > 0)
    return Relation.SEEMS_BETTER if higher else Relation.SEEMS_WORSE


def beats(first: Candidate, second: Candidate) -> bool:
    """Whether `first` is at least as good in all that was measured of both, and told to be better in something.

    What was measured of one of them alone leaves it open.
    """
    found = []
    for name, quantity in QUANTITIES.items():
        if quantity.counts and (name in first.figures or name in second.figures):
            found.append(relation(first, second, name))
    worse = {Relation.WORSE, Relation.SEEMS_WORSE, Relation.UNKNOWN}
    return Relation.BETTER in found and not worse & set(found)


def dominated(candidates: Sequence[Candidate]) -> dict[str, tuple[str, ...]]:
    """Map each dominated level to those that dominate it; levels without figures dominate nobody and are not dominated.

    "Cannot be told apart" is not transitive, so levels may beat each other in a ring: of a ring none is dominated by
    another one of it. Hence there is always a level that is not dominated.
    """
    able = [candidate for candidate in candidates if candidate.runs]
    direct = {a.level: {b.level for b in able if a is not b and beats(a, b)} for a in able}
    reached = {level: _reached(level, direct) for level in direct}
    found = {}
    for candidate in able:
        level = candidate.level
        by = tuple(other for other in direct if level in direct[other] and other not in reached[level])
        if by:
            found[level] = by
    return found


def _reached(level: str, direct: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = list(direct[level])
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead += direct[one]
    return seen


def alike_pairs(candidates: Sequence[Candidate], name: str) -> list[tuple[str, str]]:
    """Return the pairs, in the order of the candidates, that the data cannot tell apart in a quantity."""
    return [
        (a.level, b.level)
        for i, a in enumerate(candidates)
        for b in candidates[i + 1 :]
        if relation(a, b, name) is Relation.EVEN
    ]


def too_few(candidates: Iterable[Candidate]) -> int | None:
    """Return how many sessions the level with the fewest has where that is too few to judge speeds, None where not."""
    least = min((candidate.sessions for candidate in candidates if candidate.runs), default=MIN_SESSIONS)
    return least if least < MIN_SESSIONS else None
