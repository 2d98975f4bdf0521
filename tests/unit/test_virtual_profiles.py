"""The profiles of the virtual phone: each is whole, and a wrong one is refused with the place of the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from virtual.phone import BadProfile, profiles
from virtual.phone.physics import Physics
from virtual.phone.profiles import load
from virtual.phone.rootfs import cpuinfo, meminfo
from virtual.phone.state import SUSPENDED, State, boot_state

NAMES = profiles.names()


def test_there_is_a_phone_of_each_kind() -> None:
    assert {"pixel-8", "galaxy-s21", "mi-a1", "locked-down"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_whole(name: str) -> None:
    profile = load(name)
    zones = {zone.type for zone in profile.thermal.zones}
    assert profile.thermal.skin in zones
    assert {line.zone for line in profile.thermal.hal if line.zone} <= zones
    assert len(profile.thermal.thresholds_c) in (0, 6)
    assert cpuinfo(profile).count("processor\t:") == len(profile.cpu_clusters)
    assert meminfo(profile).startswith("MemTotal:")
    assert profile.sdk >= 28


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("surprise: 1", "unknown 'surprise'"),
        ("title: 1\nprops: []", r"props: \[\] is not"),
        ("cpu: {qemu: max, features: fp, clusters: [{cpus: many}]}", r"cpu: clusters\[0\]: cpus: 'many' is not int"),
        ("title: [", "while parsing"),
        ("title: alone", "missing 6 required"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, wrong: str, said: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(wrong)
    with pytest.raises(BadProfile, match=f"wrong.yaml.*{said}"):
        load(str(path))


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(BadProfile, match="there are: galaxy-s21, locked-down"):
        load("nokia-3310")


def _physics(name: str) -> tuple[State, Physics]:
    profile = load(name)
    state = boot_state(profile, "S")
    return state, Physics(profile, state, now_s=0.0)


@pytest.mark.parametrize(("name", "discharging_is"), [("pixel-8", -1e6), ("galaxy-s21", -1e3), ("mi-a1", 1e6)])
def test_current_has_the_sign_and_unit_of_its_vendor(name: str, discharging_is: float) -> None:
    state, physics = _physics(name)
    charging = int(physics.files()["class/power_supply/battery/current_now"])
    state.props[SUSPENDED] = "true"
    discharging = int(physics.files()["class/power_supply/battery/current_now"])
    assert discharging / discharging_is > 0.05
    assert charging * discharging < 0
    assert physics.files()["class/power_supply/battery/status"] == "Discharging"


def test_charge_follows_the_current() -> None:
    state, physics = _physics("pixel-8")
    state.plugged = False
    before_uah = physics.charge_uah
    current_a = physics.current_a
    physics.tick(3600.0)
    assert before_uah - physics.charge_uah == pytest.approx(-current_a * 1e6, rel=0.01)


def test_heat_ramps_and_takes_the_frequencies_with_it() -> None:
    _, physics = _physics("pixel-8")
    physics.ramp(51.5, seconds=10.0)
    seen = []
    for now_s in range(1, 13):
        physics.tick(float(now_s))
        seen.append((physics.skin_c, physics.cap, physics.thermal_status))
    assert seen[4] == (pytest.approx(41.5), pytest.approx(0.864, abs=0.001), 1)
    assert seen[-1] == (51.5, pytest.approx(0.4), 4)
    physics.ramp(None, seconds=0.0)
    assert (physics.cap, physics.thermal_status) == (1.0, 0)
