"""What melt makes of the answers of phones' services, each a file in tests/data/dumpsys; odd ones do no harm."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.targets import dumpsys

FOLDER = Path(__file__).parents[1] / "data" / "dumpsys"
ANSWERS = sorted(FOLDER.glob("*/*.txt"))


def battery(text: str) -> list[str]:
    fields = dumpsys.battery_fields(text)
    numbers = {
        "state": dumpsys.battery_state(fields),
        "level": dumpsys.level(fields),
        "charge_c": dumpsys.charge_c(fields),
        "voltage_v": dumpsys.voltage_v(fields),
        "temperature": fields.get("temperature"),
        "current now": fields.get("current now"),
    }
    return [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in numbers.items()]


def thermalservice(text: str) -> list[str]:
    found = [f"{t.name!r} type {t.type}: {t.value_c:g} °C, {t.status}" for t in dumpsys.hal_temperatures(text)]
    return [f"status {dumpsys.thermal_status(text)}", *found]


def powerstats(text: str) -> list[str]:
    return [f"{rail.name} of {rail.subsystem or '?'}: {rail.energy_j:.6g} J" for rail in dumpsys.rails(text)] or [
        "none"
    ]


def power(text: str) -> list[str]:
    return [f"screen on {dumpsys.screen_on(text):g}"]


def deviceidle(text: str) -> list[str]:
    return [f"screen on {dumpsys.screen_said(text):g}"]


SERVICES: dict[str, Callable[[str], list[str]]] = {
    "battery": battery,
    "thermalservice": thermalservice,
    "powerstats": powerstats,
    "power": power,
    "deviceidle": deviceidle,
}
PIECES = st.sampled_from(
    [
        "Current temperatures from HAL:\n",
        "\tTemperature{mValue=1e999, mType=0, mName=x, mStatus=0}\n",
        "\tTemperature{mValue=1.2.3, mType=0, mName=x, mStatus=0}\n",
        "\tTemperature{mValue=1, mType=99999999999, mName=}, mName=y, mStatus=9999999999}\n",
        "Thermal Status: 99999999999999999999\n",
        "  level: 50\n  scale: 0\n  status: 1e400\n",
        "  status: 9.9e18\n  Charge counter: -5\n  voltage: nan\n  temperature: inf\n",
        "PowerStats HAL 2.0 energy meter\n [a]:b  1.2.3 mWs\n []:  1 mWs\n x 5 mWs\n",
        "  mWakefulness=\n",
    ]
)


def render() -> str:
    """Everything that melt makes of the answers, a line each."""
    lines = []
    for path in ANSWERS:
        lines.append(f"{path.parent.name}/{path.stem}")
        with path.open(encoding="utf-8", newline="") as file:
            lines += [f"    {line}" for line in SERVICES[path.parent.name](file.read())]
    return "\n".join(lines) + "\n"


def test_the_answers_of_phones_read_as_expected() -> None:
    assert render() == (FOLDER / "expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("service", SERVICES)
@given(st.lists(PIECES | st.text()).map("".join))
def test_no_answer_is_too_odd(service: str, text: str) -> None:
    SERVICES[service](text)


@given(st.lists(PIECES | st.text()).map("".join))
def test_what_is_read_is_finite(text: str) -> None:
    assert all(math.isfinite(value) for value in dumpsys.battery_fields(text).values())
    assert all(math.isfinite(t.value_c) for t in dumpsys.hal_temperatures(text))
    assert all(math.isfinite(rail.energy_j) for rail in dumpsys.rails(text))


if __name__ == "__main__":
    sys.stdout.write(render())
