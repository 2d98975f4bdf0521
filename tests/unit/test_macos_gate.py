"""The gate in front of a Mac: a program that is kept running in a run is asked once for each look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from store_samples import make_bundle

from melt.records import Gate, Reason
from melt.session import gate as gate_room
from melt.targets.probe import load_snapshot
from melt.transports.base import Completed

DATA = Path(__file__).parents[1] / "data"
SNAPSHOT = load_snapshot((DATA / "snapshots" / "macos" / "macbook-air-m2.json").read_bytes())
MACMON = json.loads((DATA / "macos" / "macmon" / "0.7.json").read_text())


class Mac:
    """Cools by 4 degrees with each look, and is idle but for a tenth of one of its CPUs."""

    def __init__(self) -> None:
        self.looks = 0
        self.asked: set[tuple[str, ...]] = set()

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        self.looks += 1
        assert list(paths) == ["kernel:cpus"]
        ticks = "".join(f"cpu{n} {self.looks * (n == 0)} 0 0 {self.looks * 10}\n" for n in range(8))
        return {"kernel:cpus": ticks.encode()}

    def run(self, argv: Sequence[str]) -> Completed:
        self.asked.add(tuple(argv))
        printed = b""
        if argv[0].endswith("macmon"):
            temperatures = {"cpu_temp_avg": 60.0 - 4 * self.looks, "gpu_temp_avg": 0.0}
            printed = json.dumps({**MACMON, "temp": temperatures}).encode() + b"\n"
        elif argv[0] == "ioreg":
            printed = (DATA / "macos" / "battery" / "held.txt").read_bytes()
        return Completed(tuple(argv), 0, printed, b"")

    def wait(self, gate: Gate) -> Reason | None:
        facts = replace(make_bundle().start.device, os="macos")
        target = SimpleNamespace(facts=facts, agent=self, transport=self)
        site: Any = SimpleNamespace(selector="ssh:mac", snapshot=SNAPSHOT, target=target)
        return gate_room.wait_for_gate(gate, site, lambda _: None, Event())


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_room, "_LOOK_EVERY_S", 0.01)


def test_a_mac_is_let_through_when_it_is_cool_charged_and_idle() -> None:
    mac = Mac()
    gate = Gate(temperature_max_c=45, battery_min_ratio=0.5, charging=False, cpu_idle_min_ratio=0.9, wait_s=30)
    assert mac.wait(gate) is None
    assert mac.looks == 4
    assert ("/opt/homebrew/bin/macmon", "pipe", "-s", "1", "-i", "100") in mac.asked
    assert not any("ioreport_stream.py" in word for argv in mac.asked for word in argv), (
        "tells nothing that a gate asks"
    )


def test_a_mac_that_stays_hot_is_skipped() -> None:
    reason = Mac().wait(Gate(temperature_max_c=1.5, wait_s=0.01))
    assert reason is not None
    assert reason.code == "gate_hot"
