"""A phone fails in every way that phones do, in mid-run: one clear sentence, a true outcome, nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from melt_rig import Melt, RunsOnADevice
from native_runners import BUILDS, build
from virtual.phone import VirtualPhone
from virtual.phone.testing import Adb, adb_server, playing

pytestmark = BUILDS

Wait = Callable[..., object]

JOBS = "/data/local/tmp/melt/jobs"
RUNNER = "runner.json"
"""In the command line of the runner, and of nothing else on the phone."""

_OWN = ("settings", "props", "stay_on", "screen", "brightness", "battery_input_suspended", "fixed_performance")
"""What a run may change and must put back; clocks, heat and charge go their own way."""


def _cell(seconds: float, quants: str = "q8_0") -> tuple[str, ...]:
    workload = f"pp32+tg16 for {seconds:g}s"
    return ("--model", "tiny-pydoc", "--quant", quants, "--workload", workload, "-t", "1", "-r", "1", "--warmup", "0")


@dataclass(frozen=True)
class Lab(RunsOnADevice):
    """Melt, one phone, and an adb server of their own. `found` is how the phone stood before."""

    melt: Melt
    phone: VirtualPhone
    adb: Adb
    wait_for: Wait
    found: dict[str, Any]

    @property
    def device(self) -> tuple[str, str]:
        return "--device", f"adb:{self.phone.address}"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a run and return when its runner works on the phone and its journal comes home."""
        process = self.melt.start("run", *self.device, *words)
        with suppress(AssertionError):
            self.wait_for("a runner", lambda: process.poll() is not None or self._is_collecting(), timeout_s=60)
        if not self._is_collecting():
            process.send_signal(signal.SIGABRT)
            pytest.fail(f"nothing runs on the phone: {process.communicate(timeout=self.ends_s)}")
        return process

    def is_running(self) -> bool:
        return bool(self.phone.fault.kill(RUNNER, signal_number=0))

    def check_tidy(self) -> None:
        """Nothing waits to be collected, nothing runs or lies on the phone, and all is set as it was."""
        assert [path.name for path in (self.melt.store / "spool").glob("*")] == []
        assert self.melt.here("store", "verify").returncode == 0
        assert not self.is_running()
        assert self.adb.shell(f"ls {JOBS} 2>/dev/null || true") == ""
        assert _knobs(self.phone) == self.found

    def _is_collecting(self) -> bool:
        return any(b"runner_started" in journal.read_bytes() for journal in self.melt.store.glob("spool/*/journal"))


def _knobs(phone: VirtualPhone) -> dict[str, Any]:
    state = phone.state()
    return {name: state[name] for name in _OWN}


