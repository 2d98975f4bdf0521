"""The gate: each wish is held against what the device says now, and against the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from store_samples import make_bundle, make_stream

from melt.errors import TransportError
from melt.events import Note, Waiting
from melt.records import Gate, Reason
from melt.session import gate as gate_room
from melt.session.gate import wait_for_gate

BATTERY = "/sys/class/power_supply/BAT0"
ZONE = "/sys/class/thermal/thermal_zone0"
LAPTOP = {
    f"{BATTERY}/type": "Battery",
    f"{BATTERY}/status": "Discharging",
    f"{BATTERY}/capacity": "80",
    f"{ZONE}/type": "x86_pkg_temp",
    f"{ZONE}/temp": "40000",
    "/sys/devices/system/cpu/online": "0",
    "/proc/stat": "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n",
}


class Device:
    """Files that change from look to look, and the little of a site that the gate touches."""

    def __init__(self, at: Callable[[int], Mapping[str, str]] = lambda look: {}, files: Mapping[str, str] = LAPTOP):
        self.at, self.files, self.looks = at, files, 0
        self.notes: list[str] = []
        self.waits: list[Waiting] = []

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        self.looks += 1
        now = {**self.files, **self.at(self.looks)}
        return {path: now[path].encode() for path in paths if path in now}

    def wait(self, gate: Gate, stop: Event | None = None) -> Reason | None:
        facts = replace(make_bundle().start.device, os="linux")
        site: Any = SimpleNamespace(
            selector="local",
            snapshot={path: text.encode() for path, text in self.files.items()},
            target=SimpleNamespace(facts=facts, agent=self, transport=None),
        )
        notes: list[Any] = []
        reason = wait_for_gate(gate, site, notes.append, stop or Event())
        self.notes = [note.text for note in notes if isinstance(note, Note)]
        self.waits = [wait for wait in notes if isinstance(wait, Waiting)]
        return reason


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_room, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(gate_room, "_SETTLED_WITHIN_S", 0.1)


def stat(busy: int, idle: int) -> dict[str, str]:
    line = f"{busy} 0 0 {idle} 0 0 0 0 0 0"
    return {"/proc/stat": f"cpu  {line}\ncpu0 {line}\n"}


HOT, LOW, PLUGGED = {f"{ZONE}/temp": "70000"}, {f"{BATTERY}/capacity": "12"}, {f"{BATTERY}/status": "Charging"}


def test_nothing_asked_is_nothing_looked_at() -> None:
    device = Device()
    assert device.wait(Gate()) is None
    assert device.looks == 0


def test_a_rest_lasts_as_long_as_it_is_asked_for_and_is_shown() -> None:
    device = Device()
    began_s = time.monotonic()
    assert device.wait(Gate(pause_s=0.2)) is None
    assert time.monotonic() - began_s >= 0.2
    assert device.looks == 0
    assert {(wait.what, wait.goal, wait.unit) for wait in device.waits} == {("end of rest", 0.2, "s")}
    assert device.waits[0].left_s == pytest.approx(0.2, abs=0.05)


def test_a_stop_ends_the_rest_at_once() -> None:
    stop = Event()
    stop.set()
    reason = Device().wait(Gate(pause_s=600), stop)
    assert reason is not None
    assert (reason.code, "rested" in reason.message) == ("interrupted", True)


def test_the_wait_begins_after_the_rest() -> None:
    device = Device(lambda look: HOT if look < 2 else {})
    assert device.wait(Gate(pause_s=0.3, temperature_max_c=45, wait_s=0.25)) is None


@pytest.mark.parametrize(
    ("gate", "closed", "code", "figure"),
    [
        (Gate(battery_min_ratio=0.3), LOW, "gate_battery_low", 0.12),
        (Gate(temperature_max_c=45), HOT, "gate_hot", 70.0),
        (Gate(charging=False), PLUGGED, "gate_charging", 1.0),
    ],
)
def test_a_wish_opens_when_it_holds_and_skips_the_run_when_it_never_does(
    gate: Gate, closed: dict[str, str], code: str, figure: float
) -> None:
    patient = Device(lambda look: closed if look < 4 else {})
    assert patient.wait(replace(gate, wait_s=30)) is None
    assert patient.looks == 4
    assert len(patient.notes) == 1
    never = Device(lambda look: closed).wait(replace(gate, wait_s=0.05))
    assert never is not None
    assert (never.code, never.figures) == (code, {code: figure})
    assert never.message.startswith("not within ")


def test_charging_may_be_what_is_wanted() -> None:
    assert Device(lambda look: PLUGGED).wait(Gate(charging=True, wait_s=0.05)) is None
    reason = Device().wait(Gate(charging=True, wait_s=0.05))
    assert reason is not None
    assert reason.message.endswith("charging is no, wanted yes")


def test_a_temperature_that_still_moves_is_not_stable() -> None:
    settling = Device(lambda look: {f"{ZONE}/temp": str(40_000 + max(0, 10 - look) * 1000)})
    assert settling.wait(Gate(temperature_stable_c=0.5, wait_s=30)) is None
    assert settling.looks > 10
    moving = Device(lambda look: {f"{ZONE}/temp": str(40_000 + 1000 * (look % 2))})
    reason = moving.wait(Gate(temperature_stable_c=0.5, wait_s=0.4))
    assert reason is not None
    assert (reason.code, reason.figures) == ("gate_unsettled", {"gate_unsettled": 1.0})


@pytest.mark.parametrize("every_s", [0.5, 7.0, 13.0, 29.0, 45.0])
def test_looks_over_a_slow_link_span_the_half_minute_too(every_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_room, "_SETTLED_WITHIN_S", 30.0)
    look = gate_room._Look({"t": make_stream("t", "temperature", "c")})
    said = []
    for number in range(int(200 / every_s)):
        look.take({"t": 40.0}, number * every_s)
        said.append((number * every_s, look.moved_c()))
    assert [moved for at_s, moved in said if at_s >= 30] == [0.0] * sum(at_s >= 30 for at_s, _ in said)
    assert all(moved == math.inf for at_s, moved in said if at_s < 30)


def test_idle_is_what_happened_between_two_looks() -> None:
    calm = Device(lambda look: stat(busy=1000 + look, idle=99 * look))
    assert calm.wait(Gate(cpu_idle_min_ratio=0.95, wait_s=30)) is None
    assert calm.looks == 2
    reason = Device(lambda look: stat(busy=60 * look, idle=40 * look)).wait(Gate(cpu_idle_min_ratio=0.95, wait_s=0.05))
    assert reason is not None
    assert (reason.code, reason.figures["gate_busy"]) == ("gate_busy", pytest.approx(0.4))


def test_no_tick_between_two_looks_is_not_known_yet() -> None:
    reason = Device(lambda look: stat(busy=60, idle=40)).wait(Gate(cpu_idle_min_ratio=0.95, wait_s=0.05))
    assert reason is not None
    assert reason.code == "gate_busy"


def test_what_the_device_does_not_tell_is_said_at_once() -> None:
    files = {path: text for path, text in LAPTOP.items() if BATTERY not in path}
    device = Device(files=files)
    reason = device.wait(Gate(battery_min_ratio=0.3, wait_s=600))
    assert reason is not None
    assert reason.code == "gate_unknown"
    assert "which this device does not tell" in reason.message
    assert device.looks == 1


def test_a_stop_ends_the_waiting() -> None:
    stop = Event()
    device = Device(lambda look: stop.set() or HOT if look == 3 else HOT)
    reason = device.wait(Gate(temperature_max_c=45, wait_s=600), stop)
    assert reason is not None
    assert (reason.code, "70" in reason.message) == ("interrupted", True)
    assert device.looks == 3


def test_a_link_that_breaks_meanwhile_is_waited_for() -> None:
    def at(look: int) -> Mapping[str, str]:
        if look == 2:
            raise TransportError("the link broke")
        return HOT if look == 1 else {}

    device = Device(at)
    assert device.wait(Gate(temperature_max_c=45, wait_s=30)) is None
    assert any("out of reach" in note for note in device.notes)
