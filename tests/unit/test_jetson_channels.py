"""What a Jetson falls back on when files deny it something, and what its rails add up to."""

from __future__ import annotations

import ast
import json
import math
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melt._layout import agents_dir
from melt.analysis.channels import RAILS, power_meter
from melt.records import Sampling
from melt.targets.probe import load_snapshot
from melt.telemetry.base import Discovery
from melt.telemetry.decode import decode
from melt.telemetry.journal import Journal, Tick
from melt.telemetry.platforms import jetson, jetson_jtop, linux
from melt.telemetry.schedule import make_schedule
from melt.traces import Trace

FOLDER = Path(__file__).parents[1] / "data" / "snapshots"
MS = 1_000_000


def board(name: str, *without: str) -> dict[str, bytes]:
    """Return a snapshot, without the files and answers whose path holds one of these words."""
    snapshot = load_snapshot((FOLDER / f"jetson-{name}.json").read_bytes())
    return {path: raw for path, raw in snapshot.items() if not any(word in path for word in without)}


def found(snapshot: dict[str, bytes], **sampling: float) -> Discovery:
    return linux.discover(snapshot, Sampling(**sampling))


def power_sites(discovery: Discovery) -> dict[str, set[str]]:
    """Return by collector the rails that it tells of."""
    sites: dict[str, set[str]] = {}
    for stream in discovery.streams:
        if "rail " in stream.site:
            sites.setdefault(stream.collector, set()).add(stream.site)
    return sites


def traces(snapshot: dict[str, bytes], ticks: int = 3) -> list[Trace]:
    """Return what a run would bring home of the rails of a board that never changes."""
    schedule = make_schedule(found(snapshot))
    rails = next(group for group in schedule.groups if group.collector == "rails")
    contents = tuple(snapshot[file.path] for file in rails.files)
    records = [Tick(rails.gid, n * 100 * MS, MS, contents) for n in range(1, ticks + 1)]
    return decode(Journal(records=[*records]), schedule)


@pytest.mark.parametrize(
    ("name", "scope", "watts"),
    [
        ("orin-nano-jp6", "compute module", {"rail VDD_IN": 4.65888}),
        ("nano-jp4", "compute module", {"rail POM_5V_IN": 0.997}),
        ("xavier-nx-jp4", "compute module", {"rail VDD_IN": 3.903}),
        ("thor-jp7", "whole device", {"rail VIN": 19.78}),
        # The memory's rail is fed by VIN_SYS_5V0: with both, its power were counted twice.
        ("agx-orin-jp5", RAILS, {"rail VDD_CPU_CV": 0.39456, "rail VDD_GPU_SOC": 2.36736, "rail VIN_SYS_5V0": 4.0256}),
    ],
)
def test_the_power_of_a_board_is_that_of_its_input_or_a_sum_that_is_called_one(name, scope, watts) -> None:
    meter = power_meter(traces(board(name)))
    assert meter is not None
    assert meter[0] == scope
    assert {series.stream.site: float(series.values[-1]) for series in meter[1]} == pytest.approx(watts)


def test_without_its_input_rail_a_board_has_a_sum_of_those_that_are_left() -> None:
    snapshot = board("orin-nano-jp6", "in1_label")
    meter = power_meter(traces(snapshot))
    assert meter is not None
    assert meter[0] == RAILS
    assert [series.stream.site for series in meter[1]] == ["rail VDD_CPU_GPU_CV", "rail VDD_SOC"]


def test_a_rail_near_nothing_may_read_less_than_nothing() -> None:
    snapshot = board("thor-jp7", "hwmon5")
    snapshot["/sys/bus/i2c/devices/2-0040/hwmon/hwmon4/curr1_input"] = b"-20\n"
    columns = {name: values for trace in traces(snapshot) for name, values in trace.columns.items()}
    assert columns["rail_vdd_gpu_power_w"] == pytest.approx(np.full(3, -0.39392))


