"""Make candidates of a device out of its runs and of evaluations, joined by the content of the model file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from melt.analysis.choice import (
    ACCURACY,
    DECODE,
    ENERGY,
    HEAT,
    LOSS,
    MEMORY,
    SIZE,
    SUSTAINED,
    TTFT,
    Candidate,
    Figure,
    over_sessions,
    quality_loss,
)
from melt.analysis.efficiency_answers import ANSWERS, level_answers
from melt.analysis.energy import covers
from melt.analysis.figures import Figure as RunFigure
from melt.analysis.sessions import by_session, is_believed, outcome_of, session_values
from melt.analysis.statistics import median_of
from melt.records import Artifact, Metric, Outcome, Verdict, Workload
from melt.records.quality import Quality
from melt.traces import RunBundle

_SAID_BY = {HEAT: "temperature_max_c"}
"""Which figure's note tells why another one is not there at all."""

NO_RUNS, NOT_MADE, NOT_MADE_YET, NOT_EVALUATED = "not run", "cannot be made", "not made yet", "not evaluated"


@dataclass(frozen=True, slots=True)
class AskedLevel:
    """A level that was asked for. `artifact` None: it was not made yet, or cannot be, and `why` says why."""

    level: str
    artifact: Artifact | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Workloads:
    """What levels are measured with: single requests, and requests one after the other for a while; None: without."""

    request: Workload
    sustained: Workload | None = None

    @property
    def all(self) -> tuple[Workload, ...]:
        """Both, or the one there is."""
        return (self.request,) if self.sustained is None else (self.request, self.sustained)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the store has: runs of all levels on one device that may stand side by side, and evaluations of files.

    `bundles` are of `workloads` alone. `unmeasured` says why there is no quality of a file, by its sha256. `original`
    is the file that the levels are of, as it was published.
    """

    workloads: Workloads
    bundles: Sequence[RunBundle]
    qualities: Sequence[Quality] = ()
    unmeasured: Mapping[str, str] | None = None
    original: Artifact | None = None


def make_candidates(asked: Sequence[AskedLevel], evidence: Evidence) -> list[Candidate]:
    """Return a candidate for each level, in their order.

    Each quantity is taken from the same workload for all levels: energy from the sustained one where the most levels
    have it there, since a slow gauge cannot tell short requests apart.
    """
    works = evidence.workloads
    request, sustained = works.request, works.sustained or works.request
    sources: dict[str, tuple[Workload, ...]] = {
        MEMORY: (request,),
        TTFT: (request,),
        DECODE: (request,),
        SUSTAINED: (sustained,),
        ENERGY: (sustained, request),
        HEAT: (sustained, request),
    }
    if works.sustained is None:
        del sources[SUSTAINED]
    found = [_of_file(one) for one in asked]
    for name, workloads in sources.items():
        figures = {workload: [_figure(c, name, workload, evidence.bundles) for c in found] for workload in workloads}
        best = max(workloads, key=lambda w: sum(isinstance(figure, Figure) for figure in figures[w]))
        found = [_with(c, name, figure) for c, figure in zip(found, figures[best], strict=True)]
    judged = [_with_quality(_with_outcome(c, evidence), evidence) for c in found]
    return _with_answers(judged, evidence, (request, sustained))


def _of_file(asked: AskedLevel) -> Candidate:
    artifact = asked.artifact
    if artifact is None:
        outcome = NOT_MADE if asked.why else NOT_MADE_YET
        return Candidate(level=asked.level, artifact=None, outcome=outcome, why=asked.why)
    size = {} if artifact.size_bytes is None else {SIZE: Figure(float(artifact.size_bytes), exact=True)}
    return Candidate(level=asked.level, artifact=artifact, figures=size)


def _figure(candidate: Candidate, name: str, workload: Workload, bundles: Iterable[RunBundle]) -> Figure | str:
    """Return a level's figure, or why it has none."""
    own = [bundle for bundle in _own(candidate, bundles) if bundle.start.spec.workload == workload]
    if not own:
        return NO_RUNS
    metrics = [_metric(bundle, name) for bundle in own if is_believed(bundle)]
    measured = [metric for metric in metrics if metric is not None and metric.value is not None]
    if name == ENERGY and len({covers(metric) for metric in measured}) > 1:
        return "sessions were measured by meters of unlike scope"
    if not measured:
        return _why(name, own)
    values = session_values(own, lambda bundle: _value(bundle, name))
    figure = over_sessions(values, median_of(metric.uncertainty for metric in measured))
    return "not recorded" if figure is None else figure


