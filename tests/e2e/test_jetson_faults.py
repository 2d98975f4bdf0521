"""Whole runs on a board: conditions that only a Jetson has, and the ways in which boards fail."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from melt_rig import Melt, RunsOnADevice
from virtual.jetson import VirtualJetson
from virtual.jetson.testing import playing, said
from virtual.phone.testing import eventually

pytestmark = pytest.mark.slow

Wait = Callable[..., object]

PLAN = """\
name: a board
models: [{model: tiny-pydoc, quants: [q8_0]}]
workloads: [pp32+tg16 for 3s]
settings: {threads: 1}
repeat: {warmup: 0, repetitions: 1}
sampling: {power_hz: 20}
conditions: {nvpmodel: 15W, jetson_clocks: true}
"""


def _cell(seconds: float, *quants: str) -> tuple[str, ...]:
    workload = f"pp32+tg16 for {seconds:g}s"
    words = ("--model", "tiny-pydoc", "--quant", ",".join(quants or ("q8_0",)), "--workload", workload)
    return (*words, "-t", "1", "-r", "1", "--warmup", "0")


@dataclass(frozen=True)
class Lab(RunsOnADevice):
    """Melt and one board."""

    ends_s = 150.0

    melt: Melt
    board: VirtualJetson
    wait_for: Wait

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a run and return when its runner works on the board and its journal comes home."""
        process = self.melt.start("run", "--device", self.board.selector, *words)
        self.wait_for("a runner", lambda: process.poll() is not None or self._is_collecting(), timeout_s=90)
        assert process.poll() is None, process.communicate()
        return process

    def check_tidy(self) -> None:
        """Nothing waits to be collected, nothing runs or lies on the board, and its modes are as they were found."""
        assert [path.name for path in (self.melt.store / "spool").glob("*")] == []
        assert self.melt.here("store", "verify").returncode == 0
        assert said(self.board, "ls .melt/jobs 2>/dev/null; pgrep -f [r]unner.json || true") == ""
        state = self.board.state()
        assert (state["mode"], state["jetson_clocks"]) == ("25W", False)

    def _is_collecting(self) -> bool:
        return any(b"runner_started" in journal.read_bytes() for journal in self.melt.store.glob("spool/*/journal"))


def _reasons(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {reason["code"]: reason for reason in shown["stop"]["reasons"]}


@pytest.fixture(scope="module")
def orin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualJetson]:
    """One board for the module: what a test does to it, it takes back."""
    with playing("orin-nano-jp6", tmp_path_factory.mktemp("orin"), home_mb=64) as board:
        board.wait_jtop()
        yield board


@pytest.fixture
def lab(melt: Melt, orin: VirtualJetson, wait_for: Wait) -> Iterator[Lab]:
    melt.env.update(orin.environment)
    yield Lab(melt, orin, wait_for)
    orin.free_disk()
    orin.heat(None)


def test_a_run_in_a_mode_with_fixed_clocks(lab: Lab, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    process = lab.start(str(plan))
    eventually(lambda: (state := lab.board.state())["mode"] == "15W" and state["jetson_clocks"])
    lab.end(process, 0)
    shown = lab.shown()
    assert shown["stop"]["outcome"] == "ok"
    knobs = {knob["name"]: knob for knob in shown["start"]["knobs"]}
    assert (knobs["nvpmodel"]["before"], knobs["nvpmodel"]["asked"]) == ("25W", "15W")
    assert {code for code in _reasons(shown) if "knob" in code} == set()
    metrics = {metric["name"]: metric for metric in shown["metrics"] if metric["repetition"] is None}
    assert metrics["power_mean_w"]["value"] > 1
    assert "VDD_IN" in metrics["power_mean_w"]["note"]
    collectors = {stream["collector"]: stream["rate_hz"] for stream in shown["start"]["streams"]}
    assert collectors["rails"] == 20
    assert collectors["jtop"] == 1
    lab.check_tidy()


def test_a_board_that_starts_anew_loses_one_run_only(lab: Lab) -> None:
    process = lab.start(*_cell(3, "q8_0", "q4_0"))
    lab.board.reboot()
    err = lab.end(process, 1)
    assert "melt resume" in err
    assert lab.outcomes() == ["device_lost", "ok"]
    assert "rebooted" in _reasons(lab.shown(str(lab.melt.runs()[-1]["run_id"])))
    lab.melt("resume")
    assert lab.outcomes() == ["device_lost", "ok", "ok"]
    lab.check_tidy()


def test_a_jtop_that_is_restarted_in_mid_run_is_heard_again(lab: Lab, polars: ModuleType) -> None:
    lab.board.wait_jtop()
    process = lab.start(*_cell(12))
    lab.board.stop_jtop()
    lab.board.start_jtop()
    lab.board.wait_jtop()
    lab.end(process, 0)
    shown = lab.shown()
    assert shown["stop"]["outcome"] == "ok"
    traces = lab.melt.store / "traces" / shown["start"]["spec"]["run_id"]
    heard, sampled = (polars.read_parquet(traces / f"{name}.parquet")["t_ns"] for name in ("jtop", "rails"))
    assert sampled[-1] - heard[-1] < 4e9, "jtop is heard until the end"
    lab.check_tidy()


def test_heat_lowers_the_clocks(lab: Lab) -> None:
    process = lab.start(*_cell(6))
    lab.board.heat(101.0)
    lab.end(process, 0)
    shown = lab.shown()
    assert shown["stop"]["verdict"] == "suspect"
    assert _reasons(shown)["throttled"]["figures"]
    lab.check_tidy()


def test_no_room_for_the_model(lab: Lab) -> None:
    lab.board.fill_disk(leave_kb=1000)
    done = lab.melt("run", "--device", lab.board.selector, *_cell(1, "q5_0"), check=1)
    assert re.search(r"needs [\d.]+ MiB, [\d.]+ .iB is free of [\d.]+ MiB", done.stderr), done.stderr
    lab.board.free_disk()
    lab.melt("resume")
    assert lab.outcomes() == ["ok"]
    lab.check_tidy()


def test_a_board_without_rights_or_jtop_or_quiet_is_measured(melt: Melt, tmp_path: Path) -> None:
    """No sudo, not in jtop's group, a start-up file that prints, an odd locale: files tell enough."""
    options = {"user_groups": (), "sudo": None, "noise": True, "locale": "tr_TR.UTF-8", "home_mb": 64}
    with playing("nano-jp4", tmp_path / "board", **options) as board:
        melt.env.update(board.environment)
        board.wait_jtop()
        doctor = melt("doctor", board.selector)
        assert "usermod -aG jtop" in doctor.stdout
        melt("run", "--device", board.selector, *_cell(1))
        (run,) = melt.runs()
        assert run["outcome"] == "ok"
        plan = tmp_path / "plan.yaml"
        plan.write_text(PLAN.replace("15W", "5W"))
        refused = melt("run", str(plan), "--device", board.selector, check=2)
        assert "visudo" in refused.stderr
        assert len(melt.runs()) == 1
