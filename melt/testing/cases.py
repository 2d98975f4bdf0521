"""What the contract suites are held against: what is named to pytest, given by a plug-in's author, or installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import pytest

from melt.plugins import ENGINES, POWER_METERS, TELEMETRY, TRANSPORTS, plugins


@dataclass(frozen=True, kw_only=True)
class Case:
    """Something that a suite is held against. `name` is what a user writes; the plug-in's stands before its colon."""

    name: str
    group: ClassVar[str]

    @classmethod
    def of(cls, words: str) -> Self:
        """Make one of what was named on the command line. Raises pytest.UsageError."""
        return cls(name=words)


@dataclass(frozen=True, kw_only=True)
class EngineCase(Case):
    """An engine, as it is written after --engine.

    `said` holds whole runs that ended well: what the runner printed on stdout, by any name. `run` are the words of a
    `melt run` that measures something small with it; none: melt's own small model, where the engine reads GGUF.
    """

    group: ClassVar[str] = ENGINES
    said: Mapping[str, bytes] = field(default_factory=dict)
    run: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TransportCase(Case):
    """A way to a device, as it is written after --device. The device needs the tools that any Unix has."""

    group: ClassVar[str] = TRANSPORTS


@dataclass(frozen=True, kw_only=True)
class MeterCase(Case):
    """A power meter: its kind, and the options that a device's profile would give it."""

    group: ClassVar[str] = POWER_METERS
    options: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, words: str) -> Self:
        """Read `KIND` or `KIND:OPTIONS`, these in YAML: `lines:{command: [my-meter], …}`. Raises pytest.UsageError."""
        import yaml

        kind, _, told = words.partition(":")
        try:
            options = yaml.safe_load(told) if told.strip() else {}
        except yaml.YAMLError as error:
            why = " ".join(str(error).split())
            raise pytest.UsageError(f"--melt-meter {words!r}: the options are no YAML: {why}") from error
        if not isinstance(options, dict):
            raise pytest.UsageError(f"--melt-meter {words!r}: options are written {{name: value, …}}")
        return cls(name=kind, options=options)


@dataclass(frozen=True, kw_only=True)
class TelemetryCase(Case):
    """Channels that a plug-in adds. `snapshots` are of devices that have them, by any name: path -> content.

    None given: the machine that the suite runs on is looked at.
    """

    group: ClassVar[str] = TELEMETRY
    snapshots: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)


OPTIONS: Mapping[type[Case], str] = {
    EngineCase: "melt_engine",
    TransportCase: "melt_transport",
    MeterCase: "melt_meter",
    TelemetryCase: "melt_telemetry",
}
"""Where pytest keeps what was named for each suite."""

GROUPS: Mapping[str, type[Case]] = {
    "test_engines": EngineCase,
    "test_transports": TransportCase,
    "test_power_meters": MeterCase,
    "test_telemetry": TelemetryCase,
}
"""Which suite holds what to account."""

C = TypeVar("C", bound=Case)


def cases(config: pytest.Config, kind: type[C]) -> list[C]:
    """Return what a suite is held against: what is named on the command line, else every plug-in that is installed.

    Of what the author's `pytest_melt_cases` gives, those are taken that fit. Raises pytest.UsageError.
    """
    given = [case for found in config.hook.pytest_melt_cases() for case in found if isinstance(case, kind)]
    asked: list[str] = config.getoption(OPTIONS[kind])
    if not asked and any(config.getoption(option) for option in OPTIONS.values()):
        return []
    if not asked:
        asked = [plugin.name for plugin in plugins(kind.group)]
    return [case for words in asked for case in _fitting(given, words) or [kind.of(words)]]


def ids(found: list[C]) -> list[str]:
    """Name cases in a test report."""
    return [case.name for case in found]


def _fitting(given: list[C], words: str) -> list[C]:
    """Choose by the whole name, else by that of the plug-in."""
    named = [case for case in given if case.name == words]
    return named or [case for case in given if case.name.partition(":")[0] == words]


def parametrize(metafunc: Any, fixture: str, kind: type[Case]) -> None:
    """Run each test that asks for `fixture` with every case."""
    if fixture in metafunc.fixturenames:
        found = cases(metafunc.config, kind)
        metafunc.parametrize(fixture, found, ids=ids(found), scope="module")