def _why(name: str, bundles: Sequence[RunBundle]) -> str:
    """Return why runs have no figure, in the words of one that ended well if there is one."""
    believed = [bundle for bundle in bundles if is_believed(bundle)]
    for said_by in (name, _SAID_BY.get(name, name)):
        for bundle in believed:
            metric = _metric(bundle, said_by)
            if metric is not None and metric.note and metric.value is None:
                return metric.note
    return _end(bundles)


def _end(bundles: Sequence[RunBundle]) -> str:
    outcome = outcome_of(bundles)
    if outcome is not Outcome.OK:
        return str(outcome)
    return "not recorded" if any(map(is_believed, bundles)) else "invalid runs only"


def _own(candidate: Candidate, bundles: Iterable[RunBundle]) -> list[RunBundle]:
    if candidate.artifact is None:
        return []
    return [bundle for bundle in bundles if bundle.start.artifact.sha256 == candidate.artifact.sha256]


def _metric(bundle: RunBundle, name: str) -> Metric | None:
    return next((m for m in bundle.metrics if m.name == name and m.repetition is None), None)


def _value(bundle: RunBundle, name: str) -> float | None:
    metric = _metric(bundle, name) if is_believed(bundle) else None
    return None if metric is None else metric.value


def _with(candidate: Candidate, name: str, found: Figure | str) -> Candidate:
    if isinstance(found, str):
        return replace(candidate, missing={**candidate.missing, name: found})
    return replace(candidate, figures={**candidate.figures, name: found})


def _with_outcome(candidate: Candidate, evidence: Evidence) -> Candidate:
    """Say how the runs of a level ended: it can be chosen where its requests were measured."""
    if candidate.outcome is not None:
        return candidate
    own = _own(candidate, evidence.bundles)
    requests = [bundle for bundle in own if bundle.start.spec.workload == evidence.workloads.request]
    believed = [bundle for bundle in requests if is_believed(bundle)]
    candidate = replace(candidate, out_of_memory=sum(b.stop.outcome is Outcome.OOM for b in own))
    if believed:
        suspect = sum(any(b.stop.verdict is Verdict.SUSPECT for b in runs) for runs in by_session(believed))
        return replace(candidate, sessions=len(by_session(believed)), suspect=suspect)
    if not requests:
        return replace(candidate, outcome=NO_RUNS)
    last = requests[-1].stop
    outcome = "invalid" if last.outcome is Outcome.OK else str(last.outcome)
    return replace(candidate, outcome=outcome, why=next((reason.message for reason in last.reasons), None))


def _with_answers(
    candidates: Sequence[Candidate], evidence: Evidence, workloads: Sequence[Workload]
) -> list[Candidate]:
    """Say what the answers of each level are worth, a figure by the same workload for all levels.

    A response has a prompt and an answer, so what is by response is of the requests, even where power is of both.
    """
    found = {workload: [_answers(candidate, evidence, workload) for candidate in candidates] for workload in workloads}
    best = {
        name: max(workloads, key=lambda w: sum(answers[name].value is not None for answers in found[w]))
        for name in ANSWERS
    }
    return [
        replace(candidate, answers={name: found[best[name]][i][name] for name in ANSWERS})
        for i, candidate in enumerate(candidates)
    ]


def _answers(candidate: Candidate, evidence: Evidence, workload: Workload) -> dict[str, RunFigure]:
    own = [b for b in _own(candidate, evidence.bundles) if b.start.spec.workload == workload and is_believed(b)]
    return level_answers(own, candidate.choices, evidence.original)


def _with_quality(candidate: Candidate, evidence: Evidence) -> Candidate:
    if candidate.artifact is None:
        return candidate
    sha256 = candidate.artifact.sha256
    own = [quality for quality in evidence.qualities if quality.artifact.sha256 == sha256]
    text = next((quality for quality in own if quality.text is not None), None)
    choices = next((quality for quality in own if quality.choices is not None), None)
    candidate = replace(candidate, text=text, choices=choices)
    why = (evidence.unmeasured or {}).get(sha256, NOT_EVALUATED)
    loss = None if text is None else quality_loss(text)
    if choices is not None and choices.choices is not None:
        found = choices.choices
        figure = Figure(found.accuracy, found.accuracy_low, found.accuracy_high)
        candidate = _with(candidate, ACCURACY, figure)
    else:
        candidate = _with(candidate, ACCURACY, why)
    return _with(candidate, LOSS, why if loss is None else loss)
