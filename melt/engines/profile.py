"""What a run under a profiler tells: which operators there are, and when each of them was computed, how long.

The event `operators` of agents/PROTOCOL.md says it; everything is on the device's monotonic clock.
"""

from __future__ import annotations

import base64
import re
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melt.engines.base import Engine


_FILE = re.compile(r"[a-z0-9_]+_profile\.json")
"""How a profiler's own file is called: it cannot take the place of another attachment of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A node of a model's graph: what it computes, by the engine's own word, and its name there.

    `detail` is the type of the weights that it reads, or the types of its inputs; `place` the backend or provider that
    computed it. None: not told.
    """

    op: str
    name: str
    detail: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Every node that was timed: of time i, `node[i]` counts in `operators`, it began at `t0_ns[i]` and took `ns[i]`.

    `source` is what timed them. `left_out` nodes were computed and not kept, for want of room. By
    `clock_uncertainty_ns` all begins together may be off the device's clock; 0: they were taken on it. `raw` holds
    files that the engine's profiler wrote itself.
    """

    source: str
    operators: tuple[Operator, ...]
    node: array[int]
    t0_ns: array[int]
    ns: array[int]
    repetition: array[int]
    warmup: array[int]
    left_out: int = 0
    clock_uncertainty_ns: int = 0
    raw: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ProfileReader:
    """Puts `operators` and `raw_profile` events together."""

    source: str = ""
    operators: list[Operator] = field(default_factory=list)
    left_out: int = 0
    clock_uncertainty_ns: int = 0
    _raw: dict[str, list[str]] = field(default_factory=dict)
    _columns: tuple[array[int], ...] = field(default_factory=lambda: tuple(array("q") for _ in range(5)))

    def read(self, event: Mapping[str, Any]) -> None:
        """Take one event. Raises ValueError, KeyError, TypeError, OverflowError where it contradicts itself."""
        new = [_operator(*one) for one in event["new"]]
        begin_ns, repetition = _whole(event, "t0_ns"), _whole(event, "repetition")
        left_out, off_ns = _whole(event, "left_out"), _whole(event, "clock_uncertainty_ns")
        node, after_ns, ns = (array("q", event[key]) for key in ("node", "after_ns", "ns"))
        if not len(node) == len(after_ns) == len(ns):
            raise ValueError(f"{len(node)} nodes have {len(after_ns)} begins and {len(ns)} lengths")
        if any(not 0 <= one < len(self.operators) + len(new) for one in set(node)):
            raise ValueError("a node was not introduced")
        if min(ns, default=0) < 0:
            raise ValueError("a node ended before it began")
        same = repetition, event.get("warmup") is True
        columns = (node, [begin_ns + after for after in after_ns], ns, *([one] * len(node) for one in same))
        for column, more in zip(self._columns, columns, strict=True):
            column.extend(array("q", more))
        self.operators += new
        self.source = str(event["source"])
        self.left_out += left_out
        self.clock_uncertainty_ns = max(self.clock_uncertainty_ns, off_ns)

    def read_raw(self, event: Mapping[str, Any]) -> None:
        """Take a piece of a file. Raises ValueError."""
        name, piece = event.get("name"), event.get("zlib_base64")
        if not (isinstance(name, str) and _FILE.fullmatch(name) and isinstance(piece, str)):
            raise ValueError(f"this is no piece of a file: {name!r}")
        self._raw.setdefault(name, []).append(piece)

    def profile(self) -> Profile | None:
        """Return what was read, None where nothing was."""
        if not self.source:
            return None
        node, t0_ns, ns, repetition, warmup = self._columns
        return Profile(
            source=self.source,
            operators=tuple(self.operators),
            node=node,
            t0_ns=t0_ns,
            ns=ns,
            repetition=repetition,
            warmup=warmup,
            left_out=self.left_out,
            clock_uncertainty_ns=self.clock_uncertainty_ns,
            raw={name: text for name, parts in self._raw.items() if (text := _unpacked(parts)) is not None},
        )


def _operator(op: object, name: object, detail: object, place: object) -> Operator:
    if not (isinstance(op, str) and isinstance(name, str)):
        raise ValueError(f"a node is not named by texts: {op!r}, {name!r}")
    if not (isinstance(detail, str | None) and isinstance(place, str | None)):
        raise ValueError(f"type and backend of a node are no texts: {detail!r}, {place!r}")
    return Operator(op=op, name=name, detail=detail, place=place)


def _whole(event: Mapping[str, Any], key: str) -> int:
    value = event.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{key} is not a whole number from 0 on: {value!r}")
    return value


def _unpacked(parts: Sequence[str]) -> str | None:
    """Put a file together again; None where pieces of it are missing."""
    try:
        return zlib.decompress(base64.b64decode("".join(parts), validate=True)).decode(errors="replace")
    except (ValueError, TypeError, zlib.error):
        return None


def without_profiler(engine: Engine) -> str | None:
    """Say in a sentence why an engine cannot be profiled, None where it can.

    An engine whose runner times operators has `profiles` True; one that does not may say why in `without_profile`.
    """
    if getattr(engine, "profiles", False):
        return None
    why: str = getattr(engine, "without_profile", f"the engine {engine.name} times no operators")
    return why
