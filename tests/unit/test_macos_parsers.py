"""What melt reads out of what the programs of a Mac print: tests/data/macos."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.records import Sampling
from melt.targets.macos import available_bytes, memory_bytes, parse_facts
from melt.telemetry.platforms import macos_macmon, macos_powermetrics, macos_state
from melt.telemetry.platforms.json_values import at, first, json_object, number
from melt.telemetry.platforms.macos_lines import period_ms

FOLDER = Path(__file__).parents[1] / "data" / "macos"


def data(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def macmon(line: bytes, version: str = "macmon 0.7.2", look: bytes | None = None) -> dict[str, float]:
    """Read a line as in a run that began with a look; values by column, those that are not there left out."""
    said = f"/opt/homebrew/bin/macmon\n{version}\n".encode() + (line if look is None else look)
    (source,), missing = macos_macmon.readings({"$ macmon": said}, 10)
    assert missing == []
    return {s.name: v for s, v in zip(source.streams, source.parse(line), strict=True) if not math.isnan(v)}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "0.7",
            {"smc_w": 5.876533, "cpu_c": 43.73614, "pcpu_freq_hz": 1.974e9, "pcpu_load_ratio": 0.015181795},
        ),
        (
            "0.8",
            {"smc_w": 5.876533, "cpu_c": 43.73614, "pcpu_freq_hz": 1.8e9, "pcpu_load_ratio": 0.015181795},
        ),
        ("0.8.0", {"smc_w": 7.6835761070251465, "gpu_freq_hz": 338e6, "gpu_c": 47.14311599731445}),
    ],
)
def test_every_version_of_macmon_is_read(file: str, expected: dict[str, float]) -> None:
    found = macmon(data(f"macmon/{file}.json"))
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert ("ecpu_freq_hz" in found) == (file != "0.8.0"), "what a line does not have is no column"


def test_what_macmon_could_not_read_is_not_zero() -> None:
    look = data("macmon/0.7.json")
    found = macmon(data("macmon/smc-refused.json"), look=look)
    assert not {"smc_w", "cpu_c", "gpu_c"} & found.keys()
    assert found["macmon_ane_w"] == 0.0, "a Neural Engine at rest consumes nothing: that is measured"


def test_a_burst_of_the_chips_counters_is_not_taken_for_the_whole_mac() -> None:
    assert "smc_w" not in macmon(data("macmon/burst.json"), look=data("macmon/0.7.json"))
    assert "smc_w" in macmon(data("macmon/0.7.json"), look=data("macmon/burst.json")), "the look met one, the run not"


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        (b"", 0),
        (b"zsh: command not found: macmon\n", 0),
        (b"/usr/local/bin/macmon\n", 1),
        (b"/usr/local/bin/macmon\nmacmon 0.7.2\n", 1),
        (b"/usr/local/bin/macmon\nmacmon 0.7.2\nError: no such channel\n", 1),
        (b"/usr/local/bin/macmon\nusage: macmon [-h]\n" + b'{"sys_power": 3.0}', 1),
    ],
)
def test_another_macmon_is_named_and_not_used(said: bytes, missing: int) -> None:
    lines, sentences = macos_macmon.readings({"$ macmon": said}, 10)
    assert (lines, len(sentences)) == ([], missing)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (data("thermal/0.txt"), 0.0),
        (data("thermal/2.txt"), 2.0),
        (data("thermal/failed.txt"), math.nan),
        (b"com.apple.system.thermalpressurelevel -1\n", math.nan),
        (b"com.apple.system.other 3\n", math.nan),
        (b"", math.nan),
    ],
)
def test_thermal_pressure(raw: bytes, expected: float) -> None:
    assert macos_state.level(raw) == pytest.approx((expected,), nan_ok=True)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("discharging", (0.0, 1.0, 0.64, 0.0)),
        ("charging", (1.0, 0.0, 0.72, 1.0)),
        ("held", (0.0, 0.0, 0.80, 1.0)),
        ("intel", (1.0, 0.0, 0.80, 1.0)),
    ],
)
def test_a_battery_says_what_feeds_the_mac(file: str, expected: tuple[float, ...]) -> None:
    raw = data(f"battery/{file}.txt")
    (source,) = macos_state.battery({"$ ioreg battery": raw})
    assert [stream.name for stream in source.streams] == [
        "battery_charging",
        "battery_discharging",
        "battery_level_ratio",
        "ac_online",
    ]
    assert source.parse(raw) == pytest.approx(expected)
    assert not {stream.quantity for stream in source.streams} & {"current", "voltage", "power"}, "renewed once a minute"


def test_what_stands_inside_a_dictionary_of_the_registry_is_not_the_batterys_own() -> None:
    assert macos_state.properties(data("battery/held.txt"))["MaxCapacity"] == 100


def test_a_desktop_has_no_battery() -> None:
    assert macos_state.battery({"$ ioreg battery": data("battery/none.txt")}) == []
    assert macos_state.battery({"$ ioreg battery": b'"BatteryInstalled" = No\n"ExternalConnected" = Yes\n'}) == []


def test_memory_is_counted_in_pages_of_the_size_it_says() -> None:
    page = 16384
    text = data("vm_stat/16-gb.txt").decode()
    assert available_bytes(text) == (129780 + 7622 + 273368) * page
    assert macos_state.memory_said(text.encode()) == (available_bytes(text), 184956 * page, 0.0)
    assert macos_state.memory_said(data("vm_stat/tagged.txt"))[2] == 2908
    assert memory_bytes(text.replace("16384", "4096"))["Pages free"] == 129780 * 4096
    assert memory_bytes(text.replace("page size of", "size of")) == {}
    assert available_bytes(text.replace("Pages inactive", "Pages idle")) is None


@pytest.mark.parametrize(
    ("file", "expected"),
    [("lowpowermode", "automatic"), ("low-power", "low power"), ("high-power", "high power"), ("desktop", None)],
)
def test_power_modes(file: str, expected: str | None) -> None:
    facts = parse_facts({"$ pmset": data(f"pmset/{file}.txt")}, device_id_hint="x", kind="ssh")
    assert facts.power_mode == expected


def test_a_high_power_mode_that_has_a_line_of_its_own() -> None:
    said = b"System-wide power settings:\nCurrently in use:\n lowpowermode         0\n highpowermode        1\n"
    assert parse_facts({"$ pmset": said}, device_id_hint="x", kind="ssh").power_mode == "high power"


def test_powermetrics_counts_cpus_in_hertz_and_the_gpu_in_megahertz() -> None:
    (source,) = macos_powermetrics.readings({"$ powermetrics": data("powermetrics/m4-max.plist")}, 10)
    line = {
        "elapsed_ns": 108_000_000,
        "thermal_pressure": "Heavy",
        "processor": {"cpu_power": 2978.45, "gpu_power": 269.614, "ane_power": 0.0},
        "gpu": {"freq_hz": 338.0, "idle_ratio": 0.75},
        "cpus": [{"cpu": 5, "freq_hz": 3.7e9}, {"cpu": 0, "freq_hz": 1.1e9}, "torn", {"cpu": None}],
    }
    raw = json.dumps(line).encode()
    found = {s.name: v for s, v in zip(source.streams, source.parse(raw), strict=True) if not math.isnan(v)}
    assert found == pytest.approx(
        {
            "powermetrics_window_s": 0.108,
            "powermetrics_cpu_w": 2.97845,
            "powermetrics_gpu_w": 0.269614,
            "powermetrics_ane_w": 0.0,
            "thermal_pressure": 2.0,
            "powermetrics_gpu_freq_hz": 338e6,
            "powermetrics_gpu_busy_ratio": 0.25,
            "cpu0_freq_hz": 1.1e9,
            "cpu5_freq_hz": 3.7e9,
        }
    )


def test_a_refusal_of_sudo_is_no_sample() -> None:
    assert macos_powermetrics.readings({"$ powermetrics": b"sudo: a password is required\n"}, 10) == []
    assert macos_powermetrics.readings({}, 10) == []


def test_the_runners_footprint_comes_from_the_agent() -> None:
    (source,) = macos_state.process(Sampling())
    said = {"user_ns": 1_500_000_000, "system_ns": 2000, "resident_bytes": 7, "footprint_bytes": 8, "pageins": 3}
    raw = "".join(f"{name}: {value}\n" for name, value in {**said, "footprint_peak_bytes": 9}.items()).encode()
    assert source.parse(raw) == (1.5, 2e-6, 3.0, 7.0, 8.0, 9.0)
    assert [stream.name for stream in source.streams][3:] == ["rss_bytes", "footprint_bytes", "footprint_peak_bytes"]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sys_power", "temp", "cpus"]), inner),
    max_leaves=8,
)


@given(JSON)
def test_no_value_of_a_line_is_too_odd(value: object) -> None:
    raw = json.dumps(value).encode()
    found = json_object(raw)
    for reader in (at("sys_power"), at("temp", 0), at("cpus", 1, "freq_hz"), first(at("a"), at("temp"))):
        result = reader(found)
        assert math.isnan(result) or math.isfinite(result)


@pytest.mark.parametrize("value", [10**400, -(10**400), True, "1", None, math.inf, math.nan, [], {}])
def test_what_is_no_number(value: object) -> None:
    assert math.isnan(number(value))


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[1]", b"1", b"[" * 100_000, None])
def test_what_is_no_object(raw: bytes | None) -> None:
    assert json_object(raw) == {}


def test_programs_are_asked_at_most_ten_times_a_second() -> None:
    assert [period_ms(rate) for rate in (1000, 100, 10, 2, 0.1)] == [100, 100, 100, 500, 10_000]
