"""Whether the numbers of a run may be believed: every doubt is a reason with a code, a sentence and its figures."""

from __future__ import annotations

from dataclasses import dataclass

from melt.analysis import conditions, disturbance, state
from melt.analysis.energy_checks import REFUSALS
from melt.analysis.evidence import Evidence
from melt.records import Reason, Verdict

INVALID = frozenset({"wrong_threads", "wrong_backend", "wrong_settings", "affinity_not_applied", "knob_not_applied"})
"""Codes that mean: this is not the run that was asked for. All others leave the numbers suspect."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and what led to it; no reasons means valid."""

    verdict: Verdict
    reasons: tuple[Reason, ...]


def judge(evidence: Evidence) -> Judgement:
    """Hold everything that was seen against what a believable run looks like."""
    found = (check(evidence) for check in (*conditions.CHECKS, *state.CHECKS, *disturbance.CHECKS))
    reasons = (*(reason for reason in found if reason is not None), *evidence.energy)
    if not reasons:
        return Judgement(Verdict.VALID, ())
    against = INVALID | REFUSALS if evidence.energy_required else INVALID
    invalid = any(reason.code in against for reason in reasons)
    return Judgement(Verdict.INVALID if invalid else Verdict.SUSPECT, reasons)
