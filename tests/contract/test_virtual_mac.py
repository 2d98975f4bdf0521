"""melt and a Mac over SSH: what it is, what it measures from each source, heat, lost links, no sudo, a full home.

The Mac is played (tests/virtual/mac): real are sshd, zsh, every command line, and melt. docs/apple.md says what that
proves.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from virtual.mac import VirtualMac
from virtual.mac.package import make_package
from virtual.mac.requirements import require
from virtual.phone.requirements import Unavailable

from melt.codec import to_dict
from melt.targets.macos import parse_facts
from melt.targets.probe import load_snapshot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REQUEST = ("--model", "tiny-pydoc", "-p", "32", "-n", "16", "-r", "3", "-t", "1", "--device", "ssh:mac")
SUSTAINED = ("--model", "tiny-pydoc", "--workload", "tg64 for 12s", "-r", "1", "-t", "1", "--device", "ssh:mac")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """melt as it is installed, whose agent for Macs runs here."""
    try:
        require()
    except Unavailable as reason:
        pytest.skip(str(reason))
    return make_package(tmp_path_factory.mktemp("package"))


@dataclass
class Lab:
    """melt, as a process in a world of its own, and the Mac it reaches."""

    mac: VirtualMac
    env: dict[str, str]
    store: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def melt(self, *words: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self._argv(words), **self._options, capture_output=True, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        assert check is None or done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        self.started.append(
            subprocess.Popen(self._argv(words), **self._options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        return self.started[-1]

    def shown(self) -> dict[str, Any]:
        """Return the last run."""
        found: dict[str, Any] = json.loads(self.melt("show", "last", "-o", "json").stdout)
        return found

    def figures(self) -> dict[str, Any]:
        return {m["name"]: m for m in self.shown()["metrics"] if m["repetition"] is None}

    def reasons(self) -> dict[str, str]:
        return {reason["code"]: reason["message"] for reason in self.shown()["stop"]["reasons"]}

    @property
    def _options(self) -> dict[str, Any]:
        # Not from the checkout, whose melt Python would find before any other.
        return {"env": self.env, "cwd": self.store.parent, "text": True}

    def _argv(self, words: tuple[str, ...]) -> list[str]:
        with_store = ["--store", str(self.store)] if words[0] in ("run", "runs", "show", "resume", "export") else []
        return [sys.executable, "-m", "melt", *words, *with_store]


@pytest.fixture
def lab(package: Path, tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Play Macs of the wanted kind, each with a melt."""
    labs: list[Lab] = []

    def play(recording: str = "mac-mini-m4", **wanted: Any) -> Lab:
        mac = VirtualMac(recording, **wanted)
        mac.__enter__()
        env = {
            **os.environ,
            **mac.environment,
            "PYTHONPATH": str(package),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "MELT_MODELS": str(tmp_path / "models"),
            "COLUMNS": "160",
            "NO_COLOR": "1",
        }
        labs.append(Lab(mac, env, tmp_path / "store"))
        return labs[-1]

    yield play
    for played in labs:
        for process in played.started:
            process.kill()
            process.communicate()
        played.mac.__exit__(None, None, None)


def wait_for(what: str, condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.05)  # the condition is on the other side of a network


