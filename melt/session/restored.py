"""Whether the agent could put everything back that a run had changed, and what to tell a person where it could not."""

from __future__ import annotations

from collections.abc import Iterable

from melt.codec import loads
from melt.records import Knob, RunStart
from melt.session import folder as docs
from melt.session.collect import Collected
from melt.session.folder import RunFolder

_SHOWN = 100


def not_restored(collected: Collected, folder: RunFolder) -> str | None:
    """Return a sentence on conditions that stayed as the run had set them; None where there are none."""
    start = folder.read_document(docs.START)
    return sentence(collected, () if start is None else loads(RunStart, start).knobs)


def sentence(collected: Collected, knobs: Iterable[Knob]) -> str | None:
    """Say what was found before the run, to be set by hand, and which command failed; None: all is well."""
    restored = (collected.end or {}).get("restored")
    tried = restored if isinstance(restored, list) else []
    failed = [str(one.get("what")) for one in tried if isinstance(one, dict) and one.get("ok") is False]
    if not failed:
        return None
    found = ", ".join(f"{knob.name} {knob.before}" for knob in knobs if knob.before is not None)
    before = f" Before the run it had {found}." if found else ""
    commands = "; ".join(_short(command) for command in failed)
    return f"not everything could be put back, do it by hand on the device.{before} What failed there: {commands}"


def _short(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
