"""A judged night as JUnit XML: a suite for each series, a case for each metric; the form that CI servers show."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from melt.analysis.ab import Change
from melt.analysis.names import METRICS
from melt.analysis.nightly import Finding, NightReport, SeriesReport

_FAILS = (Change.REGRESSED, Change.INCOMPARABLE)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, escaped or not."""


def junit_xml(report: NightReport) -> str:
    """Write a judged night as JUnit XML, by the schema that Jenkins checks (junit-10.xsd of its xUnit plug-in)."""
    root = Element("testsuites", name="melt regress")
    totals = {"tests": 0, "failures": 0, "errors": 0}
    for index, one in enumerate(report.series):
        suite = _suite(one, index)
        root.append(suite)
        for name in totals:
            totals[name] += int(suite.get(name, "0"))
    for name, value in totals.items():
        root.set(name, str(value))
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(one: SeriesReport, index: int) -> Element:
    start = one.series.start
    cases = [_case(one, finding) for finding in one.findings] or [_failed(one)]
    counts = {kind: sum(case.find(tag) is not None for case in cases) for kind, tag in _KINDS.items()}
    began_ns = start.started_utc_ns if one.night is None else one.night.began_utc_ns
    attributes = {
        "name": _text(one.series.label),
        "tests": str(len(cases)),
        **{kind: str(n) for kind, n in counts.items()},
        "time": "0",
        "timestamp": f"{datetime.fromtimestamp(began_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}",
        "hostname": _text(start.device.name) or "device",
        "id": str(index),
        "package": _text(start.spec.plan) or "melt",
    }
    suite = Element("testsuite", attributes)
    properties = SubElement(suite, "properties")
    told = {"series_id": one.series.series_id, "device_id": start.device.device_id}
    if one.night is not None:
        told |= {"sweep_id": one.night.sweep_id, "verdict": str(one.night.verdict)}
        told |= {name: value for name, value in one.night.found.items() if value is not None}
    for name, value in told.items():
        SubElement(properties, "property", name=_text(name), value=_text(value))
    suite.extend(cases)
    SubElement(suite, "system-out")
    SubElement(suite, "system-err")
    return suite


_KINDS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _case(one: SeriesReport, finding: Finding) -> Element:
    case = Element("testcase", classname=_class(one), name=finding.metric, time="0")
    if finding.change in _FAILS:
        title = METRICS[finding.metric].title
        message = _text(", ".join(filter(None, (f"{title} {finding.change}", finding.why))))
        SubElement(case, "failure", message=message, type=str(finding.change)).text = _text(_details(finding))
    elif finding.change is None:
        SubElement(case, "skipped", message=_text(finding.why))
    return case


def _failed(one: SeriesReport) -> Element:
    case = Element("testcase", classname=_class(one), name="measured", time="0")
    message = _text(one.failed or "nothing that melt judges was measured")
    SubElement(case, "error", message=message, type="not measured").text = message
    return case


def _details(finding: Finding) -> str:
    lines = []
    unit = METRICS[finding.metric].unit
    if (difference := finding.difference) is not None:
        lines.append(f"{difference.b} {unit} in {difference.n_b} sessions, before {difference.a} in {difference.n_a}")
        if difference.ratio is not None and difference.low is not None and difference.high is not None:
            lines.append(f"ratio {difference.ratio:.4f}, 95 % interval {difference.low:.4f} to {difference.high:.4f}")
    if finding.threshold is not None:
        lines.append(f"counts from {finding.threshold.value:.1%} on ({finding.threshold.how})")
    if finding.against:
        lines.append(f"held against {', '.join(finding.against)}")
    if finding.change_id:
        lines.append(f"melt regress --acknowledge {finding.change_id} --because '...'")
    return "\n".join(lines)


def _class(one: SeriesReport) -> str:
    spec = one.series.start.spec
    parts = (one.series.start.device.name, spec.model, spec.quant, spec.workload.name)
    return _text(".".join(part.replace(".", "_") for part in parts if part)) or "melt"


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