def on(mac: VirtualMac, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as OpenSSH's own client does."""
    return subprocess.run(["ssh", "-F", str(mac.sshd.config), "mac", command], capture_output=True, text=True)


def test_the_played_mac_is_as_strict_as_a_real_one(lab: Callable[..., Lab]) -> None:
    """What only Linux has is not there, what only GNU knows is refused; else nothing here would prove anything."""
    mac = lab().mac
    assert on(mac, "uname -sm; id -un; echo $0; echo $PATH").stdout.splitlines() == [
        "Darwin arm64",
        "lab",
        "zsh",
        "/usr/bin:/bin:/usr/sbin:/sbin",
    ]
    for missing in ("setsid", "timeout", "nproc", "flock", "taskset", "getprop", "macmon", "free"):
        assert on(mac, f"{missing} --version").returncode == 127, missing
    for refused in ("rm --recursive x", "mkdir --parents x", "chmod --reference=a b", "head --bytes=1 x", "mv -T a b"):
        assert on(mac, refused).returncode == 64, refused
    behind = on(mac, "mkdir d; rm -r d -f")
    assert "-f" in behind.stderr, "behind an operand an option is an operand"
    assert on(mac, "mkdir -p -- 'a b'; cd 'a b' && rm -rf -- ../'a b'; ls -A ..").stdout.split() == [".melt", ".zshenv"]
    assert on(mac, "ls /nothing*").returncode == 1, "zsh takes a pattern without a match for an error"
    assert on(mac, "python3 -c ''").returncode == 1
    assert on(mac, "sudo -n true").returncode == 1


class TestWhatItIs:
    @pytest.mark.parametrize("recording", ["mac-mini-m4", "macbook-air-m2", "mac-studio-m2-ultra", "virtual-mac"])
    def test_facts_are_those_of_the_recording(self, lab: Callable[..., Lab], recording: str) -> None:
        played = lab(recording)
        found = json.loads(played.melt("doctor", "ssh:mac", "-o", "json").stdout)["device"]
        snapshot = load_snapshot(played.mac.recording.read_bytes())
        expected = to_dict(parse_facts(snapshot, device_id_hint="ssh:mac", kind="ssh"))
        measured = {key: found.pop(key) for key in ("memory_bandwidth_bytes_per_s", "compute")}
        assert found == {key: value for key, value in expected.items() if key not in measured}
        assert measured["memory_bandwidth_bytes_per_s"] > 0
        assert measured["compute"]["int8_ops_per_s"] > 0

    def test_devices_lists_it_by_its_name(self, lab: Callable[..., Lab]) -> None:
        played = lab()
        played.melt("devices", "trust", "mac", "--yes")
        listed = json.loads(played.melt("devices", "-o", "json").stdout)
        assert "ssh:mac" in json.dumps(listed)
        assert "Mac mini (2024)" in json.dumps(listed)

    def test_doctor_says_what_would_help(self, lab: Callable[..., Lab]) -> None:
        bare = lab(provisioned=False, without=["macmon", "zeus_apple_silicon"])
        said = bare.melt("doctor", "ssh:mac", check=None).stdout
        for words in ("melt provision", "brew install macmon", "sudo -n"):
            assert words in said

    def test_noise_of_zshenv_and_words_that_zsh_expands_do_no_harm(self, lab: Callable[..., Lab]) -> None:
        played = lab(zshenv="echo welcome\necho 'compinit: insecure' >&2\nsetopt NO_CLOBBER EXTENDED_GLOB\n")
        found = json.loads(played.melt("selftest", "ssh:mac", "--seconds", "2", "--json", check=None).stdout)
        steps = {step["name"]: step["finding"] for step in found["steps"]}
        for name in ("streams and exit code", "raw bytes", "deadline", "push and pull", "worker killed"):
            assert steps[name]["status"] == "pass", steps[name]


class TestPower:
    """One run, with power from each of the sources that a Mac may have."""

    @pytest.mark.parametrize(
        ("wanted", "meter"),
        [
            ({"without": ["zeus_apple_silicon"]}, "system;"),
            ({"without": ["macmon"]}, "soc ane+cpu+dram+gpu;"),
            ({"without": ["macmon", "zeus_apple_silicon"], "sudo": ["powermetrics"]}, "soc ane+cpu+gpu;"),
        ],
        ids=["macmon", "IOReport", "powermetrics"],
    )
    def test_a_run_has_energy(self, lab: Callable[..., Lab], wanted: dict[str, Any], meter: str) -> None:
        played = lab(**wanted)
        played.melt("run", *SUSTAINED)
        shown, figures = played.shown(), played.figures()
        assert shown["stop"]["outcome"] == "ok"
        assert shown["start"]["device"]["os"] == "macos"
        assert figures["power_mean_w"]["value"] > 0, figures["power_mean_w"]
        assert figures["power_mean_w"]["note"].startswith(meter)
        assert figures["energy_decode_j"]["value"] > 0
        assert figures["peak_rss_bytes"]["value"] > 7e6
        assert "channels_changed" not in played.reasons()

    def test_without_sudo_powermetrics_is_not_asked_twice(self, lab: Callable[..., Lab]) -> None:
        played = lab(without=["macmon", "zeus_apple_silicon"])
        played.melt("run", *REQUEST)
        shown = played.shown()
        assert shown["stop"]["outcome"] == "ok"
        assert played.figures()["power_mean_w"]["value"] is None
        assert not [s for s in shown["start"]["streams"] if "powermetrics" in s["source"]]
        assert any("power and energy are not measured" in sentence for sentence in shown["start"]["missing"])


class TestHeat:
    def test_pressure_that_rises_in_mid_run_makes_it_suspect(self, lab: Callable[..., Lab]) -> None:
        played = lab()
        run = played.start("run", *SUSTAINED)
        wait_for("the run's begin", lambda: "[1/1]" in _so_far(run), 120)
        wait_for("the model", lambda: _runner_is_there(played))
        time.sleep(2)  # let some of it be measured at ease
        played.mac.press(2)
        run.communicate(timeout=120)
        assert run.returncode == 0
        shown = played.shown()
        assert shown["stop"]["verdict"] != "valid"
        assert "throttled" in played.reasons(), played.reasons()

    def test_a_mac_that_never_told_its_pressure_is_said_so(self, lab: Callable[..., Lab]) -> None:
        played = lab(without=["notifyutil"])
        played.melt("run", *REQUEST)
        assert any("does not say when it throttles" in said for said in played.shown()["start"]["missing"])


class TestTrouble:
    def test_a_link_that_drops_in_mid_run_is_bridged(self, lab: Callable[..., Lab]) -> None:
        played = lab()
        run = played.start("run", *SUSTAINED)
        wait_for("the runner", lambda: _runner_is_there(played), 120)
        played.mac.sshd.drop_links()
        _, said = run.communicate(timeout=180)
        assert run.returncode == 0, said
        shown = played.shown()
        assert shown["stop"]["outcome"] == "ok"
        assert not any(code in played.reasons() for code in ("sampling_gap", "torn_journal"))

    def test_another_host_key_is_refused(self, lab: Callable[..., Lab]) -> None:
        played = lab()
        played.mac.sshd.new_host_key()
        done = played.melt("run", *REQUEST, check=1)
        assert "shows another key than before" in done.stderr

    def test_a_full_home_is_one_sentence(self, lab: Callable[..., Lab]) -> None:
        played = lab(home_mb=20)
        done = played.melt("run", *REQUEST, check=1)
        assert "no room" in done.stderr.lower() or "needs" in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("melt:")]) <= 2

    def test_a_mac_that_was_not_provisioned_is_told_to_be(self, lab: Callable[..., Lab]) -> None:
        """And its stub of a python3, which would open a window on its screen, is not called."""
        played = lab(provisioned=False)
        played.melt("run", *REQUEST, check=1)
        assert "`melt provision mac` installs the engine" in played.reasons()["engine_missing"]
        assert "free percentage" in played.shown()["stop"]["evidence"]["memory_pressure"]


