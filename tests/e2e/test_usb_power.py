"""A run with the phone's USB port switched off: by the battery alone, and with power again when melt was killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cables import Cable
from melt_rig import Melt
from native_runners import BUILDS, build
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, playing

pytestmark = BUILDS

Wait = Callable[..., object]

UHUBCTL = """\
#!{python}
import pathlib, sys
sys.path.insert(0, {tests!r})
from virtual.phone import control
from virtual.phone.paths import control_socket
port, plugged = pathlib.Path({port!r}), sys.argv[-1] == "on"
if "-a" in sys.argv and not port.with_suffix(".stuck").exists():
    port.write_text(sys.argv[-1])
    control.send(control_socket({phone}), "plug", plugged=plugged)
print("Current status for hub 1-1.4 [2109:2817 VIA Labs, Inc., USB 2.10, 4 ports, ppps]")
print("  Port 2: " + ("0503 power highspeed enable connect" if port.read_text() == "on" else "0000 off"))
"""
"""Pulls the virtual phone's charger, and prints what the real one prints."""

CELL = ("--model", "tiny-pydoc", "-t", "1", "-r", "1", "--warmup", "0", "--condition", "usb_power=off")


@dataclass(frozen=True)
class Shelf:
    """A phone that is reached by the network and fed by a port that can be switched."""

    melt: Melt
    phone: VirtualPhone
    port: Path

    @property
    def device(self) -> tuple[str, str]:
        return "--device", f"adb:{self.phone.address}"


@pytest.fixture
def shelf(melt: Melt, tmp_path: Path) -> Iterator[Shelf]:
    build("android-arm64")
    with playing("pixel-8") as phone, adb_server("system") as server:
        server.connect(phone.address)
        port, program, profiles = tmp_path / "port", tmp_path / "bin" / "uhubctl", tmp_path / "devices"
        port.write_text("on")
        program.parent.mkdir()
        tests = str(Path(__file__).parents[1])
        program.write_text(UHUBCTL.format(python=sys.executable, tests=tests, port=str(port), phone=phone.port))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        profiles.mkdir()
        (profiles / "shelf-3.yaml").write_text(
            "title: Pixel 8 on shelf 3\nmatch: {name: Pixel 8, os: android}\n"
            "usb_power: {tool: uhubctl, hub: 1-1.4, port: 2}\n"
        )
        melt.env.update(
            ADB_SERVER_SOCKET=f"tcp:127.0.0.1:{server.port}",
            PATH=f"{program.parent}:{os.environ['PATH']}",
            MELT_DEVICES=str(profiles),
        )
        yield Shelf(melt, phone, port)


def test_the_phone_is_measured_on_its_battery_and_charged_again(shelf: Shelf) -> None:
    shelf.melt("run", *shelf.device, *CELL, "--workload", "pp32+tg16 for 5s", timeout_s=240)
    run = json.loads(shelf.melt.here("show", "last", "-o", "json").stdout)
    assert run["stop"]["outcome"] == "ok"
    assert "charging" not in [reason["code"] for reason in run["stop"]["reasons"]]
    assert shelf.port.read_text() == "on"
    assert shelf.phone.state()["plugged"]


def test_a_killed_melt_leaves_the_port_dark_and_the_next_one_gives_it_power(shelf: Shelf, wait_for: Wait) -> None:
    process = shelf.melt.start("run", *shelf.device, *CELL, "--workload", "pp32+tg16 for 8s")
    wait_for("the port", lambda: shelf.port.read_text() == "off" or process.poll() is not None, timeout_s=120)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert shelf.port.read_text() == "off"
    shelf.melt("resume", timeout_s=240)
    assert shelf.port.read_text() == "on"
    assert [run["outcome"] for run in shelf.melt.runs()] == ["ok"]


def test_a_phone_whose_port_nobody_names_is_refused(shelf: Shelf) -> None:
    shelf.melt.env["MELT_DEVICES"] = str(shelf.port.parent / "none")
    refused = shelf.melt("run", *shelf.device, *CELL, "--workload", "tg16", check=2)
    assert "no profile says on which USB port Google Pixel 8 hangs" in refused.stderr


def test_a_hub_that_does_not_follow_ends_the_run(shelf: Shelf) -> None:
    shelf.port.with_suffix(".stuck").touch()
    failed = shelf.melt("run", *shelf.device, *CELL, "--workload", "pp32+tg16 for 5s", check=1, timeout_s=240)
    assert "port 2 of the USB hub 1-1.4 is still on after uhubctl switched it" in failed.stderr
    shelf.port.with_suffix(".stuck").unlink()
    shelf.melt("resume", timeout_s=240)
    assert "aborted" in [run["outcome"] for run in shelf.melt.runs()]


def test_a_run_of_a_killed_melt_is_collected_at_the_phones_other_address(shelf: Shelf, wait_for: Wait) -> None:
    profile = Path(shelf.melt.env["MELT_DEVICES"]) / "shelf-3.yaml"
    profile.write_text(profile.read_text() + f"addresses: ['adb:{shelf.phone.address}']\n")
    cable = Cable(shelf.phone.port)
    cell = [word for word in CELL if word not in ("--condition", "usb_power=off")]
    device = f"adb:127.0.0.1:{cable.port}"
    process = shelf.melt.start("run", "--device", device, *cell, "--workload", "pp32+tg16 for 5s")
    journals = shelf.melt.store / "spool"
    wait_for("the run", lambda: list(journals.glob("*/journal")) or process.poll() is not None, timeout_s=120)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    cable.cut()
    shelf.melt("resume", timeout_s=240)
    assert [run["outcome"] for run in shelf.melt.runs()] == ["ok"]