def _reasons(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {reason["code"]: reason for reason in shown["stop"]["reasons"]}


@pytest.fixture(scope="module")
def pixel() -> Iterator[VirtualPhone]:
    """One phone for the module: what a test does to it, it takes back."""
    with playing("pixel-8") as phone:
        build("android-arm64")
        yield phone


@pytest.fixture
def lab(melt: Melt, pixel: VirtualPhone, wait_for: Wait) -> Iterator[Lab]:
    with adb_server("system") as server:
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        lab = Lab(melt, pixel, Adb(server, pixel), wait_for, _knobs(pixel))
        yield lab
        for undo in (pixel.fault.thaw, pixel.fault.authorize, pixel.fault.disk_free):
            undo()
        pixel.fault.ramp(None)
        # What a test that failed left behind is no other test's.
        pixel.fault.kill(JOBS)
        lab.adb.run("shell", f"rm -rf {JOBS}/*")
        # A server that melt started in the place of a killed one.
        server.run("kill-server")


def test_a_link_that_freezes_and_breaks_costs_no_run(lab: Lab) -> None:
    process = lab.start(*_cell(8))
    lab.phone.fault.freeze()
    lab.phone.fault.drop()
    lab.wait_for("the run's end without its host", lambda: not lab.is_running())
    lab.phone.fault.thaw()
    err = lab.end(process, 0)
    assert err.count("the device is out of reach") == 1, err
    assert err.count("the device is back") == 1, err
    assert lab.outcomes() == ["ok"]
    lab.check_tidy()


@pytest.mark.parametrize("verb", ["resume", "run"])
def test_a_run_goes_on_when_melt_is_killed(lab: Lab, verb: str) -> None:
    process = lab.start(*_cell(3))
    process.kill()
    process.communicate()
    words = ("resume",) if verb == "resume" else ("run", *lab.device, *_cell(1))
    done = lab.melt(*words)
    assert "earlier melt" in done.stderr
    assert lab.outcomes() == ["ok"] * (1 if verb == "resume" else 2)
    lab.check_tidy()


def test_the_adb_server_is_killed(lab: Lab) -> None:
    process = lab.start(*_cell(6))
    lab.adb.server.run("kill-server")
    err = lab.end(process, 0)
    assert err.count("the device is out of reach") <= 1, err
    assert lab.outcomes() == ["ok"]
    lab.check_tidy()


def test_a_phone_that_starts_anew_loses_one_run_only(lab: Lab) -> None:
    process = lab.start(*_cell(2, "q8_0,q4_0"))
    lab.phone.fault.reboot(boot_s=2)
    err = lab.end(process, 1)
    assert "melt resume" in err
    assert lab.outcomes() == ["device_lost", "ok"]
    lost = lab.shown(str(lab.melt.runs()[-1]["run_id"]))
    assert "rebooted" in _reasons(lost)
    assert "logcat" in lost["stop"]["evidence"]
    lab.melt("resume")
    assert lab.outcomes() == ["device_lost", "ok", "ok"]
    lab.check_tidy()


def test_the_runner_is_killed_for_lack_of_memory(lab: Lab) -> None:
    process = lab.start(*_cell(60, "q8_0,q4_0"))
    (pid,) = lab.phone.fault.memory_kill(RUNNER)
    lab.wait_for("the next run", lambda: lab.is_running() and len(lab.melt.runs()) == 1, timeout_s=60)
    process.send_signal(signal.SIGINT)
    lab.end(process, 1)
    assert lab.outcomes() == ["oom", "aborted"]
    shown = lab.melt.here("show", str(lab.melt.runs()[-1]["run_id"]), "--evidence").stdout
    assert re.search(rf"lowmemorykiller: Kill '.*' \({pid}\)", shown), shown
    lab.check_tidy()


def test_the_runner_is_killed_by_somebody(lab: Lab) -> None:
    process = lab.start(*_cell(60))
    lab.phone.fault.kill(RUNNER)
    lab.end(process, 1)
    shown = lab.shown()
    assert shown["stop"]["outcome"] == "failed"
    assert "signal 9 (SIGKILL)" in _reasons(shown)["runner_killed"]["message"]
    assert "memory" not in _reasons(shown)["runner_killed"]["message"], "the phone says that none ran out"
    lab.check_tidy()


def test_no_room_for_the_model(lab: Lab) -> None:
    lab.phone.fault.disk_free(kb=20_000)
    done = lab.melt("run", *lab.device, *_cell(1, "q5_0"), check=1)
    assert re.search(r"needs [\d.]+ MiB, [\d.]+ MiB is free of [\d.]+ MiB", done.stderr), done.stderr
    assert lab.melt.runs() == []
    lab.phone.fault.disk_free()
    lab.melt("resume")
    assert lab.outcomes() == ["ok"]
    lab.check_tidy()


def test_the_disk_fills_in_mid_run(lab: Lab) -> None:
    process = lab.start(*_cell(4))
    lab.phone.fault.disk_full()
    lab.end(process, 0)
    shown = lab.shown()
    assert shown["stop"]["outcome"] == "ok"
    assert shown["stop"]["verdict"] != "valid"
    assert _reasons(shown)["journal_full"]["figures"]["unsampled_s"] > 0
    lab.check_tidy()


def test_heat_lowers_the_frequencies(lab: Lab) -> None:
    process = lab.start(*_cell(6))
    lab.phone.fault.ramp(48.0, seconds=1)
    lab.end(process, 0)
    shown = lab.shown()
    assert shown["stop"]["verdict"] == "suspect"
    assert _reasons(shown)["throttled"]["figures"]
    lab.check_tidy()


def test_a_phone_that_cannot_be_used(lab: Lab) -> None:
    run = ("run", *lab.device, *_cell(1))

    def refused(*words: str) -> str:
        done = lab.melt(*words, check=1)
        assert lab.phone.address in done.stderr
        said = [line for line in done.stderr.splitlines() if line.startswith("melt: ")]
        assert len(said) == 2, f"why, and how to go on: {done.stderr}"
        return done.stderr

    lab.phone.fault.unauthorized()
    assert "does not trust this computer" in refused(*run)
    lab.phone.fault.authorize()
    lab.phone.fault.freeze()
    assert re.search(r"gives no answer|is offline", refused(*run))
    lab.phone.fault.thaw()
    lab.adb.server.connect(lab.phone.address)
    done = lab.melt("run", "--device", "adb:R5CT1234", *_cell(1), check=1)
    assert "adb:R5CT1234 is not connected" in done.stderr
    done = lab.melt("run", "--device", "R5CT1234", *_cell(1), check=2)
    assert lab.phone.address in done.stderr, "it names the phones that there are"
    assert lab.melt.runs() == []
    lab.check_tidy()


def test_interrupted_on_the_phone_while_another_melt_asks_for_it(lab: Lab) -> None:
    process = lab.start(
        *_cell(60), "--condition", "stay_awake=true", "--condition", "screen=off", "--condition", "brightness=10"
    )
    assert _knobs(lab.phone) != lab.found
    other = Melt(lab.melt.env, lab.melt.store.parent / "other", lab.melt.state)
    done = other("run", *lab.device, *_cell(1), check=1)
    assert f"process {process.pid}" in done.stderr
    assert "Pixel 8" in done.stderr
    process.send_signal(signal.SIGINT)
    assert "melt resume" in lab.end(process, 1)
    assert lab.outcomes() == ["aborted"]
    lab.check_tidy()


def test_a_push_that_breaks_goes_on_where_it_broke(lab: Lab, models_dir: Path, tmp_path: Path) -> None:
    lab.melt("run", *lab.device, *_cell(1))
    (tiny,) = models_dir.rglob("*[qQ]8_0*.gguf")
    large = tmp_path / "large.gguf"
    size = 60 << 20
    large.write_bytes(tiny.read_bytes())
    with large.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(os.urandom(size - file.tell()))
    lab.phone.fault.drop_after(20 << 20)
    words = _cell(1)
    lab.melt("run", *lab.device, "--model", str(large), *words[words.index("--workload") :])
    assert lab.outcomes() == ["ok", "ok"]
    received = re.compile(rf"receive'? .*large\.gguf'? '?{size}'? '?(\d+)")
    opened = (received.search(str(entry.get("service"))) for entry in lab.phone.log())
    offsets = [int(found[1]) for found in opened if found]
    assert offsets[0] == 0
    assert 10 << 20 < offsets[-1] <= 20 << 20, f"what had arrived was sent again: {offsets}"
    lab.check_tidy()


def test_a_phone_that_denies_most_is_still_measured(melt: Melt, wait_for: Wait) -> None:
    with playing("locked-down") as phone, adb_server("system") as server:
        build("android-arm64")
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        lab = Lab(melt, phone, Adb(server, phone), wait_for, _knobs(phone))
        melt("run", *lab.device, *_cell(3))
        shown = lab.shown()
        assert shown["stop"]["outcome"] == "ok"
        (decode,) = [m for m in shown["metrics"] if m["name"] == "decode_tps" and m["repetition"] is None]
        assert decode["value"] > 0
        missing = "; ".join(shown["start"]["missing"])
        for what in ("temperature is not measured", "power is not measured", "frequency is not measured", "throttles"):
            assert what in missing
        lab.check_tidy()
