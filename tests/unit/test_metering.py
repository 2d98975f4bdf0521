"""A power meter beside a run: whatever it does, the run goes on, and what happened is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from melt.errors import TransportError
from melt.session import metering
from melt.session.metering import metered
from melt.targets.profiles import ExternalMeter
from melt.telemetry.meters.base import WATTS, Batch, ClockReading, MeterFacts
from melt.telemetry.meters.recording import Recording, read_recording

_WANTED = ExternalMeter("bench", "whole device", {}, "bench.yaml: meter")


class _Meter:
    """Has one batch, and then does what it is told."""

    def __init__(self, then: Callable[[], Batch | None]) -> None:
        self._then, self._sent, self.closed = then, False, False

    def open(self) -> MeterFacts:
        return MeterFacts(name="bench meter", columns=(WATTS,), rate_hz=10.0)

    def start(self) -> None:
        pass

    def read(self) -> Batch | None:
        if self._sent:
            return self._then()
        self._sent = True
        return Batch(np.array([1], np.int64), np.array([[2.0]]), ClockReading(0, 1, 2))

    def switch(self, on: bool) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


class _Agent:
    """Tells its clock; `broken` times the link breaks first."""

    def __init__(self, broken: int = 0) -> None:
        self._broken = broken

    def clock_offset(self, n: int) -> tuple[int, int]:
        if self._broken:
            self._broken -= 1
            raise TransportError("the link broke")
        return 5, 1

    def burst(self, steps_ms: Sequence[int]) -> tuple[tuple[int, int], ...]:
        return ((1, 2),)


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def write_document(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)


def _recorded(
    meter: _Meter, agent: _Agent, path: Path, monkeypatch: pytest.MonkeyPatch, until: Event
) -> tuple[Recording, list[str]]:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        until.set()

    monkeypatch.setattr(metering, "make_meter", lambda *_: meter)
    with metered(_WANTED, _Folder(path), agent, say, stop=Event()):  # type: ignore[arg-type]
        assert until.wait(10.0)
    found = read_recording(path)
    assert found is not None
    return found, said


def test_a_driver_that_raises_what_it_likes_is_a_meter_that_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> Batch | None:
        raise OSError("no such device")

    meter = _Meter(gone)
    found, said = _recorded(meter, _Agent(), tmp_path, monkeypatch, Event())
    assert (found.noted.end, found.noted.complaint) == ("lost", "OSError: no such device")
    assert said == ["the run goes on without its power meter: OSError: no such device"]
    assert found.t_ns.tolist() == [1]
    assert meter.closed


def test_a_link_that_breaks_while_clocks_are_compared_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, said = _recorded(_Meter(lambda: None), _Agent(broken=2), tmp_path, monkeypatch, Event())
    assert found.noted.end == "stopped"
    assert len(found.noted.device_clock) == len(found.noted.played) == 2
    assert len(said) == 1
