"""The gate before a phone: what its battery and its heat do opens it, or is the reason why it stayed shut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, playing

from melt.events import Event, Note
from melt.records import Gate, Reason
from melt.session import gate as gate_room
from melt.session.connect import Site, connect
from melt.session.gate import wait_for_gate

pytestmark = pytest.mark.slow


@dataclass
class Waiting:
    """A phone at the gate, what is said meanwhile, and what happens to it once something was said."""

    phone: VirtualPhone
    site: Site
    said: list[str] = field(default_factory=list)

    def __call__(self, then: object = None, **gate: object) -> Reason | None:
        self.said.clear()

        def observe(event: Event) -> None:
            if isinstance(event, Note):
                self.said.append(event.text)
                if callable(then):
                    then()

        return wait_for_gate(Gate(**gate), self.site, observe, threading.Event())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def waiting() -> Iterator[Waiting]:
    with adb_server("system") as server, pytest.MonkeyPatch.context() as patch, playing("pixel-8", data_mb=32) as phone:
        patch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{server.port}")
        patch.setattr(gate_room, "_LOOK_EVERY_S", 0.1)
        server.connect(phone.address)
        site = connect(f"adb:{phone.address}")
        yield Waiting(phone, site)
        site.close()


def test_a_low_battery_waits_until_it_is_charged(waiting: Waiting) -> None:
    waiting.phone.fault.battery(level=12)
    closed = waiting(battery_min_ratio=0.3, wait_s=0.2)
    assert closed is not None
    assert (closed.code, closed.figures) == ("gate_battery_low", {"gate_battery_low": 0.12})
    assert waiting(lambda: waiting.phone.fault.battery(level=40), battery_min_ratio=0.3, wait_s=20) is None
    assert "battery is 12.0 %, wanted at 30.0 % or more" in waiting.said[0]
    waiting.phone.fault.battery(level=None)


def test_a_hot_phone_waits_until_it_has_cooled(waiting: Waiting) -> None:
    waiting.phone.fault.ramp(55.0)
    closed = waiting(temperature_max_c=45, wait_s=0.2)
    assert closed is not None
    assert closed.code == "gate_hot"
    assert closed.figures["gate_hot"] > 55
    assert waiting(lambda: waiting.phone.fault.ramp(None), temperature_max_c=45, wait_s=20) is None
    assert len(waiting.said) == 1


def test_a_phone_that_warms_up_is_not_stable(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_room, "_SETTLED_WITHIN_S", 1.0)
    waiting.phone.fault.ramp(60.0, seconds=3.0)
    closed = waiting(temperature_stable_c=1, wait_s=1.5)
    assert closed is not None
    assert closed.code == "gate_unsettled"
    assert closed.figures["gate_unsettled"] > 1
    assert waiting(temperature_stable_c=1, wait_s=20) is None
    waiting.phone.fault.ramp(None)


def test_a_charger_that_is_pulled_opens_the_gate(waiting: Waiting) -> None:
    assert waiting(charging=True, wait_s=0.2) is None
    assert waiting(lambda: waiting.phone.fault.plug(False), charging=False, wait_s=20) is None
    assert "charging is yes, wanted no" in waiting.said[0]
    waiting.phone.fault.plug(True)
