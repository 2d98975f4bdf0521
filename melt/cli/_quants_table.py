"""From runs and evaluations to the table of `melt quants`, and its picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from melt.cli._quants_plan import Asked

if TYPE_CHECKING:
    from melt.analysis.candidates import AskedLevel
    from melt.analysis.choice import Candidate
    from melt.analysis.recommend import Limit
    from melt.cli._quants_quality import Evaluated
    from melt.cli._quants_work import Measured
    from melt.records import Artifact
    from melt.report.quants_data import LevelTable


def make_table(
    args: argparse.Namespace,
    asked: Asked,
    origin: Artifact,
    levels: Sequence[AskedLevel],
    measured: Measured,
    evaluated: Evaluated,
    limits: Sequence[Limit],
) -> LevelTable:
    """Join what the store has by the content of the files, and choose."""
    from melt.analysis.candidates import Evidence, make_candidates
    from melt.analysis.choice import dominated
    from melt.analysis.recommend import recommend
    from melt.report.quants_data import LevelTable

    evidence = Evidence(asked.workloads, measured.bundles, evaluated.qualities, evaluated.unmeasured, origin)
    candidates = tuple(_with_fit(one, asked, measured) for one in make_candidates(levels, evidence))
    revisions = (bundle.stop.used.get("engine_revision") for bundle in measured.bundles)
    return LevelTable(
        model=args.model,
        device=measured.device,
        engine_revision=next((str(revision) for revision in revisions if revision), None),
        workloads=asked.workloads,
        candidates=candidates,
        dominated=dominated(candidates),
        recommendation=recommend(candidates, limits, args.prefer),
    )


def _with_fit(candidate: Candidate, asked: Asked, measured: Measured) -> Candidate:
    """Add what a request is expected to take of the device's memory."""
    from melt.fleet.fit import predict

    spec = next(spec for spec in asked.specs if spec.workload == asked.workloads.request)
    if candidate.artifact is None or measured.device is None:
        return candidate
    fit = predict(spec, candidate.artifact, measured.device)
    if fit is None:
        return candidate
    return replace(
        candidate,
        needed_bytes=fit.needed_bytes,
        available_bytes=fit.available_bytes,
        total_bytes=fit.total_bytes,
    )


def check_picture(path: Path) -> None:
    """Raise UsageError for a file that no picture can be, before anything is measured."""
    from melt.report.charts.output import check_path

    check_path(path)


def draw(table: LevelTable, path: Path) -> None:
    """Draw the levels into a file. Raises UsageError."""
    from melt.report.charts.output import write_chart
    from melt.report.quants_picture import picture

    write_chart(picture(table), path)
