"""A run that an external power meter watches: a program plays one whose true energy is known at every moment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from melt_rig import Melt
from played_meter import IDLE_W, name_meter, true_j
from refused import assert_refused

from melt.store.store import Store


@pytest.fixture
def shelf(melt: Melt, tmp_path: Path) -> Path:
    """A lab whose file says that this machine hangs on a meter."""
    profiles = name_meter(tmp_path, "{os: linux}")
    melt.env["MELT_DEVICES"] = str(profiles)
    return profiles / "bench.yaml"


def _shown(melt: Melt) -> dict[str, Any]:
    return dict(json.loads(melt.here("show", "last", "-o", "json").stdout))


@pytest.mark.slow
@pytest.mark.usefixtures("shelf")
def test_energy_is_the_meters_within_what_it_states(melt: Melt) -> None:
    melt("run", "--model", "tiny-pydoc", "-pg", "64,64", "-r", "3", "-t", "1")
    shown = _shown(melt)
    windows = [w for w in shown["windows"] if w["phase"] == "decode" and not w["warmup"]]
    assert len(windows) == 3
    for window in windows:
        found = next(
            m for m in shown["metrics"] if (m["name"], m["repetition"]) == ("energy_decode_j", window["repetition"])
        )
        truth_j = true_j(window["t0_ns"], window["t1_ns"])
        assert found["source"] == "external meter, whole device"
        assert abs(found["value"] - truth_j) <= found["uncertainty"]
        assert found["uncertainty"] < 0.2 * truth_j
    idle = next(m for m in shown["metrics"] if m["name"] == "power_idle_w")
    assert abs(idle["value"] - IDLE_W) < 0.1, "what it played goes up and down around that"
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
@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ("garbage", "meter_unreadable"),
        ("spikes", None),
        ("clock set", "meter_clock"),
        ("turned round", "energy_misread"),
        ("wrong unit", "meter_unreadable"),
    ],
)
def test_a_meter_in_trouble_is_named_and_its_energy_true_or_none(
    melt: Melt, tmp_path: Path, trouble: str, code: str | None
) -> None:
    melt.env["MELT_DEVICES"] = str(name_meter(tmp_path, "{os: linux}", trouble))
    melt("run", "--model", "tiny-pydoc", "-pg", "32,64", "-r", "3", "-t", "1")
    shown = _shown(melt)
    reasons = [r["code"] for r in shown["stop"]["reasons"]]
    assert [c for c in reasons if c.startswith(("meter_", "energy_"))] == ([] if code is None else [code])
    energies = {m["repetition"]: m for m in shown["metrics"] if m["name"] == "energy_decode_j"}
    if trouble in ("garbage", "spikes"):
        for window in [w for w in shown["windows"] if w["phase"] == "decode" and not w["warmup"]]:
            found = energies[window["repetition"]]
            assert abs(found["value"] - true_j(window["t0_ns"], window["t1_ns"])) <= found["uncertainty"]
    else:
        assert shown["stop"]["verdict"] == "invalid", "who connects a meter comes for energy"
        assert "external meter, whole device" not in [m["source"] for m in energies.values()]


def _begin(melt: Melt, shelf: Path, wait_for: Callable[..., object]) -> subprocess.Popen[str]:
    """Begin a run of ten seconds and return once a part of it is measured."""
    plan = shelf.parent.parent / "plan.yaml"
    plan.write_text(
        "name: metered\nmodels:\n  - {model: tiny-pydoc, quants: [q8_0]}\nworkloads:\n  - {sustained: 10s, gen: 32}\n"
        "repeat: {warmup: 0, repetitions: 1}\nsampling: {energy: required}\nsettings: {threads: 1}\n"
    )
    process = melt.start("run", str(plan))

    def is_measured() -> bool:
        return any(b'"generation"' in journal.read_bytes() for journal in melt.store.glob("spool/*/journal"))

    wait_for("a request that was measured", is_measured, timeout_s=150)
    return process


def _lost(melt: Melt) -> dict[str, Any]:
    """Return why the meter stopped, and see that the run has no energy, which was asked for."""
    shown = _shown(melt)
    assert (shown["stop"]["outcome"], shown["stop"]["verdict"]) == ("ok", "invalid")
    energies = [m for m in shown["metrics"] if m["name"] == "energy_decode_j"]
    assert [m["value"] for m in energies] == [None] * len(energies)
    reason = next(r for r in shown["stop"]["reasons"] if r["code"] == "meter_stopped")
    assert 0.0 < reason["figures"]["coverage"] < 1.0
    return dict(reason)


@pytest.mark.slow
def test_a_meter_that_stops_half_way_leaves_no_energy_and_says_why(
    melt: Melt, shelf: Path, wait_for: Callable[..., object]
) -> None:
    process = _begin(melt, shelf, wait_for)
    (shelf.parent.parent / "unplugged").touch()
    _, said = process.communicate(timeout=120)
    assert "goes on without its power meter" in said
    assert "ended (exit code 0)" in _lost(melt)["message"]
    assert_refused(melt, "meter_stopped", "of what was measured")


@pytest.mark.slow
def test_while_melt_is_gone_nobody_reads_the_meter(melt: Melt, shelf: Path, wait_for: Callable[..., object]) -> None:
    process = _begin(melt, shelf, wait_for)
    process.kill()
    process.wait()
    melt("resume", check=None)
    assert "nobody was there to read it" in _lost(melt)["message"]


@pytest.mark.slow
def test_a_recording_that_nobody_can_read_costs_its_energy_and_not_the_run(
    melt: Melt, shelf: Path, wait_for: Callable[..., object]
) -> None:
    process = _begin(melt, shelf, wait_for)
    process.kill()
    process.wait()
    (noted,) = melt.store.glob("spool/*/meter.json")
    noted.write_text('{"facts": {"of": "a later melt"}}')
    melt("resume", check=None)
    shown = _shown(melt)
    assert (shown["stop"]["outcome"], shown["stop"]["verdict"]) == ("ok", "invalid"), "energy was required"
    assert "meter_unreadable" in [reason["code"] for reason in shown["stop"]["reasons"]]


@pytest.mark.slow
def test_a_meter_that_is_not_there_keeps_the_run_from_starting(melt: Melt, shelf: Path) -> None:
    shelf.write_text("title: bench\nmatch: {os: linux}\nmeter: {kind: recorded, file: /no/such/trace.csv}\n")
    done = melt("run", "--model", "tiny-pydoc", "-n", "4", "-r", "1", check=2)
    assert "/no/such/trace.csv cannot be read as a recorded trace" in done.stderr
    assert not melt.job_dirs()
