"""From a program's JSON to melt's events: objects a line each, or in one array, whatever stands around them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from melt.engines.base import RunnerReport
from melt.engines.runner_events import parse_events
from melt_command_engine.definition import Definition, Rule, Source

_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def read(lines: Iterable[bytes], definition: Definition) -> RunnerReport:
    """Return what a program said. One that prints an array has said all when it is closed, else when it says finish."""
    found, closed = _objects(b"\n".join(lines).decode(errors="replace"))
    events = [_event(rule, told) for told in found for rule in definition.events if _fits(rule, told)]
    report = parse_events(json.dumps(event).encode() for event in events)
    samples: dict[str, tuple[float, ...]] = {}
    for told in found:
        for rule in definition.samples:
            if _fits(rule, told):
                for name, source in rule.takes.items():
                    samples[name] = samples.get(name, ()) + _numbers(_value(told, source))
    ends = any(rule.event == "finish" for rule in definition.events)
    used = {"runner": definition.title, **report.used} if found else {}
    kept = {name: values for name, values in samples.items() if values}
    return replace(report, used=used, samples=kept, complete=report.complete if ends else closed)


def _objects(text: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the objects in a text, and whether an array of them was closed."""
    found: list[dict[str, Any]] = []
    at, closed = 0, False
    while (at := min((place for place in (text.find(sign, at) for sign in "{[") if place >= 0), default=-1)) >= 0:
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            # Objects within a torn array are whole, what lies within a torn object was never meant to stand alone.
            at = max(at + 1, error.pos if text[at] == "{" else 0)
            continue
        except (ValueError, RecursionError):
            at += 1
            continue
        several = value if isinstance(value, list) else [value]
        objects = [one for one in several if isinstance(one, dict)]
        closed = closed or (isinstance(value, list) and bool(objects))
        found += objects
    return found, closed


def _fits(rule: Rule, told: Mapping[str, Any]) -> bool:
    """Whether an object is meant: each key of `when` has that value, and what the rule takes is there in part."""
    missing = object()
    asked = all(_at(told, tuple(key.split(".")), missing) == value for key, value in rule.when.items())
    return asked and (not rule.takes or any(_value(told, source) is not None for source in rule.takes.values()))


def _event(rule: Rule, told: Mapping[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {"event": rule.event}
    for name, source in rule.takes.items():
        outer, _, inner = name.rpartition(".")
        place = event.setdefault(outer, {}) if outer else event
        place[inner] = _value(told, source)
    # A span that lacks an end did not happen: the prefill of a workload without a prompt.
    return {name: None if _is_open(value) else value for name, value in event.items()}


def _is_open(value: Any) -> bool:
    return isinstance(value, dict) and any(value.get(end, 0) is None for end in ("t0_ns", "t1_ns"))


def _value(told: Mapping[str, Any], source: Source) -> Any:
    value = _at(told, source.key, None)
    return value if source.factor == 1 else _times(value, source.factor)


def _at(told: Any, key: tuple[str, ...], missing: object) -> Any:
    for part in key:
        told = told.get(part, missing) if isinstance(told, dict) else missing
    return told


def _times(value: Any, factor: float) -> Any:
    """Return a number or each of a list in another unit, whole: melt counts nanoseconds and bytes."""
    if isinstance(value, list):
        return [_times(one, factor) for one in value]
    return round(value * factor) if _is_number(value) and math.isfinite(value * factor) else None


def _numbers(value: Any) -> tuple[float, ...]:
    """Return rates above zero: one, or a list of them; nothing where one of them is none."""
    values = value if isinstance(value, list) else [value]
    return tuple(map(float, values)) if all(_is_number(one) and 0 < one < 1e18 for one in values) else ()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
