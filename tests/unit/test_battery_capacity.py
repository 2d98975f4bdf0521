"""What a battery holds when it is full, by the kernel's files and by a Mac's registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from melt.errors import UsageError
from melt.records import Battery
from melt.targets import macos
from melt.targets.battery import of_laptop, of_phone
from melt.targets.profiles import load_profiles, matching_profile, with_battery

REGISTRY = Path(__file__).parents[1] / "data" / "macos" / "battery"
SUPPLY = "/sys/class/power_supply"


def files(name: str, **said: object) -> dict[str, bytes]:
    return {f"{SUPPLY}/{name}/{key}": f"{value}\n".encode() for key, value in said.items()}


def test_a_phone_that_says_what_its_battery_holds_now_and_held_when_it_was_new() -> None:
    found = of_phone(files("battery", charge_full=3_600_000, charge_full_design=4_000_000, voltage_now=3_912_000))
    assert found == Battery(
        basis="measured", source=f"{SUPPLY}/battery/charge_full", charge_coulomb=3.6 * 3600, found_v=3.912
    )


@pytest.mark.parametrize("misread", [0, 100, 12_000_000, 400_000, -1])
def test_a_full_charge_that_no_such_battery_has_gives_way_to_its_design(misread: int) -> None:
    found = of_phone(files("battery", charge_full=misread, charge_full_design=4_000_000))
    assert found is not None
    assert (found.basis, found.charge_coulomb) == ("design", pytest.approx(4.0 * 3600))


def test_milliampere_hours_are_told_by_their_size_and_a_folder_may_have_a_capital() -> None:
    found = of_phone(files("Battery", charge_full_design=4000, voltage_now=3912))
    assert found is not None
    assert (found.charge_coulomb, found.found_v) == (pytest.approx(4.0 * 3600), 3.912)


def test_a_phone_that_keeps_it_to_itself() -> None:
    assert of_phone(files("battery", voltage_now=3_912_000)) is None
    assert of_phone(files("bms", charge_full=3_600_000)) is None


def test_a_laptop_tells_energy_or_charge_with_the_voltage_it_is_sold_by() -> None:
    energy = of_laptop(files("BAT0", type="Battery", energy_full=50_000_000, energy_full_design=57_000_000))
    assert energy == Battery(basis="measured", source=f"{SUPPLY}/BAT0/energy_full", energy_j=180_000.0)
    charge = of_laptop(files("BAT1", type="Battery", charge_full=5_000_000, voltage_min_design=11_400_000))
    assert charge is not None
    assert (charge.charge_coulomb, charge.nominal_v) == (pytest.approx(18_000), 11.4)


def test_a_mouse_has_a_battery_of_its_own_and_of_two_nobody_knows_which_comes_first() -> None:
    own = files("BAT0", type="Battery", energy_full=50_000_000)
    mouse = files("hidpp_battery_0", type="Battery", scope="Device", charge_full=1_000_000)
    assert of_laptop({**own, **mouse, **files("AC", type="Mains")}) is not None
    assert of_laptop({**own, **files("BAT1", type="Battery", energy_full=20_000_000)}) is None
    assert of_laptop({}) is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [("discharging", ("measured", 4749 * 3.6, 12.0)), ("none", None)],
)
def test_the_registry_of_a_mac_has_milliampere_hours(entry: str, expected: tuple[str, float, float] | None) -> None:
    found = macos.parse_facts(
        {"$ ioreg capacity": (REGISTRY / f"{entry}.txt").read_bytes()}, device_id_hint="x", kind="ssh"
    ).battery
    assert (found and (found.basis, found.charge_coulomb, found.found_v)) == expected


PROFILE = """\
title: The lab's phone
match: {name: ^Phone$}
battery: {capacity_mah: 4500, nominal_v: 3.87, source: 'https://example.org/phone'}
"""


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (None, Battery(basis="design", source="https://example.org/phone", charge_coulomb=16_200, nominal_v=3.87)),
        (
            Battery(basis="measured", source="charge_full", charge_coulomb=15_000, found_v=4.1),
            Battery(basis="measured", source="charge_full", charge_coulomb=15_000, found_v=4.1, nominal_v=3.87),
        ),
        (
            Battery(basis="measured", source="f", charge_coulomb=15_000, nominal_v=3.8),
            Battery(basis="measured", source="f", charge_coulomb=15_000, nominal_v=3.8),
        ),
    ],
)
def test_a_lab_says_of_its_phones_what_they_keep_to_themselves(
    known: Battery | None, expected: Battery, tmp_path: Path
) -> None:
    (tmp_path / "phone.yaml").write_text(PROFILE)
    (profile,) = load_profiles(tmp_path)
    phone = replace(macos.parse_facts({}, device_id_hint="x", kind="adb"), name="Phone", battery=known)
    assert with_battery(phone, matching_profile(phone, [profile])).battery == expected
    assert with_battery(phone, None) == phone


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("4500", "4500000", "expected a number from 200 to 50000, found 4500000"),
        ("4500", "4.5", "expected a number from 200 to 50000, found 4.5"),
        ("3.87", "3870", "expected a number from 2 to 60, found 3870"),
        ("3.87", "0", "expected a number above 0, found 0"),
    ],
)
def test_a_lab_that_slips_in_a_unit_is_told_where(right: str, wrong: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "phone.yaml").write_text(PROFILE.replace(right, wrong))
    with pytest.raises(UsageError, match=rf"phone\.yaml.*{said}"):
        load_profiles(tmp_path)


def test_a_profile_that_says_nothing_of_the_battery_leaves_it_unknown(tmp_path: Path) -> None:
    (tmp_path / "phone.yaml").write_text(PROFILE.replace("capacity_mah: 4500, ", ""))
    (profile,) = load_profiles(tmp_path)
    phone = macos.parse_facts({}, device_id_hint="x", kind="adb")
    assert with_battery(phone, profile).battery is None
