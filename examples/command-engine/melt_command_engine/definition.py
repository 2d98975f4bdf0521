"""The file that describes a program: how it is called, and where in its JSON the numbers stand. README.md tells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from melt.errors import UsageError
from melt.records import Settings

EVENTS = ("hello", "load", "tokenize", "generation", "inferences", "error", "finish")
SAMPLES = ("prefill_tps", "decode_tps")
PLACES = {"model", "files", "python", "n_prompt", "n_gen", "n_depth", "repetitions", "warmup"}
"""What a word of the command may name in braces, beside the settings of a run."""

_KEYS = {"title", "formats", "files", "command", "env", "on", "events", "samples"}
_PLACE = re.compile(r"\{(\w+)\}")
_SOURCE = re.compile(r"(?P<key>[^*]+?)\s*(?:\*\s*(?P<factor>[0-9.eE+-]+))?")


@dataclass(frozen=True)
class Source:
    """Where a value stands: `key` with dots into objects, times `factor`. `prompt.ms * 1e6`."""

    key: tuple[str, ...]
    factor: float = 1.0


@dataclass(frozen=True)
class Rule:
    """Which objects are meant, and what they become: an event with fields, dotted ones inside others, or samples."""

    when: Mapping[str, object]
    takes: Mapping[str, Source]
    event: str | None = None


@dataclass(frozen=True)
class Variant:
    """What is brought to a device of one kind, and how it is started there."""

    files: tuple[Path, ...]
    command: tuple[str, ...]

    @property
    def told(self) -> frozenset[str]:
        """Return what the words of the command name."""
        return frozenset(name for word in self.command for name in _PLACE.findall(word))

    def words(self, values: Mapping[str, object]) -> tuple[str, ...]:
        """Return the command with its places filled in; no shell ever sees it."""
        return tuple(_PLACE.sub(lambda place: str(values[place[1]]), word) for word in self.command)


@dataclass(frozen=True)
class Definition:
    """A program that melt can run."""

    title: str
    formats: tuple[str, ...]
    variant: Variant
    variants: Mapping[str, Variant] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Rule, ...] = ()
    samples: tuple[Rule, ...] = ()

    def variant_for(self, system: str, arch: str) -> Variant:
        """Return what runs on a device: by system and processor, by system, else as everywhere."""
        return self.variants.get(f"{system}-{arch}") or self.variants.get(system) or self.variant


def read_definition(path: Path) -> Definition:
    """Read a description. Raises UsageError with the file and what is wrong with it."""
    try:
        told = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    try:
        return _definition(told, path.absolute().parent)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error.args[0] if error.args else error}") from error


def _definition(told: Any, folder: Path) -> Definition:
    if not isinstance(told, dict):
        raise ValueError("expected keys and values: title, formats, files, command, events or samples")
    unknown = sorted(map(str, set(told) - _KEYS))
    if unknown:
        raise ValueError(f"unknown key '{unknown[0]}': there are {', '.join(sorted(_KEYS))}")
    variant = _variant(told, folder)
    if not told.get("events") and not told.get("samples"):
        raise ValueError("it says nowhere what to read: give events, or samples")
    return Definition(
        title=str(told.get("title") or variant.files[0].stem),
        formats=_words(told, "formats"),
        variant=variant,
        variants={str(on): _variant({**told, **other}, folder) for on, other in (told.get("on") or {}).items()},
        env={str(name): str(value) for name, value in (told.get("env") or {}).items()},
        events=tuple(_event(one) for one in told.get("events") or ()),
        samples=tuple(_sample(one) for one in told.get("samples") or ()),
    )


def _variant(told: Mapping[str, Any], folder: Path) -> Variant:
    files = tuple(folder / name for name in _words(told, "files"))
    if len({path.parent for path in files}) > 1:
        raise ValueError("files: all of them must lie in one folder")
    variant = Variant(files, _words(told, "command"))
    unknown = sorted(variant.told - PLACES - {setting.name for setting in fields(Settings)})
    if unknown:
        raise ValueError(
            f"command: nothing is called {{{unknown[0]}}}: there are {', '.join(sorted(PLACES))}, settings"
        )
    return variant


def _words(told: Mapping[str, Any], key: str) -> tuple[str, ...]:
    words: Sequence[Any] = told.get(key) or ()
    if not words or not isinstance(words, list) or not all(isinstance(word, str | int | float) for word in words):
        raise ValueError(f"{key}: expected a list of words")
    return tuple(map(str, words))


def _event(told: Any) -> Rule:
    event = told.get("event") if isinstance(told, dict) else None
    if event not in EVENTS or not set(told) <= {"when", "event", "fields"}:
        raise ValueError(f"events: expected when, event (one of {', '.join(EVENTS)}) and fields, found {told!r}")
    takes = {str(name): _source(where) for name, where in (told.get("fields") or {}).items()}
    if any(name.count(".") > 1 for name in takes):
        raise ValueError("events: a field lies in one object at most: `prefill.t0_ns`")
    return Rule(dict(told.get("when") or {}), takes, event)


def _sample(told: Any) -> Rule:
    if not isinstance(told, dict) or not set(told) - {"when"} or not set(told) <= {"when", *SAMPLES}:
        raise ValueError(f"samples: expected when, and {' or '.join(SAMPLES)}, found {told!r}")
    takes = {name: _source(told[name]) for name in SAMPLES if name in told}
    return Rule(dict(told.get("when") or {}), takes)


def _source(where: Any) -> Source:
    found = _SOURCE.fullmatch(where.strip()) if isinstance(where, str) else None
    if found is None:
        raise ValueError(f"expected the name of a value, `NAME` or `NAME * 1e9`, found {where!r}")
    return Source(tuple(found["key"].split(".")), float(found["factor"] or 1))
