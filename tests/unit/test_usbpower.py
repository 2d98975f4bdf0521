"""Switching a USB port with programs that print what uhubctl and ykushcmd print, and keep a port's state in a file."""

from __future__ import annotations

import json
import shlex
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from melt.errors import DeviceError, UsageError
from melt.plan.values import CONDITIONS
from melt.records import Conditions, DeviceFacts
from melt.session import detach
from melt.session import folder as docs
from melt.session.detach import Cut, find_cut, plug_in_again, unplugged
from melt.targets.profiles import Profile, UsbPower, lab_profile
from melt.targets.usbpower import is_on, switch

HUB = UsbPower("uhubctl", "1-1.4", 2)
BOARD = UsbPower("ykush", "YK17125", 1)
BOARD_3 = UsbPower("ykush3", "YK30042", 1)

# As uhubctl 2.6 prints a hub that is a USB 2 and a USB 3 hub at once.
UHUBCTL = """
hub= action=
while [ $# -gt 0 ]; do
    case $1 in -l) hub=$2 ;; -a) action=$2 ;; esac
    shift
done
[ "${hub:-1-1.4}" = 1-1.4 ] || { echo "No compatible devices detected at location $hub!" >&2; exit 1; }
hubs() {
    read -r state < "$here/port" || :
    usb2='0000 off' usb3='0080 off'
    if [ "$state" = on ]; then
        usb2='0503 power highspeed enable connect [18d1:4ee7 Google Pixel off 8]' usb3='02a0 power 5gbps Rx.Detect'
    fi
    echo 'Current status for hub 1-1.4 [2109:2817 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports, ppps]'
    echo "  Port 2: $usb2"
    echo 'Current status for hub 2-1.4 [2109:0817 VIA Labs, Inc. USB3.0 Hub, USB 3.20, 4 ports, ppps]'
    echo "  Port 2: $usb3"
}
hubs
[ -n "$action" ] || exit 0
[ -e "$here/stuck" ] || printf %s "$action" > "$here/port"
echo "Sent power $action request"
hubs
"""
# A board that is missing is spoken of as port 15, and the exit code is 0.
YKUSHCMD = r"""
case $3 in YK17125 | YK30042) ;; *) printf '\n\nDownstream port 15 is ON\n\n\n'; exit 0 ;; esac
case $4 in
    -u) printf on > "$here/port" ;;
    -d) printf off > "$here/port" ;;
    -g)
        read -r state < "$here/port" || :
        case $state in on) state=ON ;; *) state=OFF ;; esac
        case $1 in
            ykush3) echo "Port 1 $state" ;;
            *) printf '\n\nDownstream port 1 is %s\n\n\n' "$state" ;;
        esac ;;
esac
"""


class Bench:
    """A folder of programs on the PATH, which is theirs alone, and the port that they switch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = path / "port"
        self.port.write_text("on")
        for name, body in (("uhubctl", UHUBCTL), ("ykushcmd", YKUSHCMD)):
            self.program(name, body)

    def program(self, name: str, body: str) -> None:
        script = self.path / name
        script.write_text(f'#!/bin/sh\nhere={shlex.quote(str(self.path))}\necho "$*" >> "$here/calls"\n{body}')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> list[str]:
        return (self.path / "calls").read_text().splitlines()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("PATH", str(tmp_path))
    return Bench(tmp_path)


class Folder:
    """A run's folder in memory."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}

    path = journal_path = Path()

    def write_document(self, name: str, data: bytes) -> None:
        self.documents[name] = data

    def read_document(self, name: str) -> bytes | None:
        return self.documents.get(name)


@pytest.mark.parametrize("power", [HUB, BOARD, BOARD_3], ids=lambda power: power.tool)
def test_a_port_is_switched_and_read_back(bench: Bench, power: UsbPower) -> None:
    assert is_on(power)
    switch(power, False)
    assert bench.port.read_text() == "off"
    assert not is_on(power)
    switch(power, True)
    assert bench.port.read_text() == "on"


def test_what_the_tools_are_asked(bench: Bench) -> None:
    switch(HUB, False)
    switch(BOARD, True)
    assert [call for call in bench.calls if "-a" in call or "-u" in call] == [
        "-l 1-1.4 -p 2 -a off",
        "ykush -s YK17125 -u 1",
    ]


def test_a_port_that_is_so_already_is_left_alone(bench: Bench) -> None:
    switch(HUB, True)
    assert not any("-a" in call for call in bench.calls)


def test_a_hub_that_takes_the_command_and_does_not_follow_is_found_out(bench: Bench) -> None:
    (bench.path / "stuck").touch()
    with pytest.raises(DeviceError, match=r"port 2 of the USB hub 1-1\.4 is still on after uhubctl switched it"):
        switch(HUB, False)


@pytest.mark.parametrize(
    ("power", "sentence"),
    [
        (UsbPower("uhubctl", "9-9", 2), "uhubctl: No compatible devices detected at location 9-9!"),
        (UsbPower("uhubctl", "1-1.4", 3), "port 3 of the USB hub 1-1.4 is not known to uhubctl"),
        (UsbPower("ykush", "YK00000", 1), "port 1 of the USB hub YK00000 is not known to ykush"),
    ],
)
def test_what_is_not_there_is_named(bench: Bench, power: UsbPower, sentence: str) -> None:
    with pytest.raises(DeviceError, match=sentence):
        switch(power, False)
    assert bench.port.read_text() == "on"


@pytest.mark.parametrize(("power", "program"), [(HUB, "uhubctl"), (BOARD, "ykushcmd")])
def test_a_missing_tool_is_named_with_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, power: UsbPower, program: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=f"USB power cannot be switched: {program} is not there: install {program}"):
        switch(power, False)


