"""Which runs of a page have a timeline, and how fine: what is drawn when it is opened has to lie in the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from melt.report.charts.timeline import timeline_spec
from melt.report.page.parts import pack
from melt.traces import RunBundle

MOST_POINTS = 1500
"""Points of a line: two for each pixel of a wide screen."""

_BUDGET_BYTES = 6 << 20
_MOST_RUNS = 60


@dataclass(frozen=True, slots=True)
class Timelines:
    """Packed charts by the place of their run. `rule` says in words which runs have one, and how to have others."""

    packed: dict[int, str]
    rule: str


def timelines(
    bundles: Sequence[RunBundle],
    with_traces: Callable[[RunBundle], RunBundle],
    wanted: int | None = None,
    most_points: int = MOST_POINTS,
    told: Callable[[int], None] = lambda n: None,
) -> Timelines:
    """Draw the runs that are worth their bytes: the newest of each cell, then the next of each, and so on.

    `wanted` runs, or, where it is None, as many as make 6 MiB, 60 at most. `with_traces` loads what a run sampled;
    `told` is called with the number drawn so far.
    """
    packed: dict[int, str] = {}
    size_bytes, empty, looked = 0, 0, 0
    order = _newest_of_each(bundles)
    for index in order:
        if len(packed) >= (_MOST_RUNS if wanted is None else wanted) or (wanted is None and size_bytes > _BUDGET_BYTES):
            break
        looked += 1
        spec = timeline_spec(with_traces(bundles[index]), most_points=most_points)
        if spec is None:
            empty += 1
            continue
        packed[index] = pack(spec)
        size_bytes += len(packed[index])
        told(len(packed))
    return Timelines(packed, _rule(len(packed), len(bundles) - empty, looked < len(order), most_points))


def _newest_of_each(bundles: Sequence[RunBundle]) -> list[int]:
    """Return places in the order in which runs get a timeline. Bundles are in the order they were made."""
    cells: dict[object, list[int]] = {}
    for index in reversed(range(len(bundles))):
        spec = bundles[index].start.spec
        key = (bundles[index].start.device.device_id, spec.model, spec.quant, spec.workload, spec.settings)
        cells.setdefault(key, []).append(index)
    return [index for rank in zip_longest(*cells.values()) for index in rank if index is not None]


def _rule(drawn: int, runs: int, cut: bool, most_points: int) -> str:
    if not drawn:
        return "No run here has a timeline."
    which = "Every run that recorded anything has a timeline"
    if cut:
        which = (
            f"{drawn} of {runs} runs have a timeline: the newest of every device, model, level and workload, then the"
            " next of each, as far as the file stays small; `--timelines N` keeps N of them"
        )
    return (
        f"{which}. A line has at most {most_points} points, the lowest and the highest of each stretch, so that no peak"
        " is lost; `--points N` makes it finer."
    )
