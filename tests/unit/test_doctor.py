"""`melt doctor`: what shares a row, what it advises, and how a device is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.cli._doctor_advice import advice, known
from melt.cli._doctor_rows import Reading, channel_rows
from melt.cli.main import main
from melt.records import Calibration, Cpu, Sampling, Stream
from melt.telemetry.platforms.kernel import process
from melt.units import UNITS

PHONE = replace(
    make_bundle().start.device, os="android", name="Xiaomi Mi A1", os_build="Android 9", virtualization=None
)


def reading(
    name: str, quantity: str, value: float | None, *, source: str = "/sys/x", word: str | None = None
) -> Reading:
    stream = Stream(
        collector="slow", name=name, quantity=quantity, unit=UNITS[quantity], site="x", source=source, rate_hz=1.0
    )
    return Reading(stream, value, word)


def test_clocks_and_governors_of_all_clusters_share_a_row_each() -> None:
    cpufreq = "/sys/devices/system/cpu/cpufreq"
    readings = [
        reading(f"policy{n}_governor", "state", 1e9, source=f"{cpufreq}/policy{n}/scaling_governor", word="sched_pixel")
        for n in (0, 4, 8)
    ]
    readings += [
        reading(f"cpu{n}_freq_hz", "frequency", 3e8 + n * 1e8, source=f"{cpufreq}/policy{n}/scaling_cur_freq")
        for n in range(9)
    ]
    assert [row[:2] for row in channel_rows(readings)] == [
        ["policy*_governor (3)", "sched_pixel"],
        ["cpu*_freq_hz (9)", "300 MHz .. 1.10 GHz"],
    ]


def test_states_of_different_things_do_not_share_a_row() -> None:
    states = [reading("battery_charging", "state", 1.0), reading("battery_discharging", "state", 0.0)]
    assert [row[1] for row in channel_rows(states)] == ["1", "0"]


def test_the_runner_is_one_row() -> None:
    readings = [Reading(stream, None) for file in process(Sampling()) for stream in file.streams]
    (row,) = channel_rows(readings)
    assert row[0] == f"the runner: CPU, memory, faults … ({len(readings)})"
    assert row[1:] == ["during a run", "10 Hz", "/proc/{pid}/…"]
    on_a_mac = [replace(r.stream, source="proc_pid_rusage") for r in readings]
    assert channel_rows([Reading(stream, None) for stream in on_a_mac])[0][3] == "proc_pid_rusage"


def test_what_was_not_read_is_no_number() -> None:
    assert channel_rows([reading("battery_temp_c", "temperature", None)])[0][1] == "-"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("battery_charging", 1.0, "`conditions: {charging: suspended}`"),
        ("battery_level_ratio", 0.12, "the battery is at 12 %"),
        ("screen_on", 0.0, "the screen is off"),
        ("thermal_status", 2.0, "status 2 of 6"),
        ("thermal_pressure", 1.0, "the Mac is throttling (thermal pressure 1 of 4)"),
    ],
)
def test_what_disturbs_is_said_with_what_helps(name: str, value: float, said: str) -> None:
    quantity = "level" if name.endswith("ratio") else "state"
    assert said in " ".join(advice(PHONE, [reading(name, quantity, value)]))
    assert said not in " ".join(advice(PHONE, [reading(name, quantity, None)]))


def test_a_mac_is_charged_to_the_end() -> None:
    said = " ".join(advice(replace(PHONE, os="macos"), [reading("battery_charging", "state", 1.0)]))
    assert "leave it plugged in until it is full" in said
    assert "unplug" not in said


def test_a_board_that_was_short_of_power_is_told_how_often() -> None:
    def alarm(number: int, times: float | None) -> Reading:
        one = reading(f"oc{number}_throttled", "count", times)
        return one._replace(stream=replace(one.stream, site=f"over-current alarm oc{number}", cumulative=True))

    said = " ".join(advice(PHONE, [alarm(1, 0.0), alarm(2, 15.0), alarm(3, 37.0), alarm(4, None)]))
    assert "cut the board's clocks since it was started (oc2 15 times, oc3 37 times)" in said
    assert "lack of power" not in " ".join(advice(PHONE, [alarm(1, 0.0)]))


@pytest.mark.parametrize(("fixed", "said"), [(True, ""), (False, "`conditions: {jetson_clocks: true}` holds them")])
def test_clocks_that_jetson_clocks_holds_need_no_advice(fixed: bool, said: str) -> None:
    cpu = Cpu(index=0, governor="schedutil")
    board = replace(PHONE, os="linux", cpus=(cpu,), power_mode="15W", clocks_locked=fixed)
    assert said in " ".join(advice(board, []))
    assert ("clocks move" in " ".join(advice(board, []))) is not fixed


@pytest.mark.parametrize(("factor", "doubted"), [(1e-6, False), (-1e-6, True), (1e-3, True)])
def test_a_battery_that_reads_otherwise_than_its_kind_is_known_to_is_doubted(factor: float, doubted: bool) -> None:
    """A Mi A1 counts in microamperes, positive while discharging."""
    found = Calibration(column="battery_current_a", factor=factor, basis="412000 while charging: …", certain=False)
    said = " ".join(known(PHONE, [], [found]))
    assert ("look again with the charger unplugged" in said) is doubted


def test_two_devices_at_once_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "phone-1", "--device", "phone-2"]) == 2
    assert "two devices are named, phone-1 and phone-2" in capsys.readouterr().err
