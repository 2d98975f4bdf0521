"""A phone whose cable is cut, whose agent is killed, that starts anew: the run comes home, every knob comes back."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cables import Cable
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, eventually, playing

from melt.errors import DeviceError, TransportError
from melt.records import Conditions, DeviceFacts
from melt.session.collect import collect
from melt.session.connect import Reached, reach
from melt.session.detach import Cut, unplugged
from melt.session.patience import patiently
from melt.session.relink import Relink
from melt.targets.jobfile import File, Group, Job
from melt.targets.knobs import CHECK, plan_knobs
from melt.targets.probe import take_snapshot
from melt.targets.profiles import UsbPower
from melt.telemetry.journal import Event, read_journal

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
ASKED: dict[str, dict[str, Any]] = {
    "pixel-8": {
        "screen": "on",
        "brightness": 7,
        "stay_awake": True,
        "charging": "suspended",
        "fixed_performance": True,
        "airplane": True,
        "wifi": False,
    },
    "galaxy-s21": {"screen": "off", "brightness": 0, "stay_awake": True, "wifi": False, "fixed_performance": True},
    "mi-a1": {"screen": "off", "brightness": 255, "stay_awake": True, "wifi": False},
    "locked-down": {"screen": "off", "brightness": 7, "stay_awake": True, "airplane": True},
}
"""What each phone can; a Galaxy takes no order to stop charging, Android 9 knows no fixed performance."""


@pytest.fixture(scope="module")
def adb() -> Iterator[Any]:
    with adb_server("system") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{server.port}")
        yield server


@contextmanager
def _reached(adb: Any, profile: str) -> Iterator[tuple[VirtualPhone, Reached]]:
    with ExitStack() as stack:
        phone = stack.enter_context(playing(profile, data_mb=32, boot_s=0.2))
        adb.connect(phone.address)
        device = reach(f"adb:{phone.address}")
        stack.callback(device.transport.close)
        yield phone, device


def _facts(device: Reached) -> DeviceFacts:
    known = take_snapshot(device.transport, device.agent, device.system.FACT_GLOBS, device.system.FACT_COMMANDS)
    return device.system.parse_facts(known, device_id_hint="x", kind="adb")


def _state(phone: VirtualPhone) -> dict[str, Any]:
    state = phone.state()
    state.pop("charge_uah")
    # A property that was not there stays, with the value of one that is not.
    state["props"].pop("power.battery_input.suspended", None)
    return state


def _started(device: Reached, path: Path, job: Job) -> str:
    """Start a job on the phone; return its folder there."""
    folder = f"{device.root}/jobs/{job.run_id}"
    device.transport.run(("mkdir", "-p", folder))
    (path / "job").write_bytes(job.render())
    device.transport.push(path / "job", f"{folder}/job")
    device.agent.start(folder)
    return folder


def _ended(device: Reached, folder: str, how: str, phone: VirtualPhone) -> None:
    """End a job as `how` says, and recover it where nobody is left to end it."""
    if how == "stopped":
        device.agent.stop(folder)
        return
    pids = device.transport.run(("cat", f"{folder}/pid")).stdout.decode().splitlines()
    pid = {line.split()[0]: line.split()[1] for line in pids}
    if how == "worker killed":
        device.transport.run(("kill", "-9", pid["worker"]))
        eventually(lambda: device.agent.status(folder).state == "ended", 30)
        return
    if how == "started anew":
        phone.fault.reboot()
    else:
        device.transport.run(("kill", "-9", pid["guardian"], pid["worker"]))
    eventually(lambda: _status(device, folder) == "dead", 60)
    assert patiently(lambda: device.agent.recover(folder), stop=threading.Event(), within_s=60).state == "ended"


def _status(device: Reached, folder: str) -> str | None:
    with suppress(TransportError):
        return device.agent.status(folder).state
    return None


@pytest.mark.parametrize(
    "profile", [pytest.param(name, marks=[] if name == "pixel-8" else pytest.mark.slow) for name in ASKED]
)
def test_every_knob_is_read_back_in_the_journal_and_comes_back_however_the_run_ends(
    adb: Any, tmp_path: Path, profile: str
) -> None:
    with _reached(adb, profile) as (phone, device):
        found = _state(phone)
        for how in ("stopped", "worker killed", "both killed", "started anew"):
            plan = plan_knobs(Conditions(**ASKED[profile]), _facts(device), device.transport.run)
            assert _state(phone) == found, "planning changed the phone"
            job = Job(
                run_id=how.replace(" ", "-"), runner=("sleep", "60"), prepares=plan.prepares, restores=plan.restores
            )
            folder = _started(device, tmp_path, job)
            journal = tmp_path / f"{job.run_id}.journal"
            eventually(lambda: _has_begun(device, folder, journal), 30)  # noqa: B023 - called in this turn only
            said = {e.data["name"]: e.data["stdout"].strip() for e in _events(journal, "prepared")}
            assert {k.name: said[CHECK + k.name] for k in plan.knobs} == {k.name: k.asked for k in plan.knobs}
            assert _state(phone) != found
            _ended(device, folder, how, phone)
            assert _state(phone) == found, how


def _events(journal: Path, name: str) -> list[Event]:
    return [r for r in read_journal(journal).records if isinstance(r, Event) and r.name == name]


def _has_begun(device: Reached, folder: str, journal: Path) -> bool:
    with device.agent.tail(folder) as channel, journal.open("wb") as out:
        while data := channel.read(1 << 16, 10):
            out.write(data)
    return journal.stat().st_size > 0 and bool(_events(journal, "runner_started"))


def _measuring(seconds: float) -> Job:
    group = Group(0, 50_000_000, (File(0, "/proc/uptime"),))
    return Job(run_id="run", runner=("sleep", str(seconds)), groups=(group,))


def _is_whole(journal: Path) -> bool:
    read = read_journal(journal)
    return not read.torn and bool(_events(journal, "end"))


class _Folder:
    """A run's folder of which only the note is of interest here."""

    path = journal_path = Path()

    def write_document(self, name: str, data: bytes) -> None:
        self.note = data

    def read_document(self, name: str) -> bytes | None:
        return None


