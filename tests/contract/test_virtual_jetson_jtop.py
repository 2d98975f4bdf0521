"""melt's jtop stream beside the real jtop: its client, its service, and what becomes of both."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from virtual.jetson import VirtualJetson
from virtual.jetson.jtop import OTHER
from virtual.jetson.testing import playing, ssh, ssh_argv
from virtual.phone.testing import eventually

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).resolve().parents[2] / "agents" / "streams" / "jtop_stream.py"
RAILS = "/sys/devices/platform/bus@0/c240000.i2c/i2c-1/1-0040/hwmon/hwmon1"
ZONES = "/sys/devices/virtual/thermal"


@pytest.fixture(scope="module")
def orin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualJetson]:
    with playing("orin-nano-jp6", tmp_path_factory.mktemp("orin"), home_mb=32) as board:
        _give(board)
        board.wait_jtop()
        yield board


@pytest.fixture
def held(orin: VirtualJetson) -> Iterator[VirtualJetson]:
    orin.set(hold=True)
    yield orin
    orin.set(hold=None)


class Stream:
    """The stream as the agent runs it, and what it has printed."""

    def __init__(self, board: VirtualJetson, interval_s: float) -> None:
        self.samples: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        argv = ssh_argv(board, f"python3 jtop_stream.py --interval {interval_s}")
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._complain)]
        for reader in self._readers:
            reader.start()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            self.samples += (json.loads(line) for line in lines)

    def _complain(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            self.complaints += lines


def _give(board: VirtualJetson) -> None:
    (board.home / PROGRAM.name).write_bytes(PROGRAM.read_bytes())


def _probe(board: VirtualJetson) -> tuple[int, dict[str, Any]]:
    done = ssh(board, "python3 jtop_stream.py --probe")
    return done.returncode, json.loads(done.stdout)


def test_jtop_says_what_the_files_say(held: VirtualJetson) -> None:
    status, sample = _probe(held)
    assert status == 0
    rails = sample["rails"]
    for number, name in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 1):
        millivolt, milliampere = (int(held.read(f"{RAILS}/{kind}{number}_input")) for kind in ("in", "curr"))
        assert (rails[name]["mv"], rails[name]["ma"]) == (millivolt, milliampere)
        assert rails[name]["mw"] == pytest.approx(millivolt * milliampere / 1000, abs=1)
    zones = {
        held.read(f"{ZONES}/thermal_zone{n}/type"): int(held.read(f"{ZONES}/thermal_zone{n}/temp")) for n in range(9)
    }
    assert sample["temps_c"] == {name.removesuffix("-thermal"): value / 1000 for name, value in zones.items()}
    assert sample["nvpmodel"] == held.state()["mode"]
    assert sample["jetson_clocks"] is False
    assert sample["gpus"]["gpu"]["freq_khz"] == 306_000
    assert sample["emc"]["freq_khz"] == 3_199_000


def test_jtop_says_what_a_nano_s_files_say(tmp_path: Path) -> None:
    with playing("nano-jp4", tmp_path, home_mb=8) as board:
        _give(board)
        board.wait_jtop()
        board.set(hold=True)
        _, sample = _probe(board)
        said = ssh(board, "cat /sys/bus/i2c/devices/6-0040/iio:device0/in_power*_input").stdout.split()
    assert [sample["rails"][name]["mw"] for name in ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")] == list(map(int, said))
    assert "PMIC" not in sample["temps_c"]


def test_values_move_at_the_rate_asked_for(orin: VirtualJetson) -> None:
    stream = Stream(orin, 0.2)
    eventually(lambda: len(stream.samples) >= 15, timeout_s=30)
    stream.close()
    assert len({sample["rails"]["VDD_IN"]["mw"] for sample in stream.samples}) > 3
    assert not stream.complaints


def test_a_service_that_is_started_again_is_heard_again(orin: VirtualJetson) -> None:
    stream = Stream(orin, 0.2)
    try:
        eventually(lambda: len(stream.samples) >= 3, timeout_s=30)
        orin.stop_jtop()
        eventually(lambda: stream.complaints, timeout_s=30)
        heard = len(stream.samples)
        orin.start_jtop()
        eventually(lambda: len(stream.samples) >= heard + 3, timeout_s=60)
    finally:
        stream.close()
    assert stream.complaints[-1] == "jtop answers again\n"
    assert not [line for line in stream.complaints if "Traceback" in line]


def test_a_service_that_is_stopped_is_named(orin: VirtualJetson) -> None:
    orin.stop_jtop()
    try:
        status, said = _probe(orin)
        assert (status, said["refused"]) == (6, "not_running")
        assert "systemctl restart jtop.service" in said["message"]
    finally:
        orin.start_jtop()
        orin.wait_jtop()


def test_who_is_not_in_the_group_is_told_so(tmp_path: Path) -> None:
    with playing("orin-nano-jp6", tmp_path, home_mb=8, user_groups=()) as board:
        _give(board)
        board.wait_jtop()
        status, said = _probe(board)
    assert (status, said["refused"]) == (5, "no_access")
    assert "usermod -aG jtop" in said["message"]


def test_a_service_of_another_version_is_named_with_both(tmp_path: Path) -> None:
    with playing("orin-nano-jp6", tmp_path, home_mb=8, jtop=OTHER) as board:
        _give(board)
        board.wait_jtop()
        status, said = _probe(board)
    assert (status, said["refused"]) == (7, "mismatch")
    assert OTHER in said["message"]


def test_a_board_without_jtop_says_how_to_get_it(tmp_path: Path) -> None:
    with playing("orin-nano-jp6", tmp_path, home_mb=8, jtop=None) as board:
        _give(board)
        status, said = _probe(board)
    assert (status, said["refused"]) == (3, "not_installed")
    assert "pip3 install" in said["message"]
