"""The runs of a page: a line for each, and what is told of one when its line is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from melt.analysis import derived
from melt.analysis.columns import info
from melt.records import Metric, Outcome, RunStop
from melt.report.evidence import exit_sentence
from melt.report.page.parts import NOT_MEASURED, Figure
from melt.report.run import facts, repetition_rows, title_of, written
from melt.report.scale import Scale, scale_for
from melt.traces import RunBundle
from melt.verdicts import DOUBTS

_EXIT = "exit"
_LISTED = ("prefill_tps", "decode_tps", "inference_p50_s", "inferences_per_s")
"""What the list of runs has of each workload; the first two where no run has any."""
_LAST_LINES = 40
_MOST_CHARACTERS = 8_000
"""Of a text of evidence: its end, for what went wrong stands there. The store has all of it."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in the list. `state` is its outcome where that is not ok, else its verdict, `figures` are one a column."""

    run_id: str
    when: str
    started_utc_ns: int
    device: str
    model: str
    quant: str
    workload: str
    figures: tuple[Figure, ...]
    state: str
    codes: tuple[str, ...]


def state_of(stop: RunStop) -> str:
    """Return what is to be known of a run in one word: how it ended, and if well, whether it may be believed."""
    return str(stop.verdict if stop.outcome is Outcome.OK else stop.outcome)


@dataclass(frozen=True, slots=True)
class RunList:
    """Runs in the order they were made. `columns` are title and unit of the figures of each."""

    columns: tuple[tuple[str, str], ...]
    lines: tuple[RunLine, ...]


def run_list(bundles: Sequence[RunBundle], scales: Mapping[str, Scale]) -> RunList:
    """Return the lines of runs, with a column for each rate that any of them has; `scales` are by metric."""
    values = [{m.name: m.value for m in b.metrics if m.repetition is None and m.value is not None} for b in bundles]
    shown = [name for name in _LISTED if any(name in own for own in values)] or _LISTED[:2]
    used = {
        name: scales[name]
        if name in scales
        else scale_for((own[name] for own in values if name in own), info(name).unit)
        for name in shown
    }
    columns = tuple((title_of(name), scale.symbol) for name, scale in used.items())
    return RunList(columns, tuple(_line(*one, used) for one in zip(bundles, values, strict=True)))


def _line(bundle: RunBundle, values: Mapping[str, float], scales: Mapping[str, Scale]) -> RunLine:
    start, stop = bundle.start, bundle.stop
    return RunLine(
        run_id=start.spec.run_id,
        when=when(start.started_utc_ns),
        started_utc_ns=start.started_utc_ns,
        device=start.device.name,
        model=start.spec.model,
        quant=start.spec.quant or start.artifact.quant or "",
        workload=start.spec.workload.name,
        figures=tuple(_figure(values.get(name), scale) for name, scale in scales.items()),
        state=state_of(stop),
        codes=tuple(dict.fromkeys(reason.code for reason in stop.reasons)),
    )


def when(utc_ns: int) -> str:
    """Write a moment for people, in UTC: who reads a page sits elsewhere than who made it."""
    return datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M")


def run_detail(bundle: RunBundle) -> dict[str, Any]:
    """Return what an opened line shows, as JSON: names and texts, written for people already."""
    start, stop = bundle.start, bundle.stop
    headers, rows = repetition_rows(bundle.metrics)
    own = [m for m in bundle.metrics if m.repetition is None]
    return {
        "facts": facts(bundle)[1:],
        "why": [(r.code, r.message, DOUBTS[r.code].meaning if r.code in DOUBTS else "") for r in stop.reasons],
        "figures": [(title_of(m.name), written(m), m.source, m.note or "") for m in own if m.value is not None],
        "unmeasured": _unmeasured(own),
        "repetitions": {"headers": [header.split("\n") for header in headers], "rows": rows},
        "missing": list(start.missing),
        "ended": how_it_ended(stop),
        "evidence": list(evidence(stop)),
    }


def _unmeasured(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    """Return why figures are lacking, and which; what only follows from power is not missed without it."""
    reasons: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.value is None and metric.name not in derived.NAMES:
            reasons.setdefault(metric.note or "not recorded", []).append(title_of(metric.name))
    return [(why, ", ".join(titles)) for why, titles in reasons.items()]


def how_it_ended(stop: RunStop) -> str:
    """Return in words what the agent noted at the end of a run; empty where nothing is kept."""
    return exit_sentence(stop.evidence[_EXIT]) if _EXIT in stop.evidence else ""


def evidence(stop: RunStop, last_lines: int = _LAST_LINES) -> Iterator[tuple[str, str]]:
    """Yield the names of texts that a run has left, and their last lines."""
    for name, text in stop.evidence.items():
        if name != _EXIT and text.strip():
            yield name, _end_of(text.rstrip().splitlines()[-last_lines:])


def _end_of(lines: Sequence[str]) -> str:
    return "\n".join(lines)[-_MOST_CHARACTERS:]


def _figure(value: float | None, scale: Scale) -> Figure:
    return NOT_MEASURED if value is None else Figure(scale.write(value), sort=value)
