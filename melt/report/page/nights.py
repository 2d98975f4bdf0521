"""What the nights before say of the runs of a page: a verdict for each series, metric by metric, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from melt.analysis.ab import Change, overall
from melt.analysis.history import Series
from melt.analysis.nightly import Finding, SeriesReport, judge_series
from melt.analysis.policy import Policy
from melt.report.charts.history import history_spec
from melt.report.page.parts import Picture
from melt.report.page.summary import RATES
from melt.report.run import title_of
from melt.report.scale import percent
from melt.traces import RunBundle

_LEAST_NIGHTS = 2
_LEAST_DRAWN = 3
_MOST_PICTURES = 16


@dataclass(frozen=True, slots=True)
class Nightly:
    """A verdict on a line. `rows` are metric, verdict, difference, and why, for each metric that was judged."""

    change: str
    cause: str
    rows: tuple[tuple[str, str, str, str], ...]


def judge_newest(bundles: Iterable[RunBundle], series: Iterable[Series], policy: Policy) -> dict[str, SeriesReport]:
    """Judge of each series the newest night that is among these runs, by the id of the series."""
    sweeps = {bundle.start.spec.sweep_id for bundle in bundles}
    reports = {}
    for one in series:
        last = max((i for i, night in enumerate(one.nights) if night.sweep_id in sweeps), default=None)
        if last is not None:
            reports[one.series_id] = judge_series(one, last, policy)
    return reports


def nightly_of(reports: Mapping[str, SeriesReport], series_id: str) -> Nightly | None:
    """Return the verdict on a series, None where no night was before it or nothing was judged."""
    report = reports.get(series_id)
    if report is None or len(report.series.nights) < _LEAST_NIGHTS:
        return None
    judged = [finding for finding in report.findings if finding.change is not None]
    if not judged:
        return None
    change = overall(finding.change for finding in judged)
    return Nightly(str(change), _cause(judged, change), tuple(map(_row, judged)))


def history_pictures(reports: Mapping[str, SeriesReport]) -> tuple[list[Picture], int]:
    """Draw the histories of three nights and more, those first that changed; and count those left undrawn."""
    wanted = []
    for report in reports.values():
        if len(report.series.nights) >= _LEAST_DRAWN:
            changed = dict.fromkeys(change.metric for change in report.changes)
            usual = next((name for name in RATES if name in report.series.metrics()), None)
            wanted += [
                (name not in changed, report, name) for name in {**dict.fromkeys(filter(None, [usual])), **changed}
            ]
    # Sorted by whether it changed alone: the order of the runs stays within.
    wanted.sort(key=lambda one: one[0])
    pictures = []
    for _, report, metric in wanted[:_MOST_PICTURES]:
        spec = history_spec(report.series, metric, report.changes)
        if spec is not None:
            pictures.append(Picture(f"History of {title_of(metric)}, {report.series.label}", spec))
    return pictures, len(wanted) - min(len(wanted), _MOST_PICTURES)


def _cause(judged: Sequence[Finding], change: Change) -> str:
    """Name the metrics that made the verdict what it is, where it is one that somebody will ask about."""
    if change not in (Change.REGRESSED, Change.IMPROVED, Change.INCOMPARABLE):
        return ""
    guilty = [finding for finding in judged if finding.change is change]
    return ", ".join(" ".join(filter(None, (title_of(one.metric), _difference(one)))) for one in guilty)


def _row(finding: Finding) -> tuple[str, str, str, str]:
    return title_of(finding.metric), str(finding.change), _difference(finding), finding.why


def _difference(finding: Finding) -> str:
    ratio = None if finding.difference is None else finding.difference.ratio
    return "" if ratio is None else percent(ratio - 1)
