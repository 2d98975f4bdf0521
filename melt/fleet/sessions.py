"""Which session a run belongs to: another with each block, each boot and each melt, counted on when one is resumed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from melt.events import Event, Observer, Reading
from melt.fleet.look import health_of
from melt.plan.ids import new_id
from melt.records import Apart, Gate, RunSpec, Session
from melt.session.connect import Site
from melt.store.store import Store
from melt.telemetry.platforms import platform


@dataclass(slots=True)
class Sessions:
    """The sessions of one device in a sweep, as far as this melt made them.

    `before` is the last one that was known when it came; `used_utc_ns` is when the last run on the device had ended,
    of any sweep. None: there is none.
    """

    before: Session | None = None
    used_utc_ns: int | None = None
    _now: Session | None = field(default=None, init=False)
    _used_s: float | None = field(default=None, init=False)
    _gate_c: float | None = field(default=None, init=False)

    @classmethod
    def known(cls, store: Store, sweep_id: str, device_id: str) -> Sessions:
        """Go on from what a store knows of a device. Raises StoreError."""
        return cls(store.last_session(sweep_id, device_id), store.last_used_utc_ns(device_id))

    def watching(self, observe: Observer) -> Observer:
        """Return an observer for a gate: the temperature at which it opens is that at which a session begins."""

        def see(event: Event) -> None:
            if isinstance(event, Reading):
                self._gate_c = event.temperature_c
            observe(event)

        return see

    def of(self, spec: RunSpec, site: Site) -> Session:
        """Return the session of a run that begins now, or would have begun."""
        facts, gate_c, self._gate_c = site.target.facts, self._gate_c, None
        last = self._now
        if last is not None and (last.block, last.boot_id) == (spec.block, facts.boot_id):
            return last
        previous = last or self.before
        self._now = Session(
            uid=new_id(),
            sweep_id=spec.sweep_id,
            device_id=facts.device_id,
            block=spec.block,
            number=0 if previous is None else previous.number + 1,
            apart=_apart(previous, facts.boot_id, spec.gate, anew=last is None),
            began_utc_ns=time.time_ns(),
            boot_id=facts.boot_id,
            rested_s=self._rested_s(),
            temperature_c=health_of(platform(facts.os), site.snapshot).hottest_c if gate_c is None else gate_c,
        )
        return self._now

    def rests(self) -> None:
        """Note that a run on the device has ended."""
        self._used_s = time.monotonic()

    def _rested_s(self) -> float | None:
        if self._used_s is not None:
            return time.monotonic() - self._used_s
        if self.used_utc_ns is None:
            return None
        rested_s = (time.time_ns() - self.used_utc_ns) / 1e9
        # The host's clock was set back meanwhile: nobody knows.
        return rested_s if rested_s >= 0 else None


def _apart(previous: Session | None, boot_id: str | None, gate: Gate, *, anew: bool) -> Apart:
    if previous is None:
        return Apart.START
    if None not in (boot_id, previous.boot_id) and boot_id != previous.boot_id:
        return Apart.BOOT
    if gate.temperature_max_c is not None or gate.temperature_stable_c is not None:
        return Apart.COOL_DOWN
    if gate.pause_s:
        return Apart.PAUSE
    return Apart.START if anew else Apart.BLOCK
