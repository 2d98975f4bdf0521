"""Profiles: the ones that ship are sound and fit their devices; a wrong one says where and what."""

from __future__ import annotations

from pathlib import Path

import pytest

from melt.errors import UsageError
from melt.targets.linux import parse_facts
from melt.targets.probe import load_snapshot
from melt.targets.profiles import load_profiles, matching_profile

SNAPSHOTS = Path(__file__).parents[1] / "data" / "snapshots"
GOOD = "title: Board\nmatch: {soc: bcm}\n"


@pytest.mark.parametrize(
    ("snapshot", "profile"), [("raspberry-pi-5", "raspberry-pi-5"), ("laptop-intel", None), ("vm-firecracker", None)]
)
def test_the_profiles_that_ship(snapshot: str, profile: str | None) -> None:
    facts = parse_facts(load_snapshot((SNAPSHOTS / f"{snapshot}.json").read_bytes()), device_id_hint="x", kind="local")
    found = matching_profile(facts, load_profiles())
    assert (found.name if found else None) == profile
    if found:
        assert all(fact.source.startswith("https://") for fact in found.facts.values())


def test_the_closer_profile_wins(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("title: Any Pi\nmatch: {soc: BCM27}\n")
    (tmp_path / "b.yaml").write_text("title: This Pi\nmatch: {soc: bcm2712, name: 'Pi 5'}\n")
    snapshot = load_snapshot((SNAPSHOTS / "raspberry-pi-5.json").read_bytes())
    facts = parse_facts(snapshot, device_id_hint="x", kind="local")
    found = matching_profile(facts, load_profiles(tmp_path))
    assert found is not None
    assert found.title == "This Pi"


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
        (f"{GOOD}facts: {{throttles_from_c: 80}}", "facts.throttles_from_c: expected keys with values"),
        (f"{GOOD}facts: {{throttles_from_c: {{value: hot, source: x}}}}", "expected a number .* found 'hot'"),
        (f"{GOOD}facts: {{throttles_from_c: {{value: 80}}}}", "source is missing"),
        (f"{GOOD}notes: text", "notes: expected a list"),
        (f"{GOOD}notes: [{{text: x, sauce: y}}]", r"notes\[0\]: unknown key 'sauce': did you mean source"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        load_profiles(tmp_path)
    assert "wrong.yaml" in str(caught.value)
