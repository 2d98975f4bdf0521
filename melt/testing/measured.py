"""A measurement made for a test: what `melt run` did, in a process of its own, and what the store has of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from melt.analysis.alike import FIELDS
from melt.analysis.history import histories
from melt.analysis.nightly import judge_nights
from melt.analysis.policy import Baseline, Policy
from melt.analysis.sessions import is_believed, session_values
from melt.analysis.statistics import median_of
from melt.cli._judgeargs import allowed_of, thresholds_of
from melt.errors import MeltError, UsageError
from melt.report.left_out import left_out
from melt.report.nightly import troubles
from melt.store.acknowledged import acknowledgements
from melt.store.selection import Selection
from melt.store.store import Store
from melt.traces import RunBundle

_USAGE = 2


class NotMeasured(MeltError):
    """A figure that was asked for is not there: no run of it may be believed, or the device cannot tell it."""


@dataclass(frozen=True)
class Measured:
    """The runs of one `melt run`. `status` is its exit status, `said` what it said on stderr."""

    store: Path
    sweep_id: str
    runs: tuple[RunBundle, ...]
    status: int
    said: str

    def __getitem__(self, metric: str) -> float:
        """Return a figure, `measured["decode_tps"]`: the median over sessions of believed runs, in the metric's unit.

        Raises NotMeasured. Where several things were measured, `of` tells them apart.
        """
        return self.value(metric)

    def of(self, **asked: str) -> Measured:
        """Return the runs that have these: `of(quant="q4_0")`; also model, device and workload. Raises UsageError."""
        kept = tuple(run for run in self.runs if all(_told(run)[name] == value for name, value in asked.items()))
        if not kept:
            there = "; ".join(sorted({str(_told(run)) for run in self.runs}))
            raise UsageError(f"no run has {asked}: there are {there}")
        return Measured(self.store, self.sweep_id, kept, self.status, self.said)

    def value(self, metric: str) -> float:
        """Return what `measured[metric]` gives."""
        kinds = {tuple(_told(run).values()) for run in self.runs}
        if len(kinds) > 1:
            raise UsageError(f"{metric} of which? Choose with of(quant=...): {sorted(kinds)}")
        believed = [run for run in self.runs if is_believed(run)]
        found = median_of(session_values(believed, lambda run: _figure(run, metric)))
        if found is None:
            ends = left_out((r.stop.outcome, r.stop.verdict, [one.code for one in r.stop.reasons]) for r in self.runs)
            raise NotMeasured(f"{metric} was not measured: {ends}")
        return found

    def regressions(
        self,
        *,
        nights: int = 14,
        thresholds: Mapping[str, float] = MappingProxyType({}),
        allow_differing: Sequence[str] = (),
    ) -> list[str]:
        """Judge it by the nights in the store as `melt regress` does; return a sentence for each thing that is wrong.

        `thresholds` are shares: `{"decode_tps": 0.03}`. A first night has nothing to be held against.
        Raises UsageError for a metric or a field that is none.
        """
        with Store.open(self.store, create=False) as store:
            policy = Policy(
                baseline=Baseline(f"the last {nights} good nights", nights),
                given=thresholds_of(f"{name}={share}" for name, share in thresholds.items()),
                allowed=allowed_of(allow_differing, FIELDS),
                acknowledged=acknowledgements(store),
            )
            series = histories(store.each_bundle(Selection()))
        mine = {run.start.spec.run_id for run in self.runs}
        own = [one for one in series if any(mine.intersection(night.run_ids) for night in one.nights)]
        return list(troubles(judge_nights(own, [self.sweep_id], policy)))


def measure(words: Sequence[str], store: Path, device: str | None) -> Measured:
    """Measure as `melt run` would with these words. Raises UsageError for what it refuses, MeltError if nothing ran."""
    where = () if device is None or any(word.split("=")[0] == "--device" for word in words) else ("--device", device)
    argv = [sys.executable, "-m", "melt", "run", *words, *where, "--store", str(store), "-o", "json"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = done.stderr.strip()
    if done.returncode == _USAGE:
        raise UsageError(said.removeprefix("melt: ") or "melt run refused this")
    if not done.stdout:
        raise MeltError(f"melt run measured nothing: {said}")
    told = json.loads(done.stdout)
    if not isinstance(told, dict):
        raise UsageError("a profile is no measurement: leave out --profile")
    ids = tuple(run for group in told["groups"] for column in group["columns"] for run in column["runs"])
    with Store.open(store, create=False) as opened:
        runs = tuple(opened.bundles(Selection(runs=ids)))
    return Measured(store, runs[0].start.spec.sweep_id, runs, done.returncode, said)


def _told(run: RunBundle) -> dict[str, str]:
    spec = run.start.spec
    told = {"device": run.start.device.name, "model": spec.model, "quant": spec.quant or "none"}
    return told | {"workload": spec.workload.name}


def _figure(run: RunBundle, metric: str) -> float | None:
    return next((one.value for one in run.metrics if one.name == metric and one.repetition is None), None)
