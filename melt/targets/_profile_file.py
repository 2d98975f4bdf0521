"""Reading device profiles: YAML in, checked `Profile`s out; each complaint names the file and the place in it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from melt.errors import UsageError
from melt.records import DeviceFacts
from melt.targets.battery import LEAST_COULOMB, LEAST_V, MOST_COULOMB, MOST_V
from melt.targets.profiles import (
    METER_COVERS,
    Battery,
    Cluster,
    Cpu,
    ExternalMeter,
    Fact,
    Gpu,
    Note,
    Profile,
    Rails,
    UsbPower,
)

FACTS = ("memory_peak_bytes_per_s", "throttles_from_c")
"""Numbers that a profile may state: the memory's peak by its data sheet, the temperature from which clocks are cut."""

_SAID = tuple(field.name for field in dataclasses.fields(DeviceFacts) if field.type in ("str", "str | None"))
_INHERITED = ("facts", "cpu", "gpu", "battery", "rails", "usb_power", "meter", "notes")
_BATTERY_KEYS = ("current_unit", "discharging_sign", "capacity_mah", "nominal_v")
_COULOMB_PER_MAH = 3.6
_SWITCHES = ("uhubctl", "ykush", "ykush3")
_KEYS = ("title", "like", "match", "sample", "addresses", *_INHERITED)


def read_profiles(folders: Iterable[Path]) -> list[Profile]:
    """Read *.yaml of each folder in the order of their names; a folder that is not there has none.

    `like: NAME` fills what a profile leaves out from another one read before it. Raises UsageError.
    """
    profiles: dict[str, Profile] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            if path.stem in profiles:
                raise UsageError(f"{path}: there is a profile {path.stem!r} already: give the file another name")
            profiles[path.stem] = _read(path, profiles)
    return list(profiles.values())


