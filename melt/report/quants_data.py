"""What `melt quants` found, for programs: a JSON document, a CSV line for each level."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from melt.analysis.candidates import Workloads
from melt.analysis.choice import QUANTITIES, Candidate, Figure, alike_pairs
from melt.analysis.efficiency_answers import ANSWERS
from melt.analysis.recommend import Met, Recommendation
from melt.codec import to_dict
from melt.records import DeviceFacts
from melt.report.quants_text import reason
from melt.report.table import write_rows

_OF_TEXT = ("perplexity", "perplexity_se", "kl_mean", "kl_se", "kl_p99", "top1_agreement", "top1_low", "top1_high")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelTable:
    """Levels of a model on a device. `device` and `engine_revision` are None where none of them was measured."""

    model: str
    device: DeviceFacts | None
    engine_revision: str | None
    workloads: Workloads
    candidates: tuple[Candidate, ...]
    dominated: Mapping[str, tuple[str, ...]]
    recommendation: Recommendation


def level_json(table: LevelTable, notes: Sequence[str]) -> str:
    """Return one JSON document."""
    advice = table.recommendation
    document = {
        "model": table.model,
        "device": None if table.device is None else to_dict(table.device),
        "engine_revision": table.engine_revision,
        "workloads": [workload.name for workload in table.workloads.all],
        "levels": [_level(table, candidate) for candidate in table.candidates],
        "recommendation": {
            "level": advice.level,
            "reason": reason(table.candidates, advice, table.dominated),
            "goal": advice.goal,
            "limits": [to_dict(limit) for limit in advice.limits],
            "eligible": list(advice.eligible),
            "ties": list(advice.ties),
            "passed_over": list(advice.passed_over),
            "nearest": advice.nearest,
            "short": advice.short,
        },
        "alike": {
            name: [list(pair) for pair in alike_pairs(table.candidates, name)]
            for name, quantity in QUANTITIES.items()
            if quantity.counts
        },
        "notes": list(notes),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def level_csv(table: LevelTable) -> str:
    """Return a line for each level; intervals are in columns of their own."""
    rows = list(_flat(table))
    headers = list(dict.fromkeys(key for row in rows for key in row))
    return write_rows(headers, rows, "csv")


def _level(table: LevelTable, candidate: Candidate) -> dict[str, Any]:
    artifact = candidate.artifact
    return {
        **_facts(table, candidate),
        "artifact": None if artifact is None else to_dict(artifact),
        "figures": {name: _figure(candidate, name) for name in QUANTITIES},
        "quality": {name: _quality(candidate, name) for name in _OF_TEXT},
        "answers": {name: _answers(candidate, name) for name in ANSWERS},
        "dominated_by": list(table.dominated.get(candidate.level, ())),
        "limits": _states(table, candidate),
    }


def _flat(table: LevelTable) -> Iterator[dict[str, Any]]:
    for candidate in table.candidates:
        row = _facts(table, candidate)
        for name, quantity in QUANTITIES.items():
            figure = candidate.figures.get(name)
            row |= {
                name: None if figure is None else figure.value,
                f"{name}_low": None if figure is None else figure.low,
                f"{name}_high": None if figure is None else figure.high,
                f"{name}_unit": quantity.unit,
            }
        row |= {name: _quality(candidate, name) for name in _OF_TEXT}
        row |= {name: _answers(candidate, name)["value"] for name in ANSWERS}
        row["dominated_by"] = " ".join(table.dominated.get(candidate.level, ()))
        row["limits"] = "; ".join(f"{flag} {state}" for flag, state in _states(table, candidate).items())
        yield row


def _facts(table: LevelTable, candidate: Candidate) -> dict[str, Any]:
    artifact = candidate.artifact
    return {
        "level": candidate.level,
        "recommended": candidate.level == table.recommendation.level,
        "dominated": candidate.level in table.dominated,
        "outcome": candidate.outcome or "ok",
        "why": candidate.why,
        "sessions": candidate.sessions,
        "suspect_sessions": candidate.suspect,
        "artifact_sha256": None if artifact is None else artifact.sha256,
        "bits_per_weight": None if artifact is None else artifact.bits_per_weight,
        "n_matrices": None if artifact is None else artifact.n_matrices,
        "n_fallbacks": None if artifact is None else sum(artifact.fallbacks.values()),
        "needed_bytes": candidate.needed_bytes,
        "available_bytes": candidate.available_bytes,
        "total_bytes": candidate.total_bytes,
        "fits": candidate.fits,
        "evaluated_on": None if candidate.text is None else candidate.text.device.name,
        "is_reference": candidate.is_reference,
    }


def _figure(candidate: Candidate, name: str) -> dict[str, Any]:
    figure = candidate.figures.get(name) or Figure(float("nan"))
    known = name in candidate.figures
    return {
        "value": figure.value if known else None,
        "low": figure.low,
        "high": figure.high,
        "unit": QUANTITIES[name].unit,
        "sessions": len(figure.values) or None,
        "missing": None if known else candidate.missing.get(name, candidate.outcome),
    }


def _quality(candidate: Candidate, name: str) -> float | None:
    text = None if candidate.text is None else candidate.text.text
    return None if text is None else getattr(text, name)


def _answers(candidate: Candidate, name: str) -> dict[str, Any]:
    figure = candidate.answers.get(name)
    return {
        "value": None if figure is None else figure.value,
        "uncertainty": None if figure is None else figure.uncertainty,
        "unit": ANSWERS[name].unit,
        "note": candidate.outcome if figure is None else figure.note,
    }


def _states(table: LevelTable, candidate: Candidate) -> dict[str, str]:
    states: Sequence[Met] = table.recommendation.met.get(candidate.level, ())
    return {limit.flag: str(state) for limit, state in zip(table.recommendation.limits, states, strict=True)}
