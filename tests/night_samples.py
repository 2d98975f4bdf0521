"""Nights as a job makes them, simulated: a sweep each night, sessions that differ, and a change planted when asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from store_samples import STARTED_UTC_NS, make_bundle

from melt.records import Apart, Metric, Session
from melt.traces import RunBundle

DAY_NS = 86_400_000_000_000


@dataclass(frozen=True)
class Lab:
    """One series, night after night. Spreads are standard deviations, as shares; `drops` maps a night to its factor."""

    sessions: int = 6
    repetitions: int = 5
    session_cv: float = 0.02
    repetition_cv: float = 0.015
    night_cv: float = 0.0
    seed: int = 1

    def night(self, index: int, factor: float = 1.0, **how: object) -> list[RunBundle]:
        """Return the runs of one night, always the same ones; `factor` multiplies the decode rate."""
        random = np.random.default_rng((self.seed, index))
        tonight = 1 + self.night_cv * random.standard_normal()
        return [
            _run(index, block, tonight * factor * self._session(random), tonight * self._session(random), how)
            for block in range(self.sessions)
        ]

    def _session(self, random: np.random.Generator) -> np.ndarray:
        session = 1 + self.session_cv * random.standard_normal()
        return session * (1 + self.repetition_cv * random.standard_normal(self.repetitions))


def publish(store: object, nights: Iterable[list[RunBundle]]) -> None:
    for night in nights:
        for bundle in night:
            store.publish(bundle)


def sweep_id(index: int) -> str:
    return f"night-{index:03d}"


def _run(index: int, block: int, decode: np.ndarray, prefill: np.ndarray, how: dict[str, object]) -> RunBundle:
    name = sweep_id(index)
    made = make_bundle(f"{name}-{block}", sweep_id=name, block=block, repetitions=len(decode), **how)
    if made.stop.outcome != "ok":
        return _at(made, index, block)
    metrics = []
    for metric, values, level in (("decode_tps", decode, 30.0), ("prefill_tps", prefill, 500.0)):
        metrics += [Metric(name=metric, value=level * v, unit="tok/s", repetition=i) for i, v in enumerate(values)]
        metrics.append(Metric(name=metric, value=level * float(np.median(values)), unit="tok/s"))
    return _at(replace(made, metrics=tuple(metrics)), index, block)


def _at(made: RunBundle, index: int, block: int) -> RunBundle:
    began = STARTED_UTC_NS + index * DAY_NS + block * 600_000_000_000
    session = Session(
        uid=made.start.spec.run_id,
        sweep_id=made.start.spec.sweep_id,
        device_id=made.start.device.device_id,
        block=block,
        number=block,
        apart=Apart.PAUSE,
        began_utc_ns=began,
    )
    return replace(
        made,
        start=replace(made.start, started_utc_ns=began, session=session),
        stop=replace(made.stop, ended_utc_ns=began + 30_000_000_000),
    )
