"""A run that an external power meter watches: a program plays one whose true energy is known at every moment."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from melt_rig import Melt

from melt.store.store import Store

_IDLE_W, _SWING_W, _PERIOD_S = 3.0, 2.0, 0.037
_METER = f"""\
import math, sys, time
stops_after_s = float(sys.argv[1])
began_ns = time.monotonic_ns()
drift, step_ns, k = 50e-6, 200_000, 0
while True:
    now_ns = time.monotonic_ns()
    lines = []
    while began_ns + k * step_ns <= now_ns:
        t_ns = began_ns + k * step_ns
        watts = {_IDLE_W} + {_SWING_W} * math.sin(2 * math.pi * t_ns / 1e9 / {_PERIOD_S})
        lines.append(f"{{round((t_ns - began_ns) * (1 - drift)) + 12345}},4.2,{{watts / 4.2!r}}\\n")
        k += 1
    sys.stdout.write("".join(lines))
    sys.stdout.flush()
    if (now_ns - began_ns) / 1e9 > stops_after_s:
        break
    time.sleep(0.002)
"""
"""5 kHz, a clock of its own that is 50 ppm slow; what it measures goes up and down as this computer's clock says."""


def _true_j(t0_ns: int, t1_ns: int) -> float:
    """Integrate what the meter plays."""
    turn = 2 * math.pi / _PERIOD_S
    swing = (math.cos(turn * t0_ns / 1e9) - math.cos(turn * t1_ns / 1e9)) / turn
    return _IDLE_W * (t1_ns - t0_ns) / 1e9 + _SWING_W * swing


@pytest.fixture
def shelf(melt: Melt, tmp_path: Path) -> Path:
    """A lab whose file says that this machine hangs on a meter; what stops it is written into the file."""
    profiles, program = tmp_path / "devices", tmp_path / "meter.py"
    profiles.mkdir()
    program.write_text(_METER)
    melt.env["MELT_DEVICES"] = str(profiles)
    return profiles / "bench.yaml"


def _say(shelf: Path, stops_after_s: float) -> None:
    program = shelf.parent.parent / "meter.py"
    shelf.write_text(
        "title: bench\nmatch: {os: linux}\nmeter:\n  kind: lines\n"
        f"  command: [{sys.executable}, {program}, '{stops_after_s}']\n"
        "  columns: [time_ns, v, a]\n  rate_hz: 5000\n  latency_s: 0.004\n  accuracy: 0.001\n"
    )


def _shown(melt: Melt) -> dict[str, Any]:
    return dict(json.loads(melt("show", "last", "-o", "json").stdout))


@pytest.mark.slow
def test_energy_is_the_meters_within_what_it_states(melt: Melt, shelf: Path) -> None:
    _say(shelf, 1e9)
    melt("run", "--model", "tiny-pydoc", "-pg", "64,64", "-r", "3", "-t", "1")
    shown = _shown(melt)
    windows = [w for w in shown["windows"] if w["phase"] == "decode" and not w["warmup"]]
    assert len(windows) == 3
    for window in windows:
        found = next(
            m for m in shown["metrics"] if (m["name"], m["repetition"]) == ("energy_decode_j", window["repetition"])
        )
        truth_j = _true_j(window["t0_ns"], window["t1_ns"])
        assert found["source"] == "external meter, whole device"
        assert abs(found["value"] - truth_j) <= found["uncertainty"]
        assert found["uncertainty"] < 0.2 * truth_j
    idle = next(m for m in shown["metrics"] if m["name"] == "power_idle_w")
    assert abs(idle["value"] - _IDLE_W) < 0.1, "what it played goes up and down around that"
    assert not [r for r in shown["stop"]["reasons"] if r["code"].startswith("meter")]
    with Store.open(melt.store) as store:
        run_id = shown["start"]["spec"]["run_id"]
        trace = store.trace(run_id, "meter")
        noted = json.loads(store.attachment(run_id, "meter.json"))
    assert {*trace.columns} == {"meter_v", "meter_a", "meter_w"}
    assert noted["end"] == "stopped"
    assert noted["on_device_clock"]["clock_uncertainty_ns"] < 20_000_000
    assert len(noted["played"]) == len(noted["device_clock"]) == 2


@pytest.mark.slow
def test_a_meter_that_stops_half_way_leaves_no_energy_and_says_why(melt: Melt, shelf: Path) -> None:
    _say(shelf, 4.0)
    plan = shelf.parent.parent / "plan.yaml"
    plan.write_text(
        "name: metered\nmodels:\n  - {model: tiny-pydoc, quants: [q8_0]}\nworkloads:\n  - {sustained: 6s, gen: 32}\n"
        "repeat: {warmup: 0, repetitions: 1}\nsampling: {energy: required}\n"
    )
    done = melt("run", str(plan), check=None)
    shown = _shown(melt)
    reason = next(r for r in shown["stop"]["reasons"] if r["code"] == "meter_stopped")
    assert 0.0 < reason["figures"]["coverage"] < 1.0
    assert "ended (exit code 0)" in reason["message"]
    assert (shown["stop"]["outcome"], shown["stop"]["verdict"]) == ("ok", "invalid")
    assert "goes on without its power meter" in done.stderr
    energies = [m for m in shown["metrics"] if m["name"] == "energy_decode_j"]
    assert [m["value"] for m in energies] == [None] * len(energies)


def test_a_meter_that_is_not_there_keeps_the_run_from_starting(melt: Melt, shelf: Path) -> None:
    shelf.write_text("title: bench\nmatch: {os: linux}\nmeter: {kind: recorded, file: /no/such/trace.csv}\n")
    done = melt("run", "--model", "tiny-pydoc", "-n", "4", "-r", "1", check=2)
    assert "/no/such/trace.csv cannot be read as a recorded trace" in done.stderr
    assert not melt.job_dirs()
