"""A self-test for people and for programs: a table for the terminal, one Markdown file to attach to an issue, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from melt.analysis.selftest import Selftest, Status, Step
from melt.codec import to_dict
from melt.report.table import render_table
from melt.report.words import joined

_FORMAT = "melt-selftest"
_HEADERS = ("what", "step", "result", "found", "time")
_TIME = 4
_PRIVACY = (
    "Serial numbers, UUIDs, addresses, names of users and hosts, and home folders were replaced by words in angle "
    "brackets. Read it once before you publish it."
)


def render_selftest(found: Selftest, fmt: str) -> str:
    """Write a self-test as `table` (the summary), `md` (all of it) or `json`; the text ends a line."""
    if fmt == "json":
        document = {"format": _FORMAT, "version": 1, **to_dict(found)}
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if fmt == "md":
        return "\n".join(_document(found))
    return f"{_table(found, fmt)}\n{summary(found)}\n"


def summary(found: Selftest) -> str:
    """Say in one line how a self-test came out."""
    counts = ", ".join(f"{count} {status}" for status, count in found.counts.items() if count)
    return f"{len(found.steps)} steps: {counts}"


def _table(found: Selftest, fmt: str) -> str:
    return render_table(None, _HEADERS, [_row(step) for step in found.steps], fmt, numeric=(_TIME,))


def _row(step: Step) -> tuple[str, ...]:
    time_s = f"{step.duration_s:.1f} s" if step.duration_s >= 0.05 else ""
    return step.room, step.name, _result(step), step.finding.said, time_s


def _result(step: Step) -> str:
    return "FAIL" if step.finding.status is Status.FAIL else str(step.finding.status)


def _document(found: Selftest) -> Iterator[str]:
    device = found.device
    yield f"# melt selftest: {device.name if device else found.selector}\n"
    yield f"{summary(found)}. {_PRIVACY}\n"
    facts = [
        ("started", datetime.fromtimestamp(found.started_utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")),
        ("device", found.selector),
        ("melt", joined((found.melt_version, f"agent {found.agent_version}" if found.agent_version else None))),
        ("host", found.host),
    ]
    if device is not None:
        facts += [
            ("system", joined((device.os, device.os_build, device.kernel, device.arch, device.virtualization))),
            ("processor", joined((device.soc, f"{len(device.cpus)} CPUs", *device.accelerators))),
            ("power mode", device.power_mode or "-"),
        ]
    yield render_table(None, ("", ""), facts, "md")
    yield _table(found, "md")
    for step in found.steps:
        yield from _section(step)
    if found.snapshot:
        yield "## Snapshot\n"
        yield "What the device's files and commands said, from which all facts and channels follow.\n"
        yield "<details><summary>show</summary>\n"
        yield _fenced(json.dumps(found.snapshot, indent=1, ensure_ascii=False))
        yield "</details>\n"


def _section(step: Step) -> Iterator[str]:
    finding = step.finding
    yield f"## {step.room}: {step.name}\n"
    yield f"**{_result(step)}** in {step.duration_s:.2f} s: {finding.said}\n"
    if finding.figures:
        yield _figures(finding.figures) + "\n"
    if finding.raw:
        yield _fenced(finding.raw)


def _figures(figures: Mapping[str, float | None]) -> str:
    return ", ".join(f"`{name}` {'-' if value is None else f'{value:.6g}'}" for name, value in figures.items())


def _fenced(text: str) -> str:
    """Put a text into a fence that is longer than any in it."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}text\n{text}\n{ticks}\n"
