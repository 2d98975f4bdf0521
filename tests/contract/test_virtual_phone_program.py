"""The virtual phone as a program: what a person at a terminal sees of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.phone import PhoneFailed, Unavailable, VirtualPhone, require
from virtual.phone.testing import eventually, playing

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "tests.virtual.phone")


@pytest.fixture(autouse=True)
def _playable() -> None:
    try:
        require()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def phone() -> Iterator[subprocess.Popen[str]]:
    command = [*PROGRAM, "--profile", "mi-a1", "--data-mb", "8"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def _ctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, "ctl", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_says_how_to_connect_takes_faults_and_ends(phone: subprocess.Popen[str]) -> None:
    assert phone.stdout is not None
    assert phone.stderr is not None
    first, second = phone.stdout.readline(), phone.stdout.readline()
    match = re.fullmatch(r"adb connect (127\.0\.0\.1:(\d+))\n", first)
    assert match, first
    assert second == f"melt doctor {match[1]}\n"
    assert re.match(r"\d\d:\d\d:\d\d booted boot_id=", phone.stderr.readline())
    state = _ctl(match[2], "state")
    assert json.loads(state.stdout)["screen"] == "on"
    refused = _ctl(match[2], "battery", "colour=red")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("virtual phone: battery: unknown 'colour'; known:")
    phone.send_signal(signal.SIGINT)
    assert phone.wait(10) == 0
    assert "Traceback" not in phone.stderr.read()
    assert "no phone answers" in _ctl(match[2], "state").stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--profile", "nokia-3310"), "no profile 'nokia-3310'"), (("--adbd", "/nowhere/adbd"), "/nowhere/adbd")],
)
def test_what_cannot_be_is_one_sentence(options: tuple[str, ...], said: str) -> None:
    done = subprocess.run([*PROGRAM, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_test_takes_its_phone_along() -> None:
    start = "print(VirtualPhone('mi-a1', data_mb=8).start().pid, flush=True)"
    killed = subprocess.run(
        [sys.executable, "-c", f"import os; from virtual.phone import VirtualPhone; {start}; os.kill(os.getpid(), 9)"],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    eventually(lambda: not Path(f"/proc/{killed.stdout.strip()}").exists())


def test_a_taken_port_is_named() -> None:
    with playing("mi-a1", data_mb=8) as first, pytest.raises(PhoneFailed, match="in use"):
        VirtualPhone("mi-a1", port=first.port).start()


def test_a_phone_can_be_started_again() -> None:
    phone = VirtualPhone("mi-a1", data_mb=8)
    with phone:
        assert phone.state()["wifi"]
    with pytest.raises(PhoneFailed, match="not started"):
        print(phone.pid)
    with phone:
        assert phone.port
        assert phone.state()["screen"] == "on"