def test_a_tool_that_hangs_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.program("uhubctl", "exec /bin/sleep 60")
    monkeypatch.setattr("melt.targets.usbpower._DEADLINE_S", 0.3)
    with pytest.raises(DeviceError, match="uhubctl gave no answer"):
        is_on(HUB)


def _breaks(cut: Cut, folder: Folder, said: list[str], inside: Callable[[], object]) -> None:
    with unplugged(cut, folder, said.append):
        inside()
        raise ZeroDivisionError


def test_the_power_is_off_inside_and_comes_back_however_it_ends(bench: Bench) -> None:
    folder, said, inside = Folder(), [], []
    with pytest.raises(ZeroDivisionError):
        _breaks(Cut(HUB, on=False), folder, said, lambda: inside.append(bench.port.read_text()))
    assert inside == ["off"]
    assert bench.port.read_text() == "on"
    assert json.loads(folder.documents[docs.UNPLUGGED])["hub"] == "1-1.4"
    assert said == ["its USB port is switched off"]


def test_the_note_lies_there_before_the_port_is_cut(bench: Bench) -> None:
    class Full(Folder):
        def write_document(self, name: str, data: bytes) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), unplugged(Cut(HUB, on=False), Full(), print):
        pytest.fail("the run must not start")
    assert bench.port.read_text() == "on"


def test_the_power_comes_back_after_a_time_with_the_run_still_going_on(bench: Bench, monkeypatch) -> None:
    back = threading.Event()
    real = detach.switch

    def seen(power: UsbPower, on: bool) -> None:
        real(power, on)
        if on:
            back.set()

    monkeypatch.setattr(detach, "switch", seen)
    with unplugged(Cut(HUB, on=False, for_s=0.05), Folder(), print):
        assert back.wait(10)
        assert bench.port.read_text() == "on"


def test_another_process_gives_back_what_a_dead_one_had_cut(bench: Bench) -> None:
    folder = Folder()
    assert not plug_in_again(folder, print)
    held = unplugged(Cut(BOARD, on=False), folder, print)
    held.__enter__()
    assert bench.port.read_text() == "off"
    assert plug_in_again(folder, print)
    assert bench.port.read_text() == "on"
    held.__exit__(None, None, None)


def test_a_port_that_stays_dark_is_said_and_hides_nothing(bench: Bench) -> None:
    said: list[str] = []
    with pytest.raises(ZeroDivisionError):
        _breaks(Cut(HUB, on=False), Folder(), said, (bench.path / "stuck").touch)
    assert "switch it on by hand: port 2 of the USB hub 1-1.4 is still off" in said[-1]


def test_on_gives_power_and_takes_none(bench: Bench) -> None:
    bench.port.write_text("off")
    with unplugged(Cut(HUB, on=True), Folder(), print):
        assert bench.port.read_text() == "on"
    assert bench.port.read_text() == "on"


def _profile(*addresses: str) -> Profile:
    return Profile(name="shelf", title="Shelf", match={}, usb_power=HUB, addresses=addresses)


def test_what_is_not_asked_for_is_not_cut() -> None:
    assert find_cut(Conditions(), "adb:R5", "Pixel", None) is None


def test_a_phone_without_a_named_port_is_refused() -> None:
    with pytest.raises(UsageError, match="no profile says on which USB port Pixel hangs"):
        find_cut(Conditions(usb_power="off"), "adb:R5", "Pixel", None)


@pytest.mark.parametrize("selector", ["adb:R58N123", "adb:R58N123@lab:5037"])
def test_the_only_cable_is_cut_only_for_a_time(selector: str) -> None:
    with pytest.raises(UsageError, match=r"known by its cable alone.*`off for 10m`"):
        find_cut(Conditions(usb_power="off"), selector, "Pixel", _profile())
    asked = CONDITIONS["usb_power"]("Off for 10m")
    assert find_cut(Conditions(usb_power=str(asked)), selector, "Pixel", _profile()) == Cut(HUB, False, 600.0)
    assert find_cut(Conditions(usb_power="off"), selector, "Pixel", _profile("adb:10.0.0.5:5555")) == Cut(HUB, False)


@pytest.mark.parametrize(
    "selector", ["adb:10.0.0.5:5555", "adb:10.0.0.5:5555@lab:5037", "adb:adb-R5._adb-tls-connect._tcp"]
)
def test_a_phone_on_the_network_needs_its_cable_for_nothing(selector: str) -> None:
    assert find_cut(Conditions(usb_power="off"), selector, "Pixel", _profile()) == Cut(HUB, False)


def test_a_lab_names_port_and_addresses_of_one_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = DeviceFacts(
        device_id="android-0123", kind="adb", name="Google Pixel 8", os="android", os_build=None, kernel=None, arch="a"
    )
    monkeypatch.setenv("MELT_DEVICES", str(tmp_path))
    assert lab_profile(facts) is None
    path = tmp_path / "shelf-3.yaml"
    text = "title: Pixel 8 on shelf 3\nlike: google-pixel-8\nmatch: {device_id: android-0123}\n"
    path.write_text(
        text + "usb_power: {tool: ykush3, hub: YK30042, port: 1}\naddresses: ['adb:10.0.0.5:5555', R58N123]\n"
    )
    profile = lab_profile(facts)
    assert profile is not None
    assert profile.usb_power == BOARD_3
    assert profile.addresses == ("adb:10.0.0.5:5555", "R58N123")
    assert profile.gpu is not None  # of the model that it is like
    path.write_text(text + "addresses: adb:10.0.0.5:5555\n")
    with pytest.raises(UsageError, match=r"shelf-3\.yaml: addresses: expected a list"):
        lab_profile(facts)
