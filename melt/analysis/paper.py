"""Runs in the units and by the definitions of the MELT paper (Laskaridis et al., MobiCom 2024); pure.

Its definitions are those of report-measurements-llms.py in github.com/brave-experiments/blade-public: energy and charge
are those of a whole response, prefill and decode, and per token means divided by the tokens that were generated.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from melt.analysis.statistics import measured
from melt.records import Outcome, Verdict
from melt.records.quality import Quality
from melt.traces import RunBundle

J_PER_MWH = 3.6
COULOMB_PER_MAH = 3.6
_BYTES_PER_GB = 1e9


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean, and the sample standard deviation where there are two values or more."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """A device, a model at a level, and a workload. None: not measured.

    `prefill_tps` and `decode_tps` in tok/s, `energy_mwh` and `discharge_mah` of a response, the same per generated
    token, `power_w` the mean over a response, `peak_gb` the most memory the runner had, in 10^9 bytes. `sources` are
    the meters that the energy comes from. `perplexity` and `accuracy` are of evaluations of this very file, by what
    they were of and where.
    """

    device: str
    model: str
    quant: str | None
    workload: str
    sessions: int
    prefill_tps: Mean | None
    decode_tps: Mean | None
    energy_mwh: Mean | None
    energy_per_token_mwh: Mean | None
    discharge_mah: Mean | None
    discharge_per_token_mah: Mean | None
    power_w: Mean | None
    peak_gb: Mean | None
    sources: tuple[str, ...]
    perplexity: Mapping[str, float]
    accuracy: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PaperTable:
    """Rows in the order of the plan, whatever order they ran in; `left_out` are runs without figures to be believed."""

    rows: tuple[PaperRow, ...]
    left_out: int


def paper_table(bundles: Iterable[RunBundle], qualities: Iterable[Quality]) -> PaperTable:
    """Boil runs down to a row for each device, file and workload; figures of invalid runs are in none.

    The paper is on language models: single-shot models have no row.
    """
    cells: dict[tuple[str, ...], list[RunBundle]] = defaultdict(list)
    left_out = 0
    for bundle in sorted(bundles, key=_place):
        if bundle.start.spec.workload.kind == "inference":
            continue
        if bundle.stop.outcome is not Outcome.OK or bundle.stop.verdict is Verdict.INVALID:
            left_out += 1
            continue
        spec = bundle.start.spec
        key = (bundle.start.device.device_id, bundle.start.artifact.sha256, spec.workload.name, spec.engine)
        cells[key].append(bundle)
    known = tuple(qualities)
    return PaperTable(tuple(_row(runs, known) for runs in cells.values()), left_out)


def _place(bundle: RunBundle) -> tuple[int, int, int]:
    """Return where a run stands in its plan; imported runs have no plan, but an order in their file."""
    spec = bundle.start.spec
    return (spec.position if spec.cell is None else spec.cell, spec.block, spec.position)


def _row(runs: Sequence[RunBundle], qualities: Sequence[Quality]) -> PaperRow:
    start = runs[0].start
    own = [one for one in qualities if one.artifact.sha256 == start.artifact.sha256]
    energy = _values(runs, "energy_response_j", J_PER_MWH)
    charge = _values(runs, "charge_response_coulomb", COULOMB_PER_MAH)
    tokens = _tokens_per_response(runs)
    return PaperRow(
        device=start.device.name,
        model=start.artifact.name,
        quant=start.artifact.quant,
        workload=start.spec.workload.name,
        sessions=len(runs),
        prefill_tps=_mean(_values(runs, "prefill_tps")),
        decode_tps=_mean(_values(runs, "decode_tps")),
        energy_mwh=_mean(energy),
        energy_per_token_mwh=_per_token(energy, tokens),
        discharge_mah=_mean(charge),
        discharge_per_token_mah=_per_token(charge, tokens),
        power_w=_mean(_values(runs, "power_mean_w")),
        peak_gb=_mean(_of_runs(runs, "peak_rss_bytes", _BYTES_PER_GB)),
        sources=_sources(runs),
        perplexity={_asked(one): one.text.perplexity for one in own if one.text is not None},
        accuracy={_asked(one): one.choices.accuracy for one in own if one.choices is not None},
    )


def _asked(quality: Quality) -> str:
    """Name what an evaluation was of, so that only like ones share a column."""
    chunks = "" if quality.text is None else f", {quality.text.n_chunks} chunks of {quality.method.n_ctx}"
    return f"{quality.method.dataset}{chunks}, on {quality.device.name}"


def _values(runs: Sequence[RunBundle], name: str, unit: float = 1.0) -> list[float]:
    """Return what every repetition of every run measured, in another unit."""
    found = (m.value for run in runs for m in run.metrics if m.name == name and m.repetition is not None)
    return [value / unit for value in measured(found)]


def _of_runs(runs: Sequence[RunBundle], name: str, unit: float) -> list[float]:
    found = (m.value for run in runs for m in run.metrics if m.name == name and m.repetition is None)
    return [value / unit for value in measured(found)]


def _sources(runs: Sequence[RunBundle]) -> tuple[str, ...]:
    found = (m.source for run in runs for m in run.metrics if m.name == "energy_response_j" and m.value is not None)
    return tuple(dict.fromkeys(found))


def _tokens_per_response(runs: Sequence[RunBundle]) -> float | None:
    """Return how many tokens a response has; None where that is not one number, as in answers to prompts."""
    workload = runs[0].start.spec.workload
    settled = workload.kind != "prompts" and runs[0].start.spec.settings.ignore_eos
    return float(workload.n_gen) if settled and workload.n_gen else None


def _per_token(values: Sequence[float], tokens: float | None) -> Mean | None:
    return None if tokens is None else _mean([value / tokens for value in values])


def _mean(values: Sequence[float]) -> Mean | None:
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Mean(mean, None, len(values))
    return Mean(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)), len(values))
