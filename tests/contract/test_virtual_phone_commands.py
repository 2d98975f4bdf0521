"""Android's commands on each kind of phone: what one answers, another refuses, and every knob turns back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.phone import VirtualPhone
from virtual.phone.testing import Adb, adb_server, playing

pytestmark = pytest.mark.slow

TMP = "/data/local/tmp"
BATTERY = "/sys/class/power_supply/battery"
SDOT, SMMLA = 0x4E809400, 0x4E80A400
"""v0.4s, v0.16b, v0.16b: instructions of the extensions dotprod and i8mm."""


@pytest.fixture(scope="module")
def adb_of() -> Iterator[dict[str, Adb]]:
    """One client and a phone of each kind."""
    names = ("pixel-8", "galaxy-s21", "mi-a1", "locked-down")
    phones: list[VirtualPhone] = []
    with adb_server("system") as server, playing(names[0], data_mb=8) as first:
        try:
            phones = [first, *(VirtualPhone(name, data_mb=8).start() for name in names[1:])]
            yield {phone.profile: Adb(server, phone) for phone in phones}
        finally:
            for phone in phones[1:]:
                phone.stop()


@pytest.fixture
def pixel(adb_of: dict[str, Adb]) -> Adb:
    return adb_of["pixel-8"]


@pytest.mark.parametrize(
    ("turn", "knob", "turned", "back"),
    [
        ("svc power stayon true", "stay_on", 15, "svc power stayon false"),
        ("cmd power set-fixed-performance-mode-enabled true", "fixed_performance", True,
         "cmd power set-fixed-performance-mode-enabled false"),
        ("setprop power.battery_input.suspended true", "battery_input_suspended", True,
         "setprop power.battery_input.suspended false"),
        ("input keyevent KEYCODE_SLEEP", "screen", "off", "input keyevent 224"),
        ("settings put system screen_brightness 10", "brightness", 10, "settings put system screen_brightness 102"),
        ("cmd connectivity airplane-mode enable", "airplane", True, "cmd connectivity airplane-mode disable"),
        ("svc wifi disable", "wifi", False, "svc wifi enable"),
        ("cmd thermalservice override-status 3", "thermal_override", 3, "cmd thermalservice reset"),
        ("dumpsys battery unplug", "battery_overridden", True, "dumpsys battery reset"),
    ],
)  # fmt: skip
def test_a_knob_turns_and_turns_back(pixel: Adb, turn: str, knob: str, turned: object, back: str) -> None:
    before = pixel.phone.state()
    pixel.shell(turn)
    assert pixel.phone.state()[knob] == turned
    pixel.shell(back)
    after = pixel.phone.state()
    assert {key: after[key] for key in after if key not in ("charge_uah", "props")} == {
        key: before[key] for key in before if key not in ("charge_uah", "props")
    }


def test_suspending_the_input_is_seen_everywhere_at_once(pixel: Adb) -> None:
    try:
        seen = pixel.shell(f"setprop power.battery_input.suspended true; cat {BATTERY}/status; dumpsys battery")
        assert seen.startswith("Discharging\n")
        assert "  USB powered: false\n" in seen
        assert "  status: 3\n" in seen
        assert int(pixel.shell(f"cat {BATTERY}/current_now")) < 0
    finally:
        pixel.shell("setprop power.battery_input.suspended false")
    assert int(pixel.shell(f"cat {BATTERY}/current_now")) > 0


def test_an_unplugged_report_changes_nothing_but_the_report(pixel: Adb) -> None:
    try:
        seen = pixel.shell(f"dumpsys battery unplug; dumpsys battery; cat {BATTERY}/status")
        assert "(UPDATES STOPPED -- use 'reset' to restart)" in seen
        assert seen.endswith("Charging\n")
    finally:
        pixel.shell("dumpsys battery reset")


@pytest.mark.parametrize("name", ["galaxy-s21", "mi-a1", "locked-down"])
def test_where_charging_cannot_be_stopped_it_says_so(adb_of: dict[str, Adb], name: str) -> None:
    done = adb_of[name].run("shell", "setprop power.battery_input.suspended true")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Failed to set property" in done.stderr
    assert "java.lang.SecurityException" in adb_of[name].shell("dumpsys battery suspend_input")
    assert adb_of[name].phone.state()["battery_input_suspended"] is False


def test_an_old_phone_lacks_the_new_commands(adb_of: dict[str, Adb]) -> None:
    old = adb_of["mi-a1"]
    assert b"Can't find service: thermalservice" in old.run("shell", "dumpsys thermalservice").stderr
    assert old.run("shell", "cmd power set-fixed-performance-mode-enabled true").returncode == 255
    assert old.run("shell", "svc power stayon true; settings get global stay_on_while_plugged_in").stdout == b"7\n"
    old.shell("svc power stayon false")


def test_a_locked_phone_lets_nothing_be_read(adb_of: dict[str, Adb]) -> None:
    locked = adb_of["locked-down"]
    for path in ("/sys/class/thermal/thermal_zone0/temp", f"{BATTERY}/current_now",
                 "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"):  # fmt: skip
        assert b"Permission denied" in locked.run("shell", f"cat {path}").stderr
    assert locked.shell("dumpsys thermalservice").endswith("Cached temperatures:\nHAL Ready: false\n")
    assert "  level: 83\n" in locked.shell("dumpsys battery")


def test_the_power_monitor_counts_up_where_there_is_one(adb_of: dict[str, Adb]) -> None:
    ask = "dumpsys android.hardware.power.stats.IPowerStats/default | grep VDD_MIF"
    first, second = (float(adb_of["pixel-8"].shell(f"sleep 0.1; {ask}").split()[1]) for _ in range(2))
    assert 0 < first < second
    assert b"Can't find service" in adb_of["galaxy-s21"].run("shell", ask).stderr


def test_what_a_production_build_refuses(pixel: Adb) -> None:
    assert pixel.run("shell", "dmesg").stderr == b"dmesg: klogctl: Permission denied\n"
    assert pixel.run("shell", "cmd gpu_magic").returncode == 20
    assert pixel.run("root").stdout == b"adbd cannot run as root in production builds\n"


@pytest.mark.parametrize(
    ("name", "instruction", "code"),
    [
        ("mi-a1", SDOT, 132),
        ("galaxy-s21", SDOT, 0),
        ("galaxy-s21", SMMLA, 132),
        ("pixel-8", SDOT, 0),
        ("pixel-8", SMMLA, 0),
    ],
)
def test_code_for_a_newer_cpu_dies_on_an_older_one(
    adb_of: dict[str, Adb], tmp_path: Path, name: str, instruction: int, code: int
) -> None:
    program = tmp_path / "program"
    program.write_bytes(_arm64_program(instruction))
    program.chmod(0o755)
    adb_of[name].run("push", str(program), f"{TMP}/program")
    assert adb_of[name].run("shell", f"{TMP}/program").returncode == code


def _arm64_program(instruction: int) -> bytes:
    """Return a whole program that executes one instruction and exits with 0."""
    base, header = 0x400000, 64 + 56
    code = struct.pack("<4I", instruction, 0xD2800000, 0xD2800BA8, 0xD4000001)  # mov x0, #0; mov x8, #93; svc #0
    elf = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 183, 1, base + header, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, header + len(code), header + len(code), 0x1000)
    return elf + segment + code
