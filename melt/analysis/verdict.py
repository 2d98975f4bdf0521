"""Whether the numbers of a run may be believed: every doubt is a reason with a code, a sentence and its figures."""

from __future__ import annotations

from dataclasses import dataclass

from melt.analysis import conditions, disturbance, state
from melt.analysis.evidence import Evidence
from melt.records import Reason, Verdict
from melt.verdicts import decide, is_told


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and what led to it; no reasons means valid."""

    verdict: Verdict
    reasons: tuple[Reason, ...]


def judge(evidence: Evidence) -> Judgement:
    """Hold everything that was seen against what a believable run looks like."""
    required, thresholds = evidence.energy_required, evidence.thresholds
    found = (check(evidence) for check in (*conditions.CHECKS, *state.CHECKS, *disturbance.CHECKS))
    energy = (reason for reason in evidence.energy if is_told(reason.code, thresholds, energy_required=required))
    reasons = (*(reason for reason in found if reason is not None), *energy)
    return Judgement(decide(reasons, thresholds, energy_required=required), reasons)
