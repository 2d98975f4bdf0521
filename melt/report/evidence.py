"""What a run that did not end well has left, for a person: how it ended, the last seconds, and what was said."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from melt.analysis.last_samples import LAST_S, LastSamples
from melt.report.table import render_table
from melt.units import human

_EXIT = "exit"
_ORDER = ("stderr", "logcat", "dmesg")
_NAMES = {"stderr": "What the runner said (stderr)", "dmesg": "The kernel's log (dmesg)", "logcat": "Android's log"}
_ENDS = {
    "completed": "the runner ended",
    "timeout": "the agent ended the runner at the run's timeout",
    "tripped": "the agent ended the runner because the device became too hot",
    "stopped": "the agent ended the runner because it was told to",
    "runner_not_started": "the runner could not be started",
    "agent_killed": "a part of the agent was killed, and the runner with it",
    "recovered": "the agent was gone; what it had left was ended later",
}
_STATES = {
    "absent": "nothing of the run was left on the device",
    "stalled": "the agent on the device did not answer any more",
    "unknown": "this computer lost sight of the run, and what came home does not tell",
}


def evidence_sections(evidence: Mapping[str, str], samples: Sequence[LastSamples], fmt: str) -> Iterator[str]:
    """Yield each piece of evidence as a text that ends a line; one sentence where nothing was started."""
    if not evidence:
        yield "No evidence is kept: the run ended well, or nothing was started on the device.\n"
        return
    if _EXIT in evidence:
        yield _lines("How it ended", exit_sentence(evidence[_EXIT]), fmt)
    if samples:
        headers = ("", *(f"{second - LAST_S + 1} s" if second < LAST_S - 1 else "end" for second in range(LAST_S)))
        rows = [(one.title, *(_value(value, one.unit) for value in one.values)) for one in samples]
        yield render_table("The last seconds", headers, rows, fmt, numeric=range(1, LAST_S + 1))
    names = [*(name for name in _ORDER if name in evidence), *sorted(set(evidence) - {_EXIT, *_ORDER})]
    for name in names:
        yield _lines(_NAMES.get(name, name), evidence[name], fmt)


def exit_sentence(document: str) -> str:
    """Say in words what the agent noted at the end of a run; the document itself where it is none of the agent's."""
    try:
        end = json.loads(document)
    except ValueError:
        return document
    if not isinstance(end, dict):
        return document
    if "reason" not in end:
        return _STATES.get(str(end.get("state")), document)
    parts = [_ENDS.get(str(end["reason"]), str(end["reason"]))]
    if end.get("exit_code") is not None:
        parts.append(f"exit code {end['exit_code']}")
    if (number := end.get("signal")) is not None:
        parts.append(f"signal {number}{_signal_name(number)}")
    if end.get("oom_kill") is True:
        parts.append("the kernel killed for want of memory meanwhile")
    if end.get("rebooted") is True:
        parts.append("the device started anew")
    if end.get("journal_errno") is not None:
        parts.append(f"the journal could not be written (errno {end['journal_errno']})")
    return "; ".join(parts)


def _signal_name(number: object) -> str:
    with suppress(ValueError, TypeError):
        return f" ({signal.Signals(number).name})"  # type: ignore[arg-type]
    return ""


def _value(value: float, unit: str) -> str:
    return "-" if math.isnan(value) else human(value, unit)


def _lines(title: str, text: str, fmt: str) -> str:
    if fmt == "md":
        return f"### {title}\n\n```\n{text}\n```\n"
    return "\n".join((f"{title}:", "", *(f"    {line}" for line in text.splitlines()))) + "\n"
