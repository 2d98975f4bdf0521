"""Runs for benchmarks of the store: one that was really measured, drawn again for many devices, levels and nights."""

from __future__ import annotations

import hashlib
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from sys import stderr
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melt.cli.main import main as melt
from melt.errors import StoreError
from melt.records import Metric, Verdict, Workload
from melt.store.store import Store
from melt.traces import RunBundle, Trace

NIGHTS = 200
LEVELS = {"f16": 1.0, "q8_0": 1.5, "q6_k": 1.7, "q5_k_m": 1.8, "q4_k_m": 2.1, "q4_0": 2.3}
"""How much faster each is than the first."""

_DEVICES = 8
_WORKLOADS = (Workload(n_prompt=64, n_gen=64), Workload(n_prompt=512, n_gen=128))
_CELLS = _DEVICES * len(LEVELS) * len(_WORKLOADS)
_DOUBTED = 10
"""One run in so many keeps the reasons against it that the measured one had; the others are valid."""

_DAY_NS = 86_400 * 10**9
_RUN_NS = 60 * 10**9
_BLOCK_ROWS = 32
_FRACTION_DIGITS = 9

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Template:
    """A measured run with its traces; what is made of it depends on these numbers and on the run's number alone."""

    bundle: RunBundle
    runs: int
    samples_per_run: int

    def run(self, number: int) -> RunBundle:
        """Make the run with this number, from 0."""
        random = np.random.default_rng(number)
        night, cell = number * NIGHTS // self.runs, number % _CELLS
        device, level = f"device-{cell % _DEVICES}", list(LEVELS)[cell // _DEVICES % len(LEVELS)]
        speed = LEVELS[level] * (1 + cell % _DEVICES / 4) * random.normal(1, 0.01)
        start, run_id, sweep_id = self.bundle.start, f"run-{number:06d}", f"night-{night:04d}"
        begun_ns = start.started_utc_ns + night * _DAY_NS + number * _RUN_NS
        spec = replace(
            start.spec,
            run_id=run_id,
            sweep_id=sweep_id,
            position=number,
            cell=cell,
            device=device,
            quant=level,
            workload=_WORKLOADS[cell // _DEVICES // len(LEVELS)],
        )
        artifact = replace(start.artifact, quant=level, sha256=hashlib.sha256(level.encode()).hexdigest())
        stop = self.bundle.stop
        if number % _DOUBTED:
            stop = replace(stop, verdict=Verdict.VALID, reasons=())
        session = start.session and replace(
            start.session, uid=run_id, sweep_id=sweep_id, device_id=device, number=cell, began_utc_ns=begun_ns
        )
        return replace(
            self.bundle,
            start=replace(
                start,
                spec=spec,
                artifact=artifact,
                session=session,
                device=replace(start.device, device_id=device, name=device),
                started_utc_ns=begun_ns,
            ),
            stop=replace(stop, run_id=run_id, ended_utc_ns=begun_ns + _RUN_NS),
            metrics=tuple(_redrawn(metric, speed, random) for metric in self.bundle.metrics),
            traces=tuple(_drawn_again(t, self._rows(t), random) for t in self.bundle.traces),
        )

    def _rows(self, trace: Trace) -> int:
        return max(2, round(len(trace.t_ns) * self.samples_per_run / samples_of(self.bundle)))


def samples_of(bundle: RunBundle) -> int:
    """Count the values in all channels of a run; its times are not counted."""
    return sum(len(trace.t_ns) * len(trace.columns) for trace in bundle.traces)


def template(folder: Path, runs: int, samples_per_run: int) -> Template:
    """Return the run that others are made of, measured on this machine where the folder has none yet."""
    try:
        store = Store.open(folder / "measured", create=False)
    except StoreError:
        with redirect_stdout(stderr):
            asked = ("run", "--model", "tiny-pydoc", "-pg", "64,64", "-r", "3")
            if melt([*asked, "--store", str(folder / "measured")]):
                raise SystemExit("store: the run that the others are made of did not end well") from None
        store = Store.open(folder / "measured", create=False)
    with store:
        bundle = store.bundle("last")
        traces = tuple(store.trace("last", name) for name in store.collectors("last"))
        journal = folder / "journal"
        journal.write_bytes(store.attachment("last", "journal"))
        others = [name for name in store.attachments("last") if name != "journal"]
        attachments = {name: store.attachment("last", name).decode() for name in others}
    measured = replace(bundle, traces=traces, journal=journal, attachments=attachments)
    return Template(measured, runs, samples_per_run)


def _redrawn(metric: Metric, speed: float, random: np.random.Generator) -> Metric:
    """Return the figure on a device and level of that speed, with noise of 1 %."""
    faster = {"tok/s": speed, "s": 1 / speed}.get(metric.unit)
    if metric.value is None or faster is None:
        return metric
    return replace(metric, value=metric.value * faster * float(random.normal(1, 0.01)))


def _drawn_again(trace: Trace, n_rows: int, random: np.random.Generator) -> Trace:
    """Return so many rows: stretches of the measured ones in random order, of times and counters their increments."""
    rows = _stretches(len(trace.t_ns), n_rows, random)
    counters = {stream.name for stream in trace.streams if stream.cumulative}
    columns = {
        name: np.round(_summed(values, rows), _FRACTION_DIGITS) if name in counters else values[rows]
        for name, values in trace.columns.items()
    }
    return replace(trace, t_ns=_summed(trace.t_ns, rows), columns=columns)


def _stretches(n_measured: int, n_rows: int, random: np.random.Generator) -> Index:
    """Draw indices of measured rows but the first, some that follow each other at a time."""
    begins: list[int] = random.integers(0, max(1, n_measured - 1), -(-n_rows // _BLOCK_ROWS)).tolist()
    each = np.arange(_BLOCK_ROWS)
    rows = np.concatenate([(begin + each) % max(1, n_measured - 1) for begin in begins])[:n_rows]
    return (rows + 1).clip(max=n_measured - 1).astype(np.int64)


def _summed(values: NDArray[Any], rows: Index) -> NDArray[Any]:
    increments = np.nan_to_num(np.diff(values, prepend=values[:1]))
    return values[0] + np.cumsum(increments[rows], dtype=values.dtype)
