"""Energy of whole runs, net of the rest around them, with its uncertainty; and runs whose energy nobody may believe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from melt_rig import Melt
from native_runners import BUILDS, build
from refused import assert_refused
from virtual.jetson.testing import playing as playing_board
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, playing

pytestmark = BUILDS

Wait = Callable[..., object]

PLAN = """\
name: energy
devices: ["{device}"]
models: [{{model: tiny-pydoc, quants: [q8_0]}}]
workloads: [pp32+tg16 for {seconds}s]
settings: {{threads: 1}}
repeat: {{warmup: 0, repetitions: 1}}
sampling: {{{sampling}}}
"""


def planned(folder: Path, device: str, seconds: int, sampling: str) -> str:
    """Write a plan of one run and return its path."""
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(device=device, seconds=seconds, sampling=sampling))
    return str(path)


@dataclass(frozen=True)
class Lab:
    """Melt and a phone that runs on its battery, whose gauge has a value a second, and that has no rails."""

    melt: Melt
    phone: VirtualPhone
    folder: Path

    def plan(self, seconds: int, sampling: str) -> str:
        return planned(self.folder, f"adb:{self.phone.address}", seconds, sampling)

    def shown(self) -> dict[str, Any]:
        return json.loads(self.melt.here("show", "last", "-o", "json").stdout)


@pytest.fixture
def lab(melt: Melt, tmp_path: Path) -> Iterator[Lab]:
    build("android-arm64")
    with playing("galaxy-s21") as phone, adb_server("system") as server:
        server.connect(phone.address)
        phone.fault.plug(False)
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        yield Lab(melt, phone, tmp_path)


def figures(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {metric["name"]: metric for metric in shown["metrics"] if metric["repetition"] is None}


def reasons(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {reason["code"]: reason for reason in shown["stop"]["reasons"]}


def test_a_board_has_energy_by_phase_gross_and_net(melt: Melt, tmp_path: Path) -> None:
    with playing_board("orin-nano-jp6", tmp_path / "board") as board:
        melt.env.update(board.environment)
        melt("run", planned(tmp_path, board.selector, 4, "baseline_s: 3"), timeout_s=300)
        shown = json.loads(melt.here("show", "last", "-o", "json").stdout)
    found = figures(shown)
    idle_w = found["power_idle_w"]["value"]
    assert 0.5 < idle_w < found["power_mean_w"]["value"]
    for phase in ("load", "prefill", "decode"):
        gross, net = found[f"energy_{phase}_j"], found[f"energy_{phase}_net_j"]
        assert net["value"] < gross["value"]
        assert gross["source"] == "compute module"
        assert gross["figures"]["coverage"] == 1
        assert gross["uncertainty"] >= gross["figures"]["u_class"] == pytest.approx(0.05 * gross["value"])
        assert net["figures"]["u_baseline"] > 0
    tokens = found["energy_decode_j"]["value"] / found["energy_per_token_j"]["value"]
    assert tokens == pytest.approx(round(tokens), rel=1e-6)
    text = melt.here("show", "last").stdout
    assert "W ± " in text
    assert "VDD_IN" in text
    assert "also holds what their meter may be off by" in " ".join(melt.here("compare").stdout.split())


def test_a_slow_gauge_tells_of_long_spans_and_says_so(lab: Lab) -> None:
    lab.melt("run", lab.plan(14, "baseline_s: 13"), timeout_s=300)
    shown = lab.shown()
    found = figures(shown)
    assert found["power_mean_w"]["value"] > found["power_idle_w"]["value"] > 0
    assert "a slow gauge that averages over about 1 s" in found["power_mean_w"]["note"]
    assert found["power_mean_w"]["figures"]["u_age"] > 0
    assert found["energy_decode_j"]["value"] is None
    assert "too few of a meter with 1 new values a second" in found["energy_decode_j"]["note"]
    counted = found["energy_counter_j"]
    assert counted["value"] is not None, counted["note"]
    assert not {"energy_misread", "energy_gap", "meter_stopped", "charge_disagrees"} & {*reasons(shown)}, reasons(shown)


def test_energy_that_is_asked_for_of_a_phone_that_is_charged_makes_a_run_invalid(lab: Lab) -> None:
    lab.phone.fault.plug(True)
    lab.melt("run", lab.plan(2, "energy: required"), timeout_s=300)
    shown = lab.shown()
    assert (shown["stop"]["outcome"], shown["stop"]["verdict"]) == ("ok", "invalid")
    assert "was being charged" in reasons(shown)["energy_charging"]["message"]
    assert figures(shown)["power_mean_w"]["value"] is None
    assert_refused(lab.melt, "energy_charging", "so its power is not the device's")


def test_a_gauge_whose_current_turns_round_gives_no_energy(lab: Lab, wait_for: Wait) -> None:
    """It was calibrated while the phone ran on its battery, and the phone still says that it does."""
    process = lab.melt.start("run", lab.plan(12, "energy: required"))

    def runs() -> bool:
        assert process.poll() is None, process.communicate()
        return any(b"runner_started" in path.read_bytes() for path in lab.melt.store.glob("spool/*/journal"))

    wait_for("a runner", runs, timeout_s=120)
    lab.phone.fault.battery(current_a=0.4)
    process.communicate(timeout=200)
    shown = lab.shown()
    assert (shown["stop"]["outcome"], shown["stop"]["verdict"]) == ("ok", "invalid")
    assert reasons(shown)["energy_misread"]["figures"]["wrong_way_share"] > 0.05
    assert figures(shown)["power_mean_w"]["value"] is None
    assert_refused(lab.melt, "energy_misread", "flowed the wrong way while the battery fed the device")