def test_agx_xavier_has_two_monitors_and_no_input() -> None:
    snapshot = board("nano-jp4", "iio:device0")
    for chip, labels in {
        "1-0040/iio:device0": ("GPU", "CPU", "SOC"),
        "1-0041/iio:device1": ("CV", "VDDRQ", "SYS5V"),
    }.items():
        for channel, label in enumerate(labels):
            folder = f"/sys/bus/i2c/devices/{chip}"
            snapshot[f"{folder}/rail_name_{channel}"] = f"{label}\n".encode()
            snapshot[f"{folder}/in_power{channel}_input"] = b"500\n"
    meter = power_meter(traces(snapshot))
    assert meter is not None
    assert (meter[0], len(meter[1])) == (RAILS, 6)


@pytest.mark.parametrize(
    ("sampling", "rate_hz"),
    [
        ({}, 10),
        ({"sensors_hz": 50.0}, 50),
        ({"power_hz": 100.0}, 100),
        ({"power_hz": 2.0}, 2),
        ({"sensors_hz": 500.0}, 100),
    ],
)
def test_rails_have_a_rate_of_their_own(sampling, rate_hz) -> None:
    schedule = make_schedule(found(board("orin-nano-jp6"), **sampling))
    periods = {group.collector: group.period_ns for group in schedule.groups}
    assert periods["rails"] == round(1e9 / rate_hz)


def test_a_monitor_is_not_read_a_second_time_as_an_hwmon_chip() -> None:
    sites = {stream.site for stream in found(board("agx-orin-jp5")).streams}
    assert not any("ina3221" in site or site.endswith(" NC") for site in sites)
    # On other boards it is a chip like any other.
    other = {
        path: raw for path, raw in board("agx-orin-jp5").items() if "tegra" not in path and "compatible" not in path
    }
    assert any("ina3221" in stream.site for stream in found(other).streams)
    assert "rails" not in power_sites(found(other))


def test_a_zone_that_sleeps_with_the_gpu_is_watched_for_its_waking() -> None:
    schedule = make_schedule(found(board("orin-nano-jp6")))
    (zone,) = (f.source for g in schedule.groups for f in g.files if f.source.streams[0].site == "gpu-thermal")
    assert zone.parse(b"51250\n") == (51.25,)
    assert math.isnan(zone.parse(b"-256000\n")[0])


def test_what_cuts_clocks_for_want_of_power_or_for_heat_is_counted_and_what_does_not_is_left_out() -> None:
    snapshot = board("orin-nano-jp6")
    snapshot["/sys/class/hwmon/hwmon3/oc2_throt_en"] = b"0\n"
    streams = found(snapshot).streams
    alarms = [s.site for s in streams if s.name.endswith("_throttled") and s.quantity == "count" and s.cumulative]
    assert alarms == ["over-current alarm oc1", "over-current alarm oc3"]
    cooling = {s.site for s in streams if s.name.startswith("cooling_")}
    assert {"cpu-throttle-alert", "gpu-throttle-alert"} < cooling
    assert not {"hot-surface-alert", "pwm-fan"} & cooling
    assert {"cpu-balanced", "tegra-heavy"} < {stream.site for stream in found(board("nano-jp4")).streams}


def test_cpus_that_are_off_are_counted_when_a_power_mode_switches_them_on() -> None:
    snapshot = {**board("orin-nano-jp6"), "/sys/devices/system/cpu/online": b"0-3\n"}
    snapshot["/sys/devices/system/cpu/present"] = b"0-5\n"
    (stat,) = (file for file in found(snapshot).files if file.path == "/proc/stat")
    assert [stream.site for stream in stat.streams if stream.name.endswith("_busy_s")] == [f"cpu{n}" for n in range(6)]
    values = dict(zip([s.name for s in stat.streams], stat.parse(b"cpu5 100 0 0 900\n"), strict=True))
    assert values["cpu5_busy_s"] > 0
    assert math.isnan(values["cpu4_busy_s"])