class _Node:
    """A value of a file and its place in it."""

    def __init__(self, path: Path, place: str, value: Any) -> None:
        self.path, self.place, self.value = path, place, value

    def wrong(self, problem: str) -> UsageError:
        return UsageError(f"{self.path}: {self.place}: {problem}" if self.place else f"{self.path}: {problem}")

    def child(self, key: str | int, value: Any) -> _Node:
        inside = f"[{key}]" if isinstance(key, int) else f".{key}" if self.place else key
        return _Node(self.path, f"{self.place}{inside}", value)

    def mapping(self, keys: Sequence[str] | None, needed: Sequence[str] = ()) -> dict[str, _Node]:
        """Return the nodes below; None for `keys` takes any key."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"expected keys with values, found {self.value!r}")
        for key in self.value:
            if keys is not None and key not in keys:
                near = difflib.get_close_matches(str(key), keys, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(keys)}"
                raise self.wrong(f"unknown key {key!r}: {hint}")
        for key in needed:
            if key not in self.value:
                raise self.wrong(f"{key} is missing")
        return {str(key): self.child(str(key), value) for key, value in self.value.items()}

    def items(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise self.wrong(f"expected a list, found {self.value!r}")
        return [self.child(i, value) for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.wrong(f"expected a text, found {self.value!r}")
        return self.value.strip()

    def source(self) -> str:
        text = self.text()
        if not re.match(r"https?://\S+$", text):
            raise self.wrong(f"expected the address of a page, found {text!r}")
        return text

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            # YAML 1.1 takes 17e9 for a text.
            raise self.wrong(f"expected a number such as 80 or 17.0e+9, found {self.value!r}")
        if not 0 < self.value < float("inf"):
            raise self.wrong(f"expected a number above 0, found {self.value!r}")
        return float(self.value)

    def between(self, low: float, high: float) -> float:
        value = self.number()
        if not low <= value <= high:
            raise self.wrong(f"expected a number from {low:g} to {high:g}, found {self.value!r}")
        return value

    def count(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 1:
            raise self.wrong(f"expected a whole number from 1, found {self.value!r}")
        return self.value

    def one_of(self, words: Sequence[str]) -> str:
        if self.value not in words:
            raise self.wrong(f"expected {' or '.join(words)}, found {self.value!r}")
        return str(self.value)

    def pattern(self) -> re.Pattern[str]:
        try:
            return re.compile(self.text(), re.IGNORECASE)
        except re.error as error:
            raise self.wrong(f"not a regular expression: {error}") from error


def _read(path: Path, known: dict[str, Profile]) -> Profile:
    top = _Node(path, "", None)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise top.wrong(f"cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise top.wrong(f"not YAML: {' '.join(str(error).split())}") from error
    nodes = _Node(path, "", document).mapping(_KEYS, ("title", "match"))
    match = nodes["match"].mapping(_SAID)
    if not match:
        raise nodes["match"].wrong("without a pattern it would fit every device")
    said = {name: reader(nodes[name]) for name, reader in _READERS.items() if name in nodes}
    profile = Profile(
        name=path.stem,
        title=nodes["title"].text(),
        match={key: node.pattern() for key, node in match.items()},
        **said,
    )
    for key, pattern in profile.match.items():
        if profile.sample and not pattern.search(profile.sample.get(key, "")):
            raise nodes["sample"].wrong(f"match.{key} is not found in {profile.sample.get(key)!r}")
    return profile if "like" not in nodes else _filled(profile, nodes["like"], known)


def _filled(profile: Profile, like: _Node, known: dict[str, Profile]) -> Profile:
    name = like.text()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
        raise like.wrong(f"no profile {name!r}: {hint}")
    other = known[name]
    missing = {key: getattr(other, key) for key in _INHERITED if not getattr(profile, key)}
    return dataclasses.replace(profile, **missing)


def _sample(node: _Node) -> dict[str, str]:
    return {key: value.text() for key, value in node.mapping(_SAID).items()}


def _facts(node: _Node) -> dict[str, Fact]:
    facts = {}
    for key, value in node.mapping(FACTS).items():
        fields = value.mapping(("value", "source"), ("value", "source"))
        facts[key] = Fact(fields["value"].number(), fields["source"].source())
    return facts


def _cpu(node: _Node) -> Cpu:
    fields = node.mapping(("clusters", "source"), ("clusters", "source"))
    return Cpu(tuple(_cluster(item) for item in fields["clusters"].items()), fields["source"].source())


def _cluster(node: _Node) -> Cluster:
    fields = node.mapping(("core", "count", "max_hz", "source"), ("core", "count"))
    max_hz = fields["max_hz"].number() if "max_hz" in fields else None
    source = fields["source"].source() if "source" in fields else None
    return Cluster(fields["core"].text(), fields["count"].count(), max_hz, source)


def _gpu(node: _Node) -> Gpu:
    fields = node.mapping(("name", "driver", "source"), ("name", "source"))
    driver = fields["driver"].text() if "driver" in fields else None
    return Gpu(fields["name"].text(), fields["source"].source(), driver)


def _battery(node: _Node) -> Battery:
    fields = node.mapping((*_BATTERY_KEYS, "source"), ("source",))
    if len(fields) == 1:
        raise node.wrong(f"a source alone says nothing: give one of {', '.join(_BATTERY_KEYS)}")
    unit = fields["current_unit"].one_of(("ua", "ma")) if "current_unit" in fields else None
    sign = fields["discharging_sign"].one_of(("negative", "positive")) if "discharging_sign" in fields else None
    held = volts = None
    if "capacity_mah" in fields:
        least, most = LEAST_COULOMB / _COULOMB_PER_MAH, MOST_COULOMB / _COULOMB_PER_MAH
        held = fields["capacity_mah"].between(least, most) * _COULOMB_PER_MAH
    if "nominal_v" in fields:
        volts = fields["nominal_v"].between(LEAST_V, MOST_V)
    return Battery(fields["source"].source(), unit, sign, held, volts)


def _rails(node: _Node) -> Rails:
    fields = node.mapping(("names", "source"), ("names", "source"))
    names = {key: value.text() for key, value in fields["names"].mapping(None).items()}
    return Rails(names, fields["source"].source())


def _usb_power(node: _Node) -> UsbPower:
    fields = node.mapping(("tool", "hub", "port"), ("tool", "hub", "port"))
    return UsbPower(fields["tool"].one_of(_SWITCHES), fields["hub"].text(), fields["port"].count())


def _meter(node: _Node) -> ExternalMeter:
    fields = node.mapping(None, ("kind",))
    covers = fields.pop("covers").one_of(METER_COVERS) if "covers" in fields else METER_COVERS[0]
    kind = fields.pop("kind").text()
    options = {key: field.value for key, field in fields.items()}
    return ExternalMeter(kind, covers, options, f"{node.path}: {node.place}")


def _addresses(node: _Node) -> tuple[str, ...]:
    return tuple(item.text() for item in node.items())


def _notes(node: _Node) -> tuple[Note, ...]:
    notes = []
    for item in node.items():
        fields = item.mapping(("text", "source"), ("text", "source"))
        notes.append(Note(fields["text"].text(), fields["source"].source()))
    return tuple(notes)


_READERS: dict[str, Any] = {
    "sample": _sample,
    "facts": _facts,
    "cpu": _cpu,
    "gpu": _gpu,
    "battery": _battery,
    "rails": _rails,
    "usb_power": _usb_power,
    "meter": _meter,
    "addresses": _addresses,
    "notes": _notes,
}