@pytest.mark.slow
def test_a_run_without_a_cable_is_collected_when_its_port_has_power_again(
    adb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uhubctl is a program that cuts the virtual phone's link, prints what the real one prints, and notes the state."""
    port = tmp_path / "port"
    port.write_text("on")
    with _reached(adb, "pixel-8") as (phone, device):
        program = tmp_path / "uhubctl"
        program.write_text(
            f"#!{sys.executable}\nimport sys, pathlib\nsys.path.insert(0, {str(TESTS)!r})\n"
            "from virtual.phone import control\nfrom virtual.phone.handle import control_socket\n"
            f"port, socket = pathlib.Path({str(port)!r}), control_socket({phone.port})\n"
            "if '-a' in sys.argv:\n    port.write_text(sys.argv[-1])\n"
            "    for fault in ('drop', 'freeze') if sys.argv[-1] == 'off' else ('thaw',): control.send(socket, fault)\n"
            "print('Current status for hub 1-1.4 [2109:2817 VIA Labs, Inc., USB 2.10, 4 ports, ppps]')\n"
            "print('  Port 2: ' + ('0503 power highspeed enable connect [18d1:4ee7]' if port.read_text() == 'on'"
            " else '0000 off'))\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        folder = _started(device, tmp_path, _measuring(1.0))
        said: list[str] = []
        with unplugged(Cut(UsbPower("uhubctl", "1-1.4", 2), on=False, for_s=3.0), _Folder(), said.append):
            assert port.read_text() == "off"
            with pytest.raises(TransportError):
                device.transport.run(("true",), timeout_s=0.3)
            collected = collect(
                device.agent, folder, tmp_path / "journal", see=lambda _: None, stop=threading.Event(), say=said.append
            )
        assert collected.state == "ended"
        assert _is_whole(tmp_path / "journal")
        assert port.read_text() == "on"
        assert said == ["its USB port is switched off for 3 s"]


@pytest.mark.slow
def test_a_phone_whose_cable_is_pulled_is_found_at_its_other_address(adb: Any, tmp_path: Path) -> None:
    with ExitStack() as stack:
        phone = stack.enter_context(playing("pixel-8", data_mb=32))
        stranger = stack.enter_context(playing("mi-a1", data_mb=32))
        cable = Cable(phone.port)
        stack.callback(cable.cut)
        for port in (cable.port, stranger.port):
            adb.connect(f"127.0.0.1:{port}")
        device = reach(f"adb:127.0.0.1:{cable.port}")
        stack.callback(device.transport.close)
        device_id = _facts(device).device_id
        relink = Relink(device_id, (f"adb:{stranger.address}", f"adb:{phone.address}"))
        stack.callback(relink.close)
        folder = _started(device, tmp_path, _measuring(2.0))
        said: list[str] = []

        def see(records: Any) -> None:
            if records and not said:
                cable.cut()

        collected = collect(
            device.agent,
            folder,
            tmp_path / "journal",
            see=see,
            stop=threading.Event(),
            say=said.append,
            reconnect=relink,
        )
        assert collected.state == "ended"
        assert _is_whole(tmp_path / "journal")
        assert [text.split(";")[0].split(",")[0] for text in said] == [
            "the device is out of reach",
            "the device is back",
        ]
        with pytest.raises(DeviceError, match="not the device that was asked for"):
            Relink(device_id, (f"adb:{stranger.address}",))()