def test_rails_that_no_file_tells_come_from_jtop_and_from_nobody_else() -> None:
    snapshot = board("orin-nano-jp6", "1-0040")
    snapshot["$ tegrastats"] = b"VDD_IN 4541mW/4541mW VDD_SOC 1446mW/1473mW\n"
    seen = found(snapshot, power_hz=5.0)
    assert power_sites(seen) == {"jtop": {"rail VDD_IN", "rail VDD_CPU_GPU_CV", "rail VDD_SOC"}}
    (source,) = seen.lines
    assert source.argv == ("/usr/bin/python3", "{streams}/jtop_stream.py", "--interval", "0.2")
    values = dict(zip([s.name for s in source.streams], source.parse(snapshot["$ jtop"]), strict=True))
    assert values["rail_vdd_in_power_w"] == 4.658
    assert seen.missing == ("no file tells of the power rails: they come from jtop, 5 times a second",)


def test_jtop_is_asked_once_a_second_where_files_tell_the_power() -> None:
    (source,) = found(board("orin-nano-jp6"), power_hz=100.0).lines
    assert source.argv[-2:] == ("--interval", "1")
    assert {stream.rate_hz for stream in source.streams} == {1.0}


def test_without_files_and_jtop_tegrastats_is_the_last_resort() -> None:
    snapshot = board("agx-orin-jp5", "1-0040", "1-0041")
    snapshot["$ tegrastats"] = (FOLDER.parent / "tegrastats" / "agx-orin-jp5.txt").read_bytes()
    seen = found(snapshot)
    assert power_sites(seen) == {
        "tegrastats": {
            "rail VDD_GPU_SOC",
            "rail VDD_CPU_CV",
            "rail VIN_SYS_5V0",
            "VDDQ_VDD2_1V8AO of rail VIN_SYS_5V0",
        }
    }
    assert {stream.name for line in seen.lines for stream in line.streams if stream.quantity != "power"} == {
        "emc_busy_ratio",
        "emc_freq_hz",
    }
    assert seen.missing == (
        "no file tells of the power rails: they come from tegrastats, 10 times a second",
        "a change of power mode during a run is not seen: this user may not ask jtop: "
        "run `sudo usermod -aG jtop $USER` and log in again",
    )


def test_a_board_without_a_monitor_says_so_once() -> None:
    seen = found(board("nano-jp4", "iio:device0"))
    assert power_sites(seen) == {}
    assert seen.missing[0] == jetson.NO_POWER
    assert not any("RAPL" in sentence for sentence in seen.missing)


def test_what_jtop_does_not_tell_is_said_and_not_blamed_on_the_user() -> None:
    snapshot = board("orin-nano-jp6")
    sample = json.loads(snapshot["$ jtop"])
    del sample["emc"]
    snapshot["$ jtop"] = b"Welcome to orin!\n" + json.dumps(sample).encode() + b"\n"
    assert found(snapshot).missing == (
        "the load of the memory (EMC) is not measured: neither a file nor jtop tells it here",
    )
    assert found(board("orin-nano-jp6", "$ jtop")).missing == (
        f"the load of the memory (EMC) is not measured: {jetson.NO_ANSWER}",
    )


def test_what_only_jtop_tells_is_asked_of_it() -> None:
    snapshot = board("orin-nano-jp6", "/sys/class/devfreq", "gpu.0", "hwmon0", "hwmon2", "thermal_zone")
    (jtop,) = (line for line in found(snapshot).lines if line.name == "jtop")
    assert "gpu_memory_bytes" not in {stream.name for stream in jtop.streams}
    snapshot["/proc/meminfo"] = snapshot["/proc/meminfo"].replace(b"NvMapMemUsed", b"Other")
    (jtop,) = (line for line in found(snapshot).lines if line.name == "jtop")
    values = dict(zip([s.name for s in jtop.streams], jtop.parse(snapshot["$ jtop"]), strict=True))
    assert values["gpu_memory_bytes"] == 812404 * 1024
    assert values["gpu_busy_ratio"] == pytest.approx(0.423)
    assert values["gpu_freq_hz"] == 306e6
    assert values["fan_duty_ratio"] == pytest.approx(0.2588)
    assert values["fan_rpm"] == 1530
    assert values["tj_c"] == 50.218


