"""What follows from energy, on a phone whose current, voltage and battery are known: figure by figure against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from melt_rig import Melt
from native_runners import BUILDS, build
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, playing

pytestmark = BUILDS

CURRENT_A, VOLTS = 0.9, 4.0
POWER_W = CURRENT_A * VOLTS
FULL_COULOMB = 4.0 * 3600
"""The battery of the virtual Galaxy S21."""

PLAN = """\
name: derived
devices: ["adb:{address}"]
models: [{{model: tiny-pydoc, quants: [q8_0]}}]
workloads: [pp32+tg16 for 14s]
settings: {{threads: 1}}
repeat: {{warmup: 0, repetitions: 1}}
"""


@pytest.fixture
def phone(melt: Melt) -> Iterator[VirtualPhone]:
    build("android-arm64")
    with playing("galaxy-s21") as phone, adb_server("system") as server:
        server.connect(phone.address)
        phone.fault.plug(False)
        phone.fault.battery(current_a=-CURRENT_A, voltage_uv=round(VOLTS * 1e6))
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        yield phone


def told(melt: Melt, *flags: str) -> dict[str, dict[str, Any]]:
    document = json.loads(melt.here("show", "last", "-o", "json", *flags).stdout)
    return {metric["name"]: metric for metric in document["metrics"] if metric["repetition"] is None}


def is_right(metric: dict[str, Any], truth: float) -> bool:
    assert metric["value"] is not None, metric["note"]
    return abs(metric["value"] - truth) <= metric["uncertainty"] < 0.25 * truth


def test_a_phone_tells_what_a_response_takes_and_how_many_a_charge_gives(
    melt: Melt, phone: VirtualPhone, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(address=phone.address))
    melt("run", str(path), "--grid", "380", timeout_s=300)
    found = told(melt)
    assert is_right(found["power_mean_w"], POWER_W)
    # Requests follow each other: a response lasts as long as one, whichever it is.
    seconds = found["energy_response_j"]["value"] / POWER_W
    assert seconds == pytest.approx(found["e2e_s"]["value"], rel=0.2)
    response_j = POWER_W * seconds
    assert is_right(found["charge_response_coulomb"], CURRENT_A * seconds)
    assert is_right(found["responses_per_battery"], FULL_COULOMB * VOLTS / response_j)
    assert "measured capacity at 4 V, its mean in the run" in found["responses_per_battery"]["note"]
    assert is_right(found["energy_delay_js"], response_j * found["e2e_s"]["value"])
    assert is_right(found["carbon_response_g"], response_j / 3.6e6 * 380)
    assert found["power_peak_w"]["value"] is None
    assert "too few for a peak" in found["power_peak_w"]["note"]

    text = melt.here("show", "last").stdout
    for shown in (" mWh ± ", " mAh ± ", "g CO2e ± ", "responses per battery", "380 g/kWh"):
        assert shown in text
    again = told(melt, "--grid", "95")["carbon_response_g"]
    assert again["value"] == pytest.approx(found["carbon_response_g"]["value"] / 4)
    compared = melt.here("compare").stdout
    assert "responses per battery" in compared
    assert "mAh" in compared
    assert "needs codecarbon" in melt.here("show", "--help").stdout
    battery = json.loads(melt.here("show", "last", "-o", "json").stdout)["start"]["device"]["battery"]
    assert (battery["basis"], battery["charge_coulomb"]) == ("measured", pytest.approx(FULL_COULOMB))
