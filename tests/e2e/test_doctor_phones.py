"""`melt doctor` on phones of four kinds, through the real adb: what it says must be so, and fit a screen."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from melt_rig import Melt
from virtual.phone.clients import AdbServer
from virtual.phone.testing import CLIENTS, adb_server, playing

pytestmark = pytest.mark.slow  # each phone is a user space of its own


@pytest.fixture
def adb(melt: Melt) -> Iterator[AdbServer]:
    with adb_server(CLIENTS[0]) as server:
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        yield server


@pytest.mark.parametrize(
    ("profile", "variant", "said"),
    [
        ("pixel-8", "i8mm", ["rail_s4m_vdd_cpucl0", "hal_big", "the battery is charging"]),
        ("galaxy-s21", "v8.2", ["hal_ap, hal_bat, hal_skin", "battery_current_a"]),
        ("mi-a1", "v8.0", ["tsens_tz_sensor", "gpu_busy_ratio"]),
        ("locked-down", "v8.2", ["thermal zones are denied", "attach a power meter", "cpufreq is denied"]),
    ],
)
def test_a_phone_is_told_in_one_screen(melt: Melt, adb: AdbServer, profile: str, variant: str, said: list[str]) -> None:
    with playing(profile) as phone:
        adb.connect(phone.address)
        text = melt("doctor", phone.address).stdout
    assert f"variant {variant}" in text
    for words in said:
        assert words in text
    table = text.partition("What can be measured")[2].partition("\n- ")[0].splitlines()
    assert len(table) < 40
    assert all(len(line) <= 110 for line in table)


def test_a_phone_that_drifts_is_told_what_to_do(melt: Melt, adb: AdbServer) -> None:
    with playing("pixel-8") as phone:
        adb.connect(phone.address)
        phone.fault.plug(plugged=False)
        phone.fault.battery(level=12, status="Discharging", current_a=-0.5)
        phone.fault.screen(on=False)
        found = json.loads(melt("doctor", "--device", phone.address, "-o", "json").stdout)
    channels = {channel["name"]: channel["value"] for channel in found["channels"]}
    assert channels["battery_current_a"] == pytest.approx(0.5)
    assert channels["battery_discharging"] == 1
    assert channels["screen_on"] == 0
    assert channels["rail_s2s_vdd_g3d_j"] > 0
    advice = " ".join(found["advice"])
    assert "the battery is at 12 %" in advice
    assert "the screen is off" in advice
    assert "not certain" not in advice
