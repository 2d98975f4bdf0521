"""A sweep as plain lines for a log: what began or ended, on which device, and when. No control bytes, no colours."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from melt.cli._progress_state import Device, SweepState
from melt.cli._progress_text import clean, describe, in_ascii, title
from melt.events import Event, Note, RunEnded, RunSpared
from melt.records import RunSpec

_EVERY_S = 5.0
"""How often a device may say what it does."""
_AGAIN_S = 60.0
"""After so long it says how far it is with what lasts."""


def _wall_clock() -> str:
    return time.strftime("%H:%M:%S")


class Lines:
    """Writes a line for a phase that began, a run that ended and a note; a device is not let speak all the time."""

    def __init__(
        self,
        state: SweepState,
        out: TextIO,
        *,
        unicode: bool = True,
        now_s: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = _wall_clock,
    ) -> None:
        self._state = state
        self._out = out
        self._unicode = unicode
        self._now_s = now_s
        self._now = now
        self._said: dict[str, tuple[str, float]] = {}
        self._host_said = ""

    def see(self, event: Event) -> None:
        """Write what the event, which the state knows already, is worth."""
        match event:
            case Note():
                self._say(event.device, f"note: {event.text}")
            case RunEnded():
                self._ended(event.bundle.start.spec, describe(event.bundle))
            case RunSpared():
                self._ended(event.spec, f"spared, {event.why}")
        if (host := self._state.host) is not None and host.kind != self._host_said:
            self._host_said = host.kind
            self._say(None, host.kind)
        for device in self._state.devices.values():
            self._phase(device)

    def _phase(self, device: Device) -> None:
        """Say what a device does, when that is something else than before or lasts; later where it spoke just now."""
        kind, now_s = device.phase.kind, self._now_s()
        before, at_s = self._said.get(device.selector, (_SILENT[0], -_AGAIN_S))
        if kind in _SILENT or now_s - at_s < (_AGAIN_S if kind == before else _EVERY_S):
            return
        self._said[device.selector] = (kind, now_s)
        cell = f"{title(device.running)}: " if device.running else ""
        self._say(device.selector, f"{cell}{device.phase.words[0]}")

    def _ended(self, spec: RunSpec, how: str) -> None:
        done, total = (sum(getattr(d, name) for d in self._state.devices.values()) for name in ("done", "total"))
        counted = f"[{done}/{total}] " if total else ""
        left = self._state.sweep_left() if done < total else None
        left = f" ({left})" if left else ""
        self._say(spec.device, f"{counted}{title(spec)}: {how}{left}")

    def _say(self, device: str | None, text: str) -> None:
        line = clean(f"{self._now()} {device or 'melt'}: {text}")
        with suppress(OSError, ValueError):
            print(line if self._unicode else in_ascii(line), file=self._out, flush=True)


_SILENT = ("waiting", "starting", "between runs", "done", "done before")
"""Phases that another line tells already, or that pass at once."""
