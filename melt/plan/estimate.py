"""Reckon what a plan will cost before it starts: time, and bytes to push. The caller brings the figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from melt.plan.dryrun import CellEstimate, DryRun, clock, span
from melt.plan.expand import cell_of
from melt.records import Gate, Repeat, RunSpec, Thresholds, Workload
from melt.units import counted, human
from melt.verdicts import changed

GUESSED_BANDWIDTH_BYTES_PER_S = 5e9
"""Decode reads all weights once a token; a slow laptop or phone reads about so fast."""

GUESSED_FLOP_PER_S = 50e9
"""Prefill computes 2 operations a weight and token, a weight taken as a byte of the file."""

_GUESSED_LOAD_BYTES_PER_S = 1e9
_GUESSED_RUN_OVERHEAD_S = 0.5
_CHARACTERS_PER_TOKEN = 4

Sizes = Mapping[tuple[str, str | None], int | None]


def estimate(specs: Iterable[RunSpec], sizes: Sizes, rates: Mapping[str, float | None]) -> DryRun:
    """Say what the runs will cost.

    `sizes` maps (model, quant) to the bytes of its file. `rates` maps a cell's key to the seconds per repetition
    that an earlier run of it took: the whole run, divided by its repetitions with the warm-ups.
    """
    by_cell: dict[str, list[RunSpec]] = {}
    n_references = 0
    gates: set[Gate] = set()
    # As the plan is written, whatever the order of the runs.
    specs = sorted(specs, key=lambda spec: spec.position if spec.cell is None else spec.cell)
    for spec in specs:
        gates.add(spec.gate)
        n_references += spec.reference
        by_cell.setdefault(cell_of(spec).key, []).append(spec)
    cells = tuple(_estimate_cell(runs, sizes, rates.get(key)) for key, runs in by_cell.items())
    n_runs, n_least = sum(cell.runs for cell in cells), sum(cell.runs_min for cell in cells)
    expected_s = _total(cell.expected_s for cell in cells)
    # What lasts as long as it was asked to, whatever the size of the model.
    lasting_s = sum(
        _lasting_s(spec)
        for cell, runs in zip(cells, by_cell.values(), strict=True)
        for spec in runs
        if cell.basis == "unknown" and _is_certain(spec)
    )
    bytes_to_push = _bytes_to_push(cells, sizes)
    order, order_seed = (specs[0].order, specs[0].order_seed) if specs else (None, None)
    lines = (
        _count_line(len(cells), n_least, n_runs, n_references),
        *_repeat_lines({spec.repeat for spec in specs}),
        *_order_lines(order, order_seed),
        *_time_lines(cells, expected_s, lasting_s),
        *(("  under the profiler each run takes longer than that",) if any(spec.profile for spec in specs) else ()),
        *_gate_lines(gates),
        *_verdict_lines({spec.thresholds for spec in specs}),
        *_push_lines(cells, bytes_to_push),
    )
    return DryRun(
        cells=cells,
        runs=n_runs,
        runs_min=n_least,
        expected_s=expected_s,
        expected_min_s=_total(cell.expected_min_s for cell in cells),
        bytes_to_push=bytes_to_push,
        lines=lines,
        order=order,
        order_seed=order_seed,
    )


def _estimate_cell(runs: list[RunSpec], sizes: Sizes, earlier_s: float | None) -> CellEstimate:
    cell = cell_of(runs[0])
    size_bytes = sizes.get((cell.model, cell.quant))
    each_s: list[float] | None = None
    basis = "unknown"
    if earlier_s is not None:
        each_s, basis = [earlier_s * (spec.repeat.warmup + spec.repeat.repetitions) for spec in runs], "earlier"
    elif size_bytes is not None:
        each_s, basis = [_guess_run_s(spec, size_bytes) for spec in runs], "guess"
    certain = [_is_certain(spec) for spec in runs]
    if each_s is not None:
        each_s = [run_s + (spec.gate.pause_s or 0.0) for run_s, spec in zip(each_s, runs, strict=True)]
    return CellEstimate(
        cell=cell,
        runs=len(runs),
        runs_min=sum(certain),
        expected_s=None if each_s is None else sum(each_s),
        expected_min_s=None if each_s is None else sum(itertools.compress(each_s, certain)),
        basis=basis,
    )


def _is_certain(spec: RunSpec) -> bool:
    """Say whether it is run in any case: reference runs, and the sessions before the precision is looked at."""
    return spec.reference or spec.block < spec.repeat.least_sessions


def _lasting_s(spec: RunSpec) -> float:
    """Return what a run takes at least: its rests, and the time that its requests follow each other for."""
    rests_s = (spec.gate.pause_s or 0.0) + (spec.sampling.recovery_s or 0.0)
    return rests_s + spec.repeat.repetitions * (spec.workload.duration_s or 0.0)


def _guess_run_s(spec: RunSpec, size_bytes: int) -> float:
    prefill_s = 2 * size_bytes / GUESSED_FLOP_PER_S
    request_s = _guess_request_s(spec.workload, prefill_s, size_bytes / GUESSED_BANDWIDTH_BYTES_PER_S)
    # A sustained request fills its time, but not while warming up.
    measured_s = max(request_s, spec.workload.duration_s or 0.0)
    # The context up to the depth is filled outside the measured windows, once: it is kept between repetitions.
    before_s = _GUESSED_RUN_OVERHEAD_S + size_bytes / _GUESSED_LOAD_BYTES_PER_S + spec.workload.n_depth * prefill_s
    after_s = spec.sampling.recovery_s or 0.0
    return before_s + spec.repeat.warmup * request_s + spec.repeat.repetitions * measured_s + after_s


def _guess_request_s(workload: Workload, prefill_s: float, decode_s: float) -> float:
    """Guess one request, or all of a repetition's, from the seconds a token takes."""
    if workload.kind == "inference":
        return max(1, workload.n_infer) * max(prefill_s, decode_s)
    if workload.kind != "prompts":
        return workload.n_prompt * prefill_s + workload.n_gen * decode_s
    n_prefill = sum(math.ceil(len(prompt) / _CHARACTERS_PER_TOKEN) for prompt in workload.prompts)
    return n_prefill * prefill_s + len(workload.prompts) * workload.n_gen * decode_s


