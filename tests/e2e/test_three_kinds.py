"""One plan over a phone, a board and this machine at once: one store, one comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from melt_rig import Melt
from native_runners import build
from virtual.jetson import VirtualJetson
from virtual.jetson.testing import playing as playing_board
from virtual.phone import VirtualPhone
from virtual.phone.clients import AdbServer, adb_programs
from virtual.phone.testing import playing as playing_phone

pytestmark = [pytest.mark.slow, pytest.mark.native, pytest.mark.timeout(1800)]

PLAN = """\
name: three kinds of devices
devices: [local, "{phone}", orin]
models:
  - {{model: tiny-pydoc, quants: [q8_0, q4_0]}}
workloads: [pp32+tg16 for 3s]
settings: {{threads: 1}}
repeat: {{warmup: 1, repetitions: 1}}
sampling: {{power_hz: 50}}
"""
PHONE, BOARD = "Google Pixel 8", "NVIDIA Jetson Orin Nano"


@pytest.fixture
def lab(melt: Melt, tmp_path: Path) -> Iterator[tuple[Melt, VirtualPhone, VirtualJetson]]:
    """Melt with a phone on its own adb server and a board behind its own SSH server."""
    programs = adb_programs()
    if not programs:
        pytest.skip("no adb: install Debian's adb or the package adbutils")
    build("android-arm64")
    with ExitStack() as stack:
        board = stack.enter_context(playing_board("orin-nano-jp6", tmp_path / "board"))
        phone = stack.enter_context(playing_phone("pixel-8"))
        adb = stack.enter_context(AdbServer(next(iter(programs.values()))))
        adb.connect(phone.address)
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{adb.port}"
        melt.env.update(board.ssh.environment)
        yield melt, phone, board


def test_one_plan_over_three_kinds_of_devices(lab: tuple[Melt, VirtualPhone, VirtualJetson], tmp_path: Path) -> None:
    melt, phone, board = lab
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN.format(phone=phone.address))
    done = melt("run", str(plan), timeout_s=600)
    runs = melt.runs()
    assert [run["outcome"] for run in runs] == ["ok"] * 6, done.stderr
    assert len({run["sweep_id"] for run in runs}) == 1
    assert melt.here("store", "verify").returncode == 0
    assert not list((board.home / ".melt" / "jobs").glob("*"))

    groups = json.loads(melt.here("compare", "--by", "device", "-o", "json").stdout)["groups"]
    assert len(groups) == 2, "a group for each quantization level"
    for group in groups:
        devices = [column["label"] for column in group["columns"]]
        rows = {row["metric"]: dict(zip(devices, row["cells"], strict=True)) for row in group["rows"]}
        this_machine = next(label for label in devices if not label.startswith((PHONE, BOARD)))
        orin = next(label for label in devices if label.startswith(BOARD))
        assert 1 < rows["power_mean_w"][orin]["median"] < 10
        assert 0.5 < rows["power_mean_w"][PHONE]["median"] < 10
        for label in (orin, PHONE):
            assert 20 < rows["temperature_max_c"][label]["median"] < 90
        assert rows["decode_tps"][this_machine]["median"] > 0
        differences = {rows["power_mean_w"][label]["difference"] for label in (orin, PHONE)}
        assert differences == {None}, "what goes into a board is not what some rails of a phone add up to"

    text = melt.here("compare", "--by", "device").stdout
    assert "JetPack 6.2 (L4T 36.4.3)" in text
    assert "Power was measured over different scopes" in text
    shown = melt.here("show", next(str(run["run_id"]) for run in runs if str(run["device"]).startswith(BOARD))).stdout
    assert "VDD_IN" in shown
    assert "compute module" in shown
