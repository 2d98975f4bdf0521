"""Whether a night regressed: each series of it against the nights before, and what changed in its history."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from melt.analysis.ab import Change, Difference
from melt.analysis.changepoints import ChangePoint, Found, change_id, level, segments
from melt.analysis.history import Night, Series
from melt.analysis.names import METRICS
from melt.analysis.policy import Policy, Threshold
from melt.analysis.replay import Judged, Replay
from melt.plan.flags import NO_FILE
from melt.records import Outcome
from melt.units import counted

_NEAR = 5
"""Nights between two finds that are taken for one: looking back places a change more exactly than the alert did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One metric of one series: what the night came to, and why.

    `change` None: it was not judged, there is nothing to hold it against. `against` names the sweeps that it was held
    against. `change_id` is what to acknowledge it by, None where there is nothing to acknowledge.
    """

    metric: str
    change: Change | None
    why: str
    difference: Difference | None = None
    threshold: Threshold | None = None
    against: tuple[str, ...] = ()
    change_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReport:
    """One series. `failed` says why the night has no figures of it; then `findings` is empty.

    `night` is None where no run of it was made. `changes` are those of its history up to this night, oldest first,
    `unlike_since` the first sweep with each condition that was another than before, by the id of that change.
    """

    series: Series
    night: Night | None
    findings: tuple[Finding, ...] = ()
    changes: tuple[ChangePoint, ...] = ()
    unlike_since: Mapping[str, str] = field(default_factory=dict)
    failed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptable:
    """What may be acknowledged: the fields are those of `Acknowledgement`."""

    change_id: str
    device_id: str
    series_id: str | None
    metric: str | None
    sweep_id: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NightReport:
    """A night as a whole: `sweeps` is what was judged, `baseline` against what."""

    sweeps: tuple[str, ...]
    baseline: str
    series: tuple[SeriesReport, ...]

    @property
    def is_fine(self) -> bool:
        """Whether everything was measured, could be held against what was before, and did not regress."""
        bad = (Change.REGRESSED, Change.INCOMPARABLE)
        findings = (finding for one in self.series for finding in one.findings)
        return (
            bool(self.series)
            and not any(one.failed for one in self.series)
            and not any(finding.change in bad for finding in findings)
        )


def judge_nights(series: Iterable[Series], sweeps: Collection[str], policy: Policy) -> NightReport:
    """Judge what these sweeps measured; a series that the sweep before had, of the same plan, must not be missing.

    A series that several of them measured is judged once for each, and then called by its sweep as well.
    """
    known = list(series)
    reports = []
    for one in known:
        nights = [i for i, night in enumerate(one.nights) if night.sweep_id in sweeps]
        for i in nights:
            called = one if len(nights) == 1 else replace(one, label=f"{one.label}, {one.nights[i].sweep_id}")
            reports.append(judge_series(called, i, policy))
        if not nights and (plan := _missing_from(one, known, sweeps)) is not None:
            failed = f"no run of it was made, while the sweep of the plan {plan!r} before had it"
            reports.append(SeriesReport(series=one, night=None, failed=failed))
    return NightReport(sweeps=tuple(sweeps), baseline=policy.baseline.name, series=tuple(reports))


def judge_series(series: Series, last: int, policy: Policy) -> SeriesReport:
    """Judge one night of a series, its index given, by what was known then."""
    replay = Replay(series, policy)
    since: dict[str, str] = {}
    for judged in replay.nights(last):
        _note_unlike(since, series, judged)
    return _report(replay, judged, since)


def each_night(series: Series, policy: Policy) -> Iterator[SeriesReport]:
    """Judge every night of a series by what was known then: at once what judging one after the other would give.

    Figures are told only of nights that are off by their threshold, and of the last one.
    """
    replay = Replay(series, policy)
    since: dict[str, str] = {}
    for judged in replay.nights(len(series.nights) - 1):
        _note_unlike(since, series, judged)
        yield _report(replay, judged, dict(since))


def _note_unlike(since: dict[str, str], series: Series, judged: Judged) -> None:
    for one in judged.unlike.values():
        since.setdefault(one.change_id, series.nights[judged.night].sweep_id)


def _report(replay: Replay, judged: Judged, unlike_since: Mapping[str, str]) -> SeriesReport:
    series, policy = replay.series, replay.policy
    night = series.nights[judged.night]
    changes = _changes(replay, judged.night)
    if night.verdict is None:
        return SeriesReport(series=series, night=night, changes=changes, failed=_why_nothing(night))
    metrics = [name for name in policy.metrics if name in night.values or name in replay.watches]
    return SeriesReport(
        series=series,
        night=night,
        findings=tuple(_finding(replay, judged, name, changes) for name in metrics),
        changes=changes,
        unlike_since=unlike_since,
    )


def acknowledgeable(report: SeriesReport) -> list[Acceptable]:
    """Return what makes this night of a series fail and may be accepted."""
    series, night = report.series, report.night
    device_id = series.start.device.device_id
    found = [
        Acceptable(
            change_id=change.change_id,
            device_id=device_id,
            series_id=series.series_id,
            metric=change.metric,
            sweep_id=change.sweep_id,
            what=f"{series.label}: {METRICS[change.metric].title} {change.ratio - 1:+.1%}",
        )
        for change in report.changes
        if change.is_open
    ]
    for finding in report.findings:
        if finding.change is Change.INCOMPARABLE and finding.change_id is not None and night is not None:
            what = f"{series.start.device.name}: {finding.why}"
            found.append(
                Acceptable(
                    change_id=finding.change_id,
                    device_id=device_id,
                    series_id=None,
                    metric=None,
                    sweep_id=report.unlike_since.get(finding.change_id, night.sweep_id),
                    what=what,
                )
            )
    return found


def _missing_from(series: Series, known: Sequence[Series], sweeps: Collection[str]) -> str | None:
    """Return the plan that had a series the last time before these sweeps, None where it need not be there.

    A sweep on none of the same devices was another night: each device may have a job of its own, of the same plan.
    """
    own = [(one, night) for one in known for night in one.nights if night.sweep_id in sweeps and night.plan != NO_FILE]
    devices = {one.start.device.device_id for one, _ in own}
    nights = [night for one in known if one.start.device.device_id in devices for night in one.nights]
    for plan, began in {night.plan: night.began_utc_ns for _, night in own}.items():
        before = max(
            (n for n in nights if n.plan == plan and n.sweep_id not in sweeps and n.began_utc_ns < began),
            key=lambda n: n.began_utc_ns,
            default=None,
        )
        if before is not None and any(night.sweep_id == before.sweep_id for night in series.nights):
            return plan
    return None


def _why_nothing(night: Night) -> str:
    counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(night.outcomes.items()) if outcome is not Outcome.OK)
    invalid = night.outcomes.get(Outcome.OK, 0)
    told = ", ".join(filter(None, (counts, f"{invalid} invalid" if invalid else "")))
    return f"no run whose figures may be believed: {told}"


def _finding(replay: Replay, judged: Judged, metric: str, changes: Sequence[ChangePoint]) -> Finding:
    difference = next((one for one in judged.differences if one.metric == metric), None)
    unlike = judged.unlike.get(metric)
    threshold = judged.thresholds.get(metric)
    nights = replay.series.nights
    against = tuple(nights[one].sweep_id for one in judged.against.get(metric, ()))
    opened = next((one for one in reversed(changes) if one.metric == metric and one.is_open), None)
    change, why = None if difference is None else difference.change, _why(difference)
    if unlike is not None:
        change, why = Change.INCOMPARABLE, unlike.what
    elif metric not in nights[judged.night].values:
        change, why = None, "not measured this night"
    elif opened is not None:
        change, why = Change.REGRESSED, _since(opened, judged.night)
    elif difference is None:
        why = "no night before to hold it against"
    return Finding(
        metric=metric,
        change=change,
        why=why,
        difference=difference,
        threshold=threshold,
        against=against,
        change_id=unlike.change_id if unlike else opened.change_id if opened else None,
    )


def _why(difference: Difference | None) -> str:
    return "" if difference is None else difference.why or ""


def _since(change: ChangePoint, night: int) -> str:
    by = {
        Found.SESSIONS: "its sessions differ from those before",
        Found.ALERT: "small steps down add up",
        Found.SEGMENTS: "the history shows another level",
    }
    ago = night - change.night
    if ago == 0:
        return by[change.found]
    size = f"{abs(change.ratio - 1):.1%} {'more' if change.ratio > 1 else 'less'}"
    return f"{size} since {change.sweep_id}, {counted(ago, 'night')} ago"


def _changes(replay: Replay, last: int) -> tuple[ChangePoint, ...]:
    found = [one for metric in replay.watches for one in _changes_of(replay, metric, last)]
    return tuple(sorted(found, key=lambda one: one.night))


def _changes_of(replay: Replay, metric: str, last: int) -> list[ChangePoint]:
    """Return what the watch saw night by night, and what only looking back over all nights shows."""
    values = replay.values(metric, last)
    watch = replay.watches[metric]
    found = []
    for i, shift in enumerate(watch.shifts):
        end = shift.ended if shift.ended is not None else last + 1
        until = min([end, *(other.night for other in watch.shifts[i + 1 :])])
        after = [value for night, value in values.items() if shift.night <= night < max(until, shift.night + 1)]
        how = Found.GIVEN if shift.acknowledged else Found.SESSIONS if shift.by_sessions else Found.ALERT
        now = median(after) if after else shift.before
        change = _direction(metric, now / shift.before) if shift.acknowledged else shift.change
        point = _point(replay, metric, shift.night, (shift.before, now), change, how)
        found.append(replace(point, acknowledged=shift.acknowledged, ended=shift.ended is not None))
    for one in _looking_back(replay, metric, values, found):
        near = [i for i, other in enumerate(found) if abs(one.night - other.night) <= _NEAR]
        if not near:
            found.append(one)
        elif (told := found[near[-1]]).is_open and one.is_open:
            # All nights together place it better than the first that told it. Its id stays.
            found[near[-1]] = replace(one, change_id=told.change_id, found=told.found)
    return found


def _looking_back(
    replay: Replay, metric: str, values: Mapping[int, float], known: Sequence[ChangePoint]
) -> list[ChangePoint]:
    """Return the changes that segments show, of the time since a level was accepted last."""
    accepted = max((one.night for one in known if one.acknowledged), default=0)
    kept = {night: value for night, value in values.items() if night >= accepted}
    nights, medians = list(kept), list(kept.values())
    begins = segments(medians)
    least = replay.policy.least(metric)
    reached = level(medians, begins, 0) if medians else 0.0
    found: list[ChangePoint] = []
    for index in begins:
        now = level(medians, begins, index)
        better = METRICS[metric].better * (now / reached - 1)
        goes_on = bool(found) and found[-1].is_open
        if goes_on and better > -least:
            found[-1] = replace(found[-1], ended=True)
        if better >= least or (better <= -least and not goes_on):
            change = _direction(metric, now / reached)
            found.append(_point(replay, metric, nights[index], (reached, now), change, Found.SEGMENTS))
        reached = now if better > 0 else reached
    return found


def _point(
    replay: Replay, metric: str, night: int, levels: tuple[float, float], change: Change, found: Found
) -> ChangePoint:
    series = replay.series
    first = series.nights[night]
    accepted = replay.policy.new_levels.get((series.series_id, metric, first.sweep_id))
    return ChangePoint(
        change_id=accepted.change_id if accepted else change_id(series.series_id, metric, first.sweep_id),
        series_id=series.series_id,
        metric=metric,
        night=night,
        sweep_id=first.sweep_id,
        began_utc_ns=first.began_utc_ns,
        before=levels[0],
        after=levels[1],
        change=change,
        found=found,
    )


def _direction(metric: str, ratio: float) -> Change:
    return Change.IMPROVED if METRICS[metric].better * (ratio - 1) >= 0 else Change.REGRESSED
