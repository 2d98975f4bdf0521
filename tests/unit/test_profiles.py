"""Profiles: the ones that ship are sound and fit their devices; a wrong one says where and what."""

from __future__ import annotations

from pathlib import Path

import pytest

from melt import _layout
from melt.errors import UsageError
from melt.records import DeviceFacts
from melt.targets.linux import parse_facts
from melt.targets.probe import load_snapshot
from melt.targets.profiles import Profile, UsbPower, load_profiles, matching_profile

SNAPSHOTS = Path(__file__).parents[1] / "data" / "snapshots"
GOOD = "title: Board\nmatch: {soc: bcm}\n"
SHIPPED = load_profiles(_layout.devices_dir())


def facts_of(snapshot: str) -> DeviceFacts:
    return parse_facts(load_snapshot((SNAPSHOTS / f"{snapshot}.json").read_bytes()), device_id_hint="x", kind="local")


def sample_of(profile: Profile) -> DeviceFacts:
    """What a device of this model says of itself, as far as the profile gives a sample of it."""
    blank = {"device_id": "x", "kind": "adb", "name": "", "os": "android", "os_build": None, "kernel": None}
    return DeviceFacts(**{**blank, "arch": "aarch64", **profile.sample})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("snapshot", "profile"),
    [
        ("raspberry-pi-5", "raspberry-pi-5"),
        ("jetson-orin-nano-jp6", "jetson-orin-nano"),
        ("jetson-agx-orin-jp5", "jetson-agx-orin"),
        ("jetson-nano-jp4", "jetson-nano"),
        ("jetson-xavier-nx-jp4", "jetson-xavier-nx"),
        ("jetson-thor-jp7", "jetson-agx-thor"),
        ("laptop-intel", None),
        ("vm-firecracker", None),
    ],
)
def test_captured_devices_find_their_profile(snapshot: str, profile: str | None) -> None:
    found = matching_profile(facts_of(snapshot), SHIPPED)
    assert (found.name if found else None) == profile


def test_enough_devices_are_known() -> None:
    phones = [profile for profile in SHIPPED if profile.sample.get("os") == "android"]
    assert len(SHIPPED) >= 10
    assert len(phones) >= 10


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_a_shipped_profile_fits_its_device_and_no_other(profile: Profile) -> None:
    assert profile.sample, "a shipped profile needs a sample of what its device says"
    assert [other.name for other in SHIPPED if other.fits(sample_of(profile))] == [profile.name]


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_a_shipped_profile_says_something_and_nothing_absurd(profile: Profile) -> None:
    assert profile.facts or profile.cpu or profile.gpu or profile.battery or profile.rails or profile.notes
    assert profile.usb_power is None, "which hub a device hangs on is known in its lab alone"
    clocks = [cluster.max_hz for cluster in (profile.cpu.clusters if profile.cpu else ()) if cluster.max_hz]
    assert all(1e9 < clock < 5e9 for clock in clocks)
    assert clocks == sorted(clocks), "clusters go from the smallest to the largest"
    if peak := profile.facts.get("memory_peak_bytes_per_s"):
        assert 1e9 < peak.value < 1e12
    if limit := profile.facts.get("throttles_from_c"):
        assert 30 < limit.value < 120


def test_the_closer_profile_wins(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("title: Any Pi\nmatch: {soc: BCM27}\n")
    (tmp_path / "b.yaml").write_text("title: This Pi\nmatch: {soc: bcm2712, name: 'Pi 5'}\n")
    found = matching_profile(facts_of("raspberry-pi-5"), load_profiles(tmp_path))
    assert found is not None
    assert found.title == "This Pi"


def test_a_lab_says_on_which_hub_its_own_device_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = facts_of("raspberry-pi-5")
    (tmp_path / "pi-on-the-shelf.yaml").write_text(
        "title: Pi on the shelf\n"
        "like: raspberry-pi-5\n"
        f"match: {{device_id: {device.device_id}}}\n"
        "usb_power: {tool: uhubctl, hub: 1-1.4, port: 2}\n"
    )
    monkeypatch.setenv("MELT_DEVICES", str(tmp_path))
    found = matching_profile(device, load_profiles())
    assert found is not None
    assert found.usb_power == UsbPower("uhubctl", "1-1.4", 2)
    assert found.facts["throttles_from_c"].value == 80, "what the lab leaves out comes from the model's profile"


def test_a_name_that_ships_is_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "google-pixel-8.yaml").write_text(GOOD)
    monkeypatch.setenv("MELT_DEVICES", str(tmp_path))
    with pytest.raises(UsageError, match="google-pixel-8' already: give the file another name"):
        load_profiles()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected keys with values"),
        ("title: [", "not YAML"),
        ("match: {soc: x}", "title is missing"),
        ("title: x\nmatch: {}", "fit every device"),
        ("title: x\nmatch: {sco: x}", r"did you mean soc\?"),
        ("title: x\nmatch: {soc: '('}", r"match.soc: not a regular expression"),
        ("title: 5\nmatch: {soc: x}", "title: expected a text, found 5"),
        (f"{GOOD}fcats: {{}}", r"unknown key 'fcats': did you mean facts\?"),
        (f"{GOOD}like: other", "like: no profile 'other'"),
        (f"{GOOD}sample: {{soc: rk3588}}", "sample: match.soc is not found in 'rk3588'"),
        (f"{GOOD}facts: {{throttles_from_c: 80}}", "facts.throttles_from_c: expected keys with values"),
        (f"{GOOD}facts: {{throttles_from_c: {{value: hot, source: x}}}}", "expected a number .* found 'hot'"),
        (f"{GOOD}facts: {{throttles_from_c: {{value: -1, source: x}}}}", "expected a number above 0, found -1"),
        (f"{GOOD}facts: {{throttles_from_c: {{value: 80}}}}", "source is missing"),
        (f"{GOOD}facts: {{throttles_from_c: {{value: 80, source: hearsay}}}}", "expected the address of a page"),
        (
            f"{GOOD}cpu: {{clusters: [{{core: A, count: 0}}], source: 'https://x.org'}}",
            r"clusters\[0\].count: .* from 1",
        ),
        (f"{GOOD}gpu: {{name: Mali}}", "gpu: source is missing"),
        (
            f"{GOOD}battery: {{current_unit: mA, source: 'https://x.org'}}",
            "current_unit: expected ua or ma, found 'mA'",
        ),
        (f"{GOOD}battery: {{source: 'https://x.org'}}", "battery: a source alone says nothing"),
        (f"{GOOD}rails: {{names: [GPU], source: 'https://x.org'}}", "rails.names: expected keys with values"),
        (f"{GOOD}usb_power: {{tool: hand, hub: 1-1, port: 1}}", "usb_power.tool: expected uhubctl or ykush"),
        (f"{GOOD}notes: text", "notes: expected a list"),
        (f"{GOOD}notes: [{{text: x, sauce: y}}]", r"notes\[0\]: unknown key 'sauce': did you mean source"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        load_profiles(tmp_path)
    assert "wrong.yaml" in str(caught.value)