def test_a_power_mode_has_a_name_beside_the_number_that_stands_for_it() -> None:
    raw = board("orin-nano-jp6")["$ jtop"]
    assert jetson_jtop.mode_name(raw) == json.loads(raw)["nvpmodel"]
    assert [jetson_jtop.mode_name(odd) for odd in (b"", b"[]", b'{"nvpmodel": 3}')] == [None] * 3


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[1]", b'{"rails": 3}', b'{"emc": {"load_percent": "x"}}', b"9" * 5000, b"\xff"]
)
def test_an_odd_line_of_jtop_measures_nothing(raw) -> None:
    (jtop,) = (line for line in found(board("orin-nano-jp6")).lines if line.name == "jtop")
    values = [n for s, n in zip(jtop.streams, jtop.parse(raw), strict=True) if s.name != "nvpmodel"]
    assert all(map(math.isnan, values))


def test_root_reads_the_clock_of_the_memory_from_its_file() -> None:
    snapshot = board("orin-nano-jp6")
    snapshot["/sys/kernel/debug/bpmp/debug/clk/emc/rate"] = b"2133000000\n"
    clocks = [stream.collector for stream in found(snapshot).streams if stream.name == "emc_freq_hz"]
    assert clocks == ["slow"]


def test_a_machine_that_is_no_jetson_is_not_asked_for_jtop() -> None:
    if Path("/etc/nv_tegra_release").exists():
        pytest.skip("this machine is a Jetson")
    for argv in jetson.COMMANDS.values():
        done = subprocess.run(argv, capture_output=True, timeout=10, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_the_python_that_has_jtop_is_found_through_its_command(tmp_path) -> None:
    """Where the system's Python has none, the command's first line names the one that has."""
    package = tmp_path / "env" / "jtop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "3.1.4"\n')
    python = tmp_path / "env" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={package.parent} exec {shutil.which("python3")} "$@"\n')
    command = tmp_path / "bin" / "jtop"
    command.parent.mkdir()
    command.write_text(f"#!{python}\n")
    for program in (python, command):
        program.chmod(0o755)
    shell, option, script, *rest = jetson_jtop.COMMANDS["jtop"]
    guard, _, probe = script.strip().partition("\n")
    assert "tegra" in guard
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [shell, option, probe, *rest], capture_output=True, timeout=30, env={**os.environ, "PATH": path}, check=True
    )
    asked = jetson_jtop.probe({"$ jtop": done.stdout})
    assert asked is not None
    assert asked.refusal is not None
    assert asked.refusal.startswith("this jtop is older than version 4")


def test_tegrastats_is_asked_for_one_line_though_it_never_ends(tmp_path) -> None:
    if list(Path("/sys/bus/i2c/devices").glob("*/hwmon/hwmon*/curr1_input")):
        pytest.skip("this machine has a power monitor")
    program = tmp_path / "tegrastats"
    program.write_text("#!/bin/sh\nwhile :; do echo VDD_IN 4541mW/4541mW; sleep 0.05; done\n")
    program.chmod(0o755)
    shell, option, script = jetson.COMMANDS["tegrastats"]
    probe = script.strip().partition("\n")[2]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [shell, option, probe], capture_output=True, timeout=10, env={**os.environ, "PATH": path}, check=True
    )
    assert done.stdout == b"VDD_IN 4541mW/4541mW\n"


def test_the_stream_runs_on_the_python_of_jetpack_4() -> None:
    ast.parse((agents_dir() / "streams" / "jtop_stream.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_jtop_is_kept_from_changing_what_a_file_tells() -> None:
    """Twice the same column would be two clocks for one thing."""
    seen = found(board("orin-nano-jp6"))
    names = [(replace(s, rate_hz=0, collector="", source="").name, s.site) for s in seen.streams]
    assert len(names) == len(set(names))
