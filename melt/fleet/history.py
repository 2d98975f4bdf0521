"""What earlier runs tell of the time that a plan will take."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from melt.plan.expand import cell_key
from melt.records import Outcome
from melt.traces import RunBundle


def seconds_per_repetition(bundles: Iterable[RunBundle]) -> dict[str, float]:
    """Map a cell's key to the seconds that one of its repetitions took, the whole run divided by all of them.

    A run is found again under the threads that it had and under "as many as the session chooses".
    """
    seen: dict[str, list[float]] = defaultdict(list)
    for bundle in bundles:
        spec = bundle.start.spec
        repetitions = spec.repeat.warmup + spec.repeat.repetitions
        if bundle.stop.outcome is not Outcome.OK or not repetitions:
            continue
        took_s = (bundle.stop.ended_utc_ns - bundle.start.started_utc_ns) / 1e9 / repetitions
        for settings in (spec.settings, replace(spec.settings, threads=None)):
            seen[cell_key(replace(spec, settings=settings))].append(took_s)
    return {key: statistics.median(times) for key, times in seen.items()}
