"""The virtual Jetson as a program: what a person at a terminal sees of it, and what is left when it is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.jetson import Unavailable, VirtualJetson, require
from virtual.jetson.testing import playing
from virtual.phone.testing import eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "tests.virtual.jetson")


@pytest.fixture(autouse=True)
def _playable() -> None:
    try:
        require()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def board() -> Iterator[subprocess.Popen[str]]:
    words = [*PROGRAM, "--profile", "nano-jp4", "--home-mb", "8", "--jtop", "none"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


def test_it_says_how_to_reach_it_takes_faults_and_ends(board: subprocess.Popen[str], tmp_path: Path) -> None:
    assert board.stdin is not None
    assert board.stdout is not None
    assert board.stderr is not None
    exports = dict(re.fullmatch(r"export (\w+)=(.*)\n", board.stdout.readline()).groups() for _ in range(2))  # type: ignore[union-attr]
    assert board.stdout.readline() == "melt doctor ssh:orin\n"
    client = board.stdout.readline().split()
    done = subprocess.run([*client, "nvpmodel -q"], capture_output=True, text=True, check=False)
    assert done.stdout == "NV Power Mode: MAXN\n0\n"
    words = [sys.executable, "-m", "melt", "doctor", "ssh:orin"]
    env = {**os.environ, **exports, "XDG_STATE_HOME": str(tmp_path)}
    seen = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert "JetPack 4.6.1" in seen.stdout, seen.stderr
    board.stdin.write("heat 60\nheat\ncolour red\nstate\n")
    board.stdin.flush()
    assert json.loads(board.stdout.readline())["temperature_c"] == 60.0
    board.stdin.close()
    assert board.wait(20) == 0
    complaints = board.stderr.read()
    assert "Traceback" not in complaints
    assert complaints.count("type: state, heat C") == 3
    assert subprocess.run([*client, "true"], capture_output=True, check=False).returncode == 255


def test_a_board_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = subprocess.run([*PROGRAM, "--profile", "tx1"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "virtual Jetson: no board 'tx1'; there are: nano-jp4, orin-nano-jp6\n")


def test_a_killed_supervisor_takes_the_board_with_it(tmp_path: Path) -> None:
    with playing("nano-jp4", tmp_path, jtop=None, home_mb=8) as board:
        first, supervisor = board.pid, _parent(_parent(board.pid))
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{first}").exists())


def test_boards_stand_beside_each_other(tmp_path: Path) -> None:
    with (
        playing("nano-jp4", tmp_path / "a", jtop=None, home_mb=8, alias="one") as one,
        playing("nano-jp4", tmp_path / "b", jtop=None, home_mb=8, alias="two") as two,
    ):
        one.heat(70.0)
        assert two.state()["temperature_c"] < 60
        assert _boot_id(one) != _boot_id(two)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _boot_id(board: VirtualJetson) -> str:
    return board.read("/proc/sys/kernel/random/boot_id")
