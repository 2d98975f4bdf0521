"""Runs named by a word: `sweep:last~1`, `tag:nightly,device:orin`, or `q8_0` where only one thing is called so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, or_, select

from melt.errors import UsageError
from melt.store.schema import runs, sweeps, tags
from melt.store.selection import COMMIT, Selection, begins_with
from melt.store.store import Store

_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "run": "runs",
        "sweep": "sweep",
        "tag": "tag",
        "commit": "commit",
        "device": "device",
        "model": "model",
        "quant": "quant",
        "engine": "engine",
        "os": "os_build",
        "workload": "workload",
        "plan": "plan",
        "melt": "melt_version",
    }
)
"""What stands before the colon, and the field of a `Selection` that it narrows."""

_EXACT: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "run": (runs.c.run_id,),
        "sweep": (sweeps.c.sweep_id,),
        "tag": (tags.c.tag,),
        "device": (runs.c.device_name, runs.c.device_id),
        "model": (runs.c.model,),
        "quant": (runs.c.quant,),
        "engine": (runs.c.engine, runs.c.engine_revision),
        "os": (runs.c.os_build,),
        "workload": (runs.c.workload,),
        "plan": (runs.c.plan,),
        "melt": (runs.c.melt_version,),
    }
)
"""What a bare word is looked for in, whole."""

_COMPARED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "commit": ("engine_revision",),
        "device": ("device",),
        "model": ("model",),
        "quant": ("quant",),
        "engine": ("engine", "engine_revision"),
        "os": ("os_build",),
        "workload": ("workload",),
        "melt": ("melt_version",),
    }
)
"""What may differ by itself between two sides that are chosen by it."""

_KEYED = re.compile(rf"({'|'.join(_FIELDS)}):(.*)", re.DOTALL)
_JOINT = re.compile(rf",(?=(?:{'|'.join(_FIELDS)}):)")
_BACK = re.compile(r"last(~\d+)?")

HELP = f"{', '.join(f'{key}:' for key in _FIELDS)} or a bare word, joined by commas"


@dataclass(frozen=True, slots=True)
class Selector:
    """Runs that somebody named: by `text`, which meant `keys`, a value each; `selection` finds them."""

    text: str
    keys: Mapping[str, str]
    selection: Selection


def resolve_selector(store: Store, text: str, filters: Selection) -> Selector:
    """Find out which runs a text names, within those that the filters leave.

    Parts are `key:value`, joined by commas; all must hold. A bare word is what alone is called so, whole; where nothing
    is, the beginning of one sweep's id, then of one run's, then of a commit. Raises UsageError.
    """
    keys: dict[str, str] = {}
    selection = filters
    for part in _JOINT.split(text):
        keyed = _KEYED.fullmatch(part)
        key, value = (keyed[1], keyed[2]) if keyed else (_kind_of(store, part), part)
        if not value:
            raise UsageError(f"{text!r} selects nothing: give {key}: a value")
        if getattr(selection, _FIELDS[key]) not in (None, ()):
            raise UsageError(f"{text!r}: the {key} is given twice, or also by --{key}: name it once")
        keys[key] = value
        selection = replace(selection, **{_FIELDS[key]: _value(store, key, value)})
    return Selector(text, keys, selection)


def _value(store: Store, key: str, value: str) -> Any:
    if key == "run":
        return tuple(store.resolve(run) for run in value.split(","))
    return store.resolve_sweep(value) if key == "sweep" else value


def _kind_of(store: Store, word: str) -> str:
    """Return what a bare word is. Raises UsageError where it is nothing, or more than one thing."""
    if _BACK.fullmatch(word):
        return "sweep"
    with store.database.read() as connection:

        def known(condition: ColumnElement[bool], column: Any) -> bool:
            return bool(word) and connection.execute(select(column).where(condition).limit(1)).first() is not None

        kinds = [key for key, columns in _EXACT.items() if known(or_(*(c == word for c in columns)), columns[0])]
        if len(kinds) > 1:
            named = " or ".join(f"{key}:{word}" for key in kinds)
            raise UsageError(f"{word!r} is the name of several things: write {named}")
        beginnings = {"sweep": sweeps.c.sweep_id, "run": runs.c.run_id}
        begins = [key for key, column in beginnings.items() if known(begins_with(column, word), column)]
        if not begins and known(begins_with(tags.c.tag, COMMIT + word), tags.c.tag):
            begins = ["commit"]
    if not kinds and not begins:
        raise UsageError(
            f"nothing in the store {store.root} is called {word!r}, no sweep, run or commit begins with it: "
            "`melt runs` lists what there is"
        )
    return (kinds or begins)[0]


def compared(a: Selector, b: Selector) -> frozenset[str]:
    """Return what a comparison of two selections is of, by the names of `melt.analysis.alike.BY`."""
    both = {key for key in a.keys if key in b.keys and a.keys[key] != b.keys[key]}
    return frozenset(name for key in both for name in _COMPARED.get(key, ()))