def test_selftest_proves_a_whole_mac(lab: Callable[..., Lab], tmp_path: Path) -> None:
    played = lab(sudo=["powermetrics"])
    report = tmp_path / "report.md"
    done = played.melt("selftest", "ssh:mac", "-o", str(report), "--json", check=None)
    found = json.loads(done.stdout)
    failed = {step["name"]: step["finding"]["said"] for step in found["steps"] if step["finding"]["status"] == "fail"}
    # What depends on how busy this machine is beside the Mac is not the Mac's.
    assert not {name: said for name, said in failed.items() if not _LATE.search(said) and name not in _OF_THE_HOST}
    steps = {step["name"]: step["finding"] for step in found["steps"]}
    assert steps["rest and burst"]["figures"]["burst_w"] > steps["rest and burst"]["figures"]["rest_w"]
    assert steps["a known buffer"]["figures"]["footprint_bytes"] > 120e6
    text = report.read_text()
    for secret in ("C02EXAMPLE02", "8F2A11C4-7E3B-5D19-9A02-2C4E6B8D0F13", "Labs-Mac-mini", "/Users/lab", "Lab’s Mac"):
        assert secret not in text
    assert "Apple M4" in text


_LATE = re.compile(r"Hz came|nothing came for")
_OF_THE_HOST = {"cost of watching", "a short run", "system", "process"}


def _runner_is_there(played: Lab) -> bool:
    """Whether the engine's process has started on the Mac."""
    return "runner" in on(played.mac, "cat .melt/jobs/*/pid").stdout


def _so_far(process: subprocess.Popen[str]) -> str:
    return "[1/1]" if process.poll() is None else ""
