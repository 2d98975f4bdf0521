"""Whole runs over SSH on a real sshd: what is measured comes home whole, whatever becomes of the link and the host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from melt_rig import SMALL, TINY, Melt
from virtual.sshd import Sshd

pytestmark = pytest.mark.slow

Wait = Callable[..., object]
SECONDS = (*TINY, "--quant", "q8_0", "--workload", "tg128 for 6s", "-t", "1", "-r", "1")


@dataclass(frozen=True)
class Board:
    """A board that is this machine, behind a server of its own, with a home of its own."""

    sshd: Sshd
    root: Path

    def jobs(self) -> list[Path]:
        return list((self.root / "jobs").glob("*"))

    def clean_up(self) -> None:
        for agent in (self.root / "agents").glob("*/melt-agent"):
            for job in self.jobs():
                subprocess.run([agent, "stop", job], capture_output=True, timeout=60)


@pytest.fixture
def board(melt: Melt, tmp_path: Path, give_python: Callable[[Path], None]) -> Iterator[Board]:
    home = tmp_path / "board" / "home"
    with Sshd(tmp_path / "board") as sshd:
        give_python(home)
        melt.env.update(sshd.environment)
        board = Board(sshd, home / ".melt")
        yield board
        board.clean_up()


def _journals(melt: Melt) -> list[Path]:
    """Journals that have begun to come home."""
    return [p for p in melt.store.glob("spool/*/journal") if p.stat().st_size > 2000]


def _under_way(melt: Melt, wait_for: Wait, *words: str) -> subprocess.Popen[str]:
    process = melt.start("run", *SECONDS, "--device", "board", *words)
    wait_for("the run to be under way", lambda: process.poll() is not None or _journals(melt), timeout_s=120)
    assert process.poll() is None, process.communicate()
    return process


def _is_whole(melt: Melt) -> None:
    """The only run is a good one, with a trace of all its seconds."""
    (run,) = melt.runs()
    assert run["outcome"] == "ok"
    shown = json.loads(melt.here("show", "last", "-o", "json").stdout)
    assert shown["stop"]["verdict"] != "invalid", shown["stop"]["reasons"]
    assert "sampling_gap" not in {reason["code"] for reason in shown["stop"]["reasons"]}
    assert melt.here("store", "verify").returncode == 0
    assert not list(melt.store.glob("spool/*/journal"))


def test_two_levels_are_compared_on_a_board(melt: Melt, board: Board) -> None:
    done = melt("run", *SMALL, "--quant", "q8_0,q4_0", "--device", "board", timeout_s=300)
    assert "q8_0" in done.stdout
    assert "q4_0" in done.stdout
    runs = melt.runs()
    assert {run["outcome"] for run in runs} == {"ok"}
    assert len(runs) == 4
    shown = json.loads(melt.here("show", "last", "-o", "json").stdout)
    assert shown["start"]["spec"]["device"] == "ssh:board"
    assert shown["start"]["device"]["kind"] == "ssh"
    assert shown["start"]["clock_uncertainty_ns"] > 0
    assert board.jobs() == [], "what was collected is removed from the board"
    models = list((board.root / "blobs").glob("*/*.gguf"))
    assert len(models) == 2, "each model travels once"


def test_links_that_drop_in_mid_run(melt: Melt, board: Board, wait_for: Wait) -> None:
    process = _under_way(melt, wait_for)
    board.sshd.drop_links()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    _is_whole(melt)


def test_a_board_that_is_out_of_reach_for_the_rest_of_its_run(melt: Melt, board: Board, wait_for: Wait) -> None:
    process = _under_way(melt, wait_for)
    board.sshd.stop()
    (job,) = board.jobs()
    (agent,) = (board.root / "agents").glob("*/melt-agent")

    def ended() -> bool:
        said = subprocess.run([agent, "status", job], capture_output=True, check=True).stdout
        return json.loads(said)["state"] == "ended"

    wait_for("the run to end by itself", ended, timeout_s=60)
    board.sshd.start()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "the device is out of reach, the run goes on there" in stderr
    assert "the device is back" in stderr
    _is_whole(melt)


def test_links_that_freeze_in_mid_run(melt: Melt, board: Board, wait_for: Wait) -> None:
    process = _under_way(melt, wait_for)
    board.sshd.freeze()
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stderr
    _is_whole(melt)


def test_a_board_whose_key_changes_in_mid_run_is_believed_when_somebody_says_so(
    melt: Melt, board: Board, wait_for: Wait
) -> None:
    process = _under_way(melt, wait_for)
    board.sshd.new_host_key()
    melt("devices", "trust", "board", "--replace")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "shows another key than before" in stderr
    _is_whole(melt)


def test_a_board_is_followed_to_its_other_address(melt: Melt, board: Board, wait_for: Wait, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    profile = "title: a board with two ways\nmatch: {os: linux, kind: ssh}\naddresses: [ssh:no address, ssh:wifi]\n"
    (profiles / "board.yaml").write_text(profile)
    with Sshd(tmp_path / "wifi", alias="wifi", home=board.root.parent) as wifi:
        both = tmp_path / "ssh_config"
        both.write_text(board.sshd.config.read_text() + wifi.config.read_text())
        melt.env.update(MELT_DEVICES=str(profiles), MELT_SSH_CONFIG=str(both))
        process = _under_way(melt, wait_for, "--sessions", "2")
        board.sshd.stop()
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert "the device is back" in stderr
        assert [run["outcome"] for run in melt.runs()] == ["ok", "ok"]
        assert melt.here("store", "verify").returncode == 0


def test_a_melt_that_is_killed_is_collected_by_the_next(melt: Melt, board: Board, wait_for: Wait) -> None:
    process = _under_way(melt, wait_for)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = melt("resume")
    assert "earlier melt" in done.stderr
    _is_whole(melt)
    assert board.jobs() == []


def test_an_interrupted_run_ends_on_the_board_too(melt: Melt, board: Board, wait_for: Wait) -> None:
    process = _under_way(melt, wait_for)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert [run["outcome"] for run in melt.runs()] == ["aborted"]
    assert board.jobs() == []
