"""A judged night for people: what is wrong first, then every figure; and the changes in a history as a list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from melt.analysis.ab import Change
from melt.analysis.alike import FIELDS, short
from melt.analysis.changepoints import ChangePoint
from melt.analysis.names import METRICS
from melt.analysis.nightly import Acceptable, Finding, NightReport, SeriesReport, acknowledgeable
from melt.codec import to_dict
from melt.errors import UsageError
from melt.report.scale import percent, scale_for
from melt.report.table import render_table, write_rows
from melt.units import counted

_MARKUP = re.compile(r"[&<>`*\[\]~#]|\b_|_\b")
_HEADERS = ("metric", "", "night", "before", "change", "95 % interval", "counts from", "verdict")
_NUMERIC = (2, 3, 4, 5, 6)
_BAD = (Change.REGRESSED, Change.INCOMPARABLE)
_LIST_HEADERS = ("id", "first night", "series", "metric", "before", "after", "change", "state")
_LIST_KEYS = (
    *("change_id", "series_id", "series", "device_id", "metric", "sweep_id", "began_utc_ns", "before", "after"),
    *("ratio", "change", "found", "state", "acknowledged", "what"),
)


def render_night(report: NightReport, fmt: str) -> str:
    """Write a judged night as `table`, `md` or `json`; the text ends a line. Raises UsageError for another form."""
    if fmt == "json":
        return json.dumps(_document(report), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if fmt not in ("table", "md"):
        raise UsageError(f"a night cannot be written as {fmt!r}: choose table, md or json")
    bullet = "- " if fmt == "md" else "  "
    parts = ["".join(f"{line}\n" for line in _headline(report, fmt))]
    if wrong := list(troubles(report)):
        parts.append("".join(f"{bullet}{_text(line, fmt)}\n" for line in wrong))
    for one in report.series:
        if one.findings:
            parts.append(_section(one, fmt))
    parts.append("".join(f"{_text(line, fmt)}\n" for line in _footers(report)))
    return "\n".join(part for part in parts if part)


def render_changes(reports: Sequence[SeriesReport], fmt: str) -> str:
    """Write all changes of some histories, newest first, as `table`, `md` or `json`; empty where there is none.

    What makes the newest night unlike those before it, and nobody accepted, is one of them, of the whole device.
    """
    found = [(one, change) for one in reports for change in one.changes]
    found.sort(key=lambda pair: (-pair[1].began_utc_ns, pair[0].series.label, pair[1].metric))
    conditions = {
        own.change_id: (one, own) for one in reports for own in acknowledgeable(one) if own.metric is None
    }.values()
    if not found and not conditions:
        return ""
    if fmt == "json":
        records = [_record_of_condition(one, own) for one, own in conditions]
        return write_rows(_LIST_KEYS, [*records, *(_record(one, change) for one, change in found)], fmt)
    lines = [_line_of_condition(one, own) for one, own in conditions]
    lines += [_line(one, change) for one, change in found]
    rows = [[_text(cell, fmt) for cell in line] for line in lines]
    return render_table(None, _LIST_HEADERS, rows, fmt, numeric=(4, 5, 6))


def state_of(change: ChangePoint) -> str:
    """Say whether a change still makes nights fail, and if not, why."""
    if change.acknowledged is not None:
        return f"accepted: {change.acknowledged}"
    if change.change is Change.IMPROVED:
        return "improved"
    return "over" if change.ended else "open"


def verdict_of(report: NightReport) -> str:
    """Say in a few words what a night came to."""
    findings = [finding for one in report.series for finding in one.findings]
    failed = sum(one.failed is not None for one in report.series)
    told = [f"{counted(failed, 'series')} not measured"] * bool(failed)
    for change in (Change.REGRESSED, Change.INCOMPARABLE, Change.IMPROVED):
        if n := sum(finding.change is change for finding in findings):
            told.append(f"{counted(n, 'figure')} {change}")
    return ", ".join(told) or "no regression"


def _headline(report: NightReport, fmt: str) -> Iterator[str]:
    text = verdict_of(report)
    yield f"## melt: {text}" if fmt == "md" else f"{'fine' if report.is_fine else 'NOT FINE'}: {text}"
    if fmt == "md":
        yield ""
    n = sum(len(one.findings) for one in report.series)
    yield (
        f"{counted(n, 'figure')} in {len(report.series)} series of {', '.join(report.sweeps)}, "
        f"held against {report.baseline}"
    )


def troubles(report: NightReport) -> Iterator[str]:
    """Say what makes a night fail, a sentence for each thing."""
    for one in report.series:
        if one.failed is not None:
            yield f"{_plain(one.series.label)}: {_plain(one.failed)}"
        for finding in one.findings:
            if finding.change in _BAD:
                known = f" [{finding.change_id}]" if finding.change_id else ""
                why = f", {finding.why}" if finding.why else ""
                yield _plain(f"{one.series.label}: {METRICS[finding.metric].title} {finding.change}{why}{known}")


def _section(one: SeriesReport, fmt: str) -> str:
    rows = [[_text(cell, fmt) for cell in _row(finding)] for finding in one.findings]
    label = _text(_plain(one.series.label), fmt)
    table = render_table(label, _HEADERS, rows, fmt, numeric=_NUMERIC)
    quiet = all(finding.change not in (*_BAD, Change.IMPROVED) for finding in one.findings)
    if fmt != "md" or not quiet:
        return table
    _, _, rest = table.partition("\n")
    return f"<details><summary>{label}: nothing changed</summary>\n{rest}\n</details>\n"


def _row(finding: Finding) -> list[str]:
    difference, metric = finding.difference, METRICS[finding.metric]
    threshold = "-" if finding.threshold is None else f"{finding.threshold.value:.1%}"
    verdict = str(finding.change) if finding.change else f"not judged: {finding.why}"
    if difference is None:
        return [metric.title, "", "-", "-", "-", "-", threshold, verdict]
    scale = scale_for([value for value in (difference.a, difference.b) if value is not None], metric.unit)
    written = ["-" if value is None else scale.write(value) for value in (difference.b, difference.a)]
    interval = "-"
    if difference.low is not None and difference.high is not None:
        interval = f"{percent(difference.low - 1)} to {percent(difference.high - 1)}"
    change = "-" if difference.ratio is None else percent(difference.ratio - 1)
    return [metric.title, scale.symbol, *written, change, interval, threshold, verdict]


def _footers(report: NightReport) -> Iterator[str]:
    yield from _marks(report)
    for one in report.series:
        told: dict[str, list[str]] = {}
        for finding in one.findings:
            if finding.threshold is not None:
                told.setdefault(finding.threshold.how, []).append(METRICS[finding.metric].title)
        if told:
            listed = "; ".join(f"{', '.join(titles)}: {how}" for how, titles in told.items())
            yield _plain(f"Thresholds, {one.series.label}: {listed}.")
    seen = [f for one in report.series for f in one.findings if f.change is Change.INCONCLUSIVE and f.difference]
    few = [f.difference.detectable for f in seen if f.difference is not None and f.difference.detectable is not None]
    if few:
        yield f"Inconclusive: a change under {min(few):.0%} to {max(few):.0%} would not be told by so few sessions."
    ids = [f.change_id for one in report.series for f in one.findings if f.change_id and f.change in _BAD]
    if ids:
        yield f"If it is as it should be: melt regress --acknowledge {ids[0]} --because '...'"


def _marks(report: NightReport) -> Iterator[str]:
    """Say what besides the figures became another with this night, once for all series that share it."""
    told: dict[str, None] = {}
    for one in report.series:
        for mark in one.series.marks:
            if one.series.nights[mark.night] is one.night:
                title = FIELDS.get(mark.field, mark.field.replace("_", " "))
                device = one.series.start.device.name
                told[_plain(f"New on {device}: {title} {short(mark.after)}, before {short(mark.before)}.")] = None
    yield from told


def _line(one: SeriesReport, change: ChangePoint) -> list[str]:
    metric = METRICS[change.metric]
    scale = scale_for((change.before, change.after), metric.unit)
    values = [f"{scale.write(value)} {scale.symbol}".strip() for value in (change.before, change.after)]
    night = _night(change.began_utc_ns, change.sweep_id)
    series = _plain(one.series.label)
    return [change.change_id, night, series, metric.title, *values, percent(change.ratio - 1), state_of(change)]


def _line_of_condition(one: SeriesReport, own: Acceptable) -> list[str]:
    night = _night(_began_utc_ns(one, own), own.sweep_id)
    device = one.series.start.device.name
    what = own.what.removeprefix(f"{device}: ")
    return [own.change_id, night, _plain(device), _plain(what), "-", "-", "-", "open"]


def _began_utc_ns(one: SeriesReport, own: Acceptable) -> int:
    return next(night.began_utc_ns for night in one.series.nights if night.sweep_id == own.sweep_id)


def _night(began_utc_ns: int, sweep_id: str) -> str:
    return f"{datetime.fromtimestamp(began_utc_ns // 10**9, UTC):%Y-%m-%d} {sweep_id}"


def _record_of_condition(one: SeriesReport, own: Acceptable) -> dict[str, Any]:
    return {
        **dict.fromkeys(_LIST_KEYS),
        **to_dict(own),
        "began_utc_ns": _began_utc_ns(one, own),
        "change": str(Change.INCOMPARABLE),
        "state": "open",
    }


def _record(one: SeriesReport, change: ChangePoint) -> dict[str, Any]:
    own = to_dict(change)
    return {
        **own,
        "series": one.series.label,
        "device_id": one.series.start.device.device_id,
        "what": None,
        "ratio": change.ratio,
        "state": state_of(change).partition(":")[0],
    }


def _document(report: NightReport) -> dict[str, Any]:
    return {
        "fine": report.is_fine,
        "verdict": verdict_of(report),
        "sweeps": list(report.sweeps),
        "baseline": report.baseline,
        "series": [_series(one) for one in report.series],
    }


def _series(one: SeriesReport) -> dict[str, Any]:
    start = one.series.start
    return {
        "series_id": one.series.series_id,
        "series": one.series.label,
        "device_id": start.device.device_id,
        "device": start.device.name,
        "model": start.spec.model,
        "quant": start.spec.quant,
        "workload": start.spec.workload.name,
        "sweep": None if one.night is None else one.night.sweep_id,
        "runs": [] if one.night is None else list(one.night.run_ids),
        "found": {} if one.night is None else dict(one.night.found),
        "failed": one.failed,
        "marks": [
            {**to_dict(mark), "sweep": one.series.nights[mark.night].sweep_id}
            for mark in one.series.marks
            if one.night is not None and one.series.nights[mark.night].began_utc_ns <= one.night.began_utc_ns
        ],
        "findings": [_finding(finding) for finding in one.findings],
        "changes": [{**to_dict(change), "ratio": change.ratio, "open": change.is_open} for change in one.changes],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    told: dict[str, Any] = to_dict(finding)
    return {**told, "unit": METRICS[finding.metric].unit}


def _plain(text: str) -> str:
    """Leave nothing in a name that steers a terminal or breaks a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def _text(text: str, fmt: str) -> str:
    """Write a text that means itself: in Markdown a name may hold what begins an element, a link or an emphasis.

    Entities instead of backslashes, for these are escaped once more in the cells of tables.
    """
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text) if fmt == "md" else text