def _total(seconds: Iterable[float | None]) -> float | None:
    known = list(seconds)
    return None if None in known else sum(value for value in known if value is not None)


def _bytes_to_push(cells: tuple[CellEstimate, ...], sizes: Sizes) -> int | None:
    """Add up every file once for each device that is not this machine, as if nothing were there yet."""
    pushes = {(item.cell.device, item.cell.model, item.cell.quant) for item in cells if item.cell.device != "local"}
    found = [sizes.get((model, quant)) for _, model, quant in pushes]
    return None if None in found else sum(size for size in found if size is not None)


def _count_line(n_cells: int, n_least: int, n_runs: int, n_references: int) -> str:
    references = f", {n_references} of them of the reference cell" if n_references else ""
    least = f"{n_least} to " if n_least < n_runs else ""
    return f"{counted(n_cells, 'cell')}, {least}{counted(n_runs, 'run')}{references}"


def _repeat_lines(repeats: Iterable[Repeat]) -> list[str]:
    return [
        f"sessions: {repeat.least_sessions} to {repeat.sessions} of each cell, until its rate is known to "
        f"±{100 * repeat.until_ci:g} % (95 % confidence)"
        for repeat in repeats
        if repeat.until_ci is not None
    ]


def _order_lines(order: str | None, order_seed: int | None) -> list[str]:
    if order is None:
        return []
    return [f"order: {order}" if order_seed is None else f"order: {order}, again with --order-seed {order_seed}"]


def _time_lines(cells: tuple[CellEstimate, ...], expected_s: float | None, lasting_s: float) -> list[str]:
    least_s, known_s = sum(item.expected_min_s or 0.0 for item in cells), sum(item.expected_s or 0.0 for item in cells)
    runs = {basis: sum(item.runs for item in cells if item.basis == basis) for basis in ("earlier", "guess", "unknown")}
    known = f"about {span(least_s, known_s)}" if expected_s is not None else f"more than {clock(least_s + lasting_s)}"
    lines = [f"expected time: {known}"]
    if runs["earlier"]:
        lines.append(f"  {counted(runs['earlier'], 'run')} from earlier runs of the same cell")
    if runs["guess"]:
        lines.append(f"  {counted(runs['guess'], 'run')} by a rough guess: {_guess_text(cells)}")
    if runs["unknown"]:
        but = ", but for their rests and the time that their requests are to last" if lasting_s else ""
        lines.append(f"  {counted(runs['unknown'], 'run')} not counted{but}: the size of the model is not known yet")
    return lines


def _guess_text(cells: Iterable[CellEstimate]) -> str:
    guessed = {item.cell.workload.kind for item in cells if item.basis == "guess"}
    said = [f"an inference reads the file once at {GUESSED_BANDWIDTH_BYTES_PER_S / 1e9:g} GB/s"]
    if guessed != {"inference"}:
        decode = f"decode reads the file once a token at {GUESSED_BANDWIDTH_BYTES_PER_S / 1e9:g} GB/s"
        prefill = f"prefill computes at {GUESSED_FLOP_PER_S / 1e9:g} GFLOP/s"
        said = [decode, prefill, *said * ("inference" in guessed)]
    return ", ".join(said)


def _gate_lines(gates: Iterable[Gate]) -> list[str]:
    rests_s = [gate.pause_s for gate in gates if gate.pause_s is not None]
    rests = [f"  counted: {clock(max(rests_s))} of rest before each run"] if rests_s else []
    waits_for_nothing = Gate(wait_s=0)
    asked = [(gate.wait_s, replace(gate, wait_s=0, must_fit=True, pause_s=None)) for gate in gates]
    waits_s = [wait_s for wait_s, gate in asked if gate != waits_for_nothing]
    waits = [f"  not counted: up to {clock(max(waits_s))} of waiting for the gate before each run"] if waits_s else []
    return rests + waits


def _verdict_lines(thresholds: Iterable[Thresholds]) -> list[str]:
    return [f"judged by: {text}" for one in thresholds if (text := changed(one))]


def _push_lines(cells: tuple[CellEstimate, ...], bytes_to_push: int | None) -> list[str]:
    if all(item.cell.device == "local" for item in cells):
        return ["to push: nothing, the models run on this machine"]
    if bytes_to_push is None:
        return ["to push: not known, the size of a model is missing"]
    return [f"to push: at most {human(bytes_to_push, 'bytes')}, less what the devices have already"]
