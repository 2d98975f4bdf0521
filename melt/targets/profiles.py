"""Profiles of device models: facts with their sources out of devices/*.yaml, found by what a device says of itself."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from melt import _layout
from melt.errors import UsageError
from melt.records import DeviceFacts

FACTS = ("memory_peak_bytes_per_s", "throttles_from_c")
"""What a profile may state: the memory's peak by its data sheet, the temperature from which clocks are cut."""

_MATCHED = tuple(field.name for field in dataclasses.fields(DeviceFacts) if field.type in ("str", "str | None"))


@dataclass(frozen=True, slots=True)
class Fact:
    """A number and who says so."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence that a user of the device should know, and who says so."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a device model. `match` maps a fact's name to a pattern that must be found in it."""

    name: str
    title: str
    match: dict[str, re.Pattern[str]]
    facts: dict[str, Fact]
    notes: tuple[Note, ...] = ()

    def fits(self, device: DeviceFacts) -> bool:
        """Whether every pattern is found."""
        return all(pattern.search(getattr(device, key) or "") for key, pattern in self.match.items())


def load_profiles(folder: Path | None = None) -> list[Profile]:
    """Read every profile of a folder, melt's own when None, in the order of their names. Raises UsageError."""
    folder = _layout.devices_dir() if folder is None else folder
    return [_read(path) for path in sorted(folder.glob("*.yaml"))]


def matching_profile(device: DeviceFacts, profiles: Iterable[Profile]) -> Profile | None:
    """Return the profile that fits, the one with the most patterns where several do."""
    fitting = [profile for profile in profiles if profile.fits(device)]
    return max(fitting, key=lambda profile: len(profile.match), default=None)


class _Reader:
    """Checks of one file; each complaint names the file and the place in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def wrong(self, place: str, problem: str) -> UsageError:
        return UsageError(f"{self._path}: {place}: {problem}" if place else f"{self._path}: {problem}")

    def mapping(self, place: str, value: Any, keys: Sequence[str], needed: Sequence[str] = ()) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(place, f"expected keys with values, found {value!r}")
        for key in value:
            if key not in keys:
                near = difflib.get_close_matches(str(key), keys, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(keys)}"
                raise self.wrong(place, f"unknown key {key!r}: {hint}")
        for key in needed:
            if key not in value:
                raise self.wrong(place, f"{key} is missing")
        return value

    def text(self, place: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(place, f"expected a text, found {value!r}")
        return value.strip()

    def number(self, place: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            # YAML 1.1 takes 17e9 for a text.
            raise self.wrong(place, f"expected a number such as 80 or 17.0e+9, found {value!r}")
        return float(value)

    def pattern(self, place: str, value: Any) -> re.Pattern[str]:
        try:
            return re.compile(self.text(place, value), re.IGNORECASE)
        except re.error as error:
            raise self.wrong(place, f"not a regular expression: {error}") from error


def _read(path: Path) -> Profile:
    reader = _Reader(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise reader.wrong("", f"cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise reader.wrong("", f"not YAML: {' '.join(str(error).split())}") from error
    top = reader.mapping("", document, ("title", "match", "facts", "notes"), ("title", "match"))
    match = reader.mapping("match", top["match"], _MATCHED)
    if not match:
        raise reader.wrong("match", "without a pattern it would fit every device")
    facts = reader.mapping("facts", top.get("facts", {}), FACTS)
    notes = top.get("notes", [])
    if not isinstance(notes, list):
        raise reader.wrong("notes", f"expected a list, found {notes!r}")
    return Profile(
        name=path.stem,
        title=reader.text("title", top["title"]),
        match={key: reader.pattern(f"match.{key}", value) for key, value in match.items()},
        facts={key: _fact(reader, f"facts.{key}", value) for key, value in facts.items()},
        notes=tuple(_note(reader, f"notes[{i}]", value) for i, value in enumerate(notes)),
    )


def _fact(reader: _Reader, place: str, value: Any) -> Fact:
    fields = reader.mapping(place, value, ("value", "source"), ("value", "source"))
    return Fact(
        reader.number(f"{place}.value", fields["value"]),
        reader.text(f"{place}.source", fields["source"]),
    )


def _note(reader: _Reader, place: str, value: Any) -> Note:
    fields = reader.mapping(place, value, ("text", "source"), ("text", "source"))
    return Note(reader.text(f"{place}.text", fields["text"]), reader.text(f"{place}.source", fields["source"]))
