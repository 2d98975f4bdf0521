"""What every platform needs to declare channels: collectors that name their columns, and paths in a natural order."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from melt.records import Stream
from melt.telemetry.base import FileSource, Guard, Parser, Snapshot
from melt.telemetry.parsers import number
from melt.units import UNITS

_UNNAMED_UNITS = ("1",)


class Collector:
    """A trace in the making: one clock, one rate, and a name of its own for each column."""

    def __init__(self, name: str, rate_hz: float) -> None:
        self.name = name
        self.rate_hz = rate_hz
        self._taken: set[str] = set()

    def stream(
        self,
        base: str,
        quantity: str,
        *,
        site: str,
        source: str,
        cumulative: bool = False,
        wraps_at: float | None = None,
    ) -> Stream:
        """Declare a column. It is called `base` and its unit; a second one of that name gets a number."""
        unit = UNITS[quantity]
        ending = "" if unit in _UNNAMED_UNITS else f"_{unit}"
        name = f"{slug(base)}{ending}"
        count = 1
        while name in self._taken:
            count += 1
            name = f"{slug(base)}_{count}{ending}"
        self._taken.add(name)
        return Stream(
            collector=self.name,
            name=name,
            quantity=quantity,
            unit=unit,
            site=site,
            source=source,
            rate_hz=self.rate_hz,
            cumulative=cumulative,
            wraps_at=wraps_at,
        )

    def file(
        self,
        path: str,
        streams: tuple[Stream, ...],
        parse: Parser,
        *,
        max_bytes: int = 4096,
        per_c: float | None = None,
        guard: Guard | None = None,
    ) -> FileSource:
        """Make a channel of a file. `per_c`: it is a thermometer that may end a run; `guard`: at a limit of its own."""
        return FileSource(path, self.rate_hz, streams, parse, max_bytes, per_c, guard)

    def sensor(
        self,
        path: str,
        base: str,
        quantity: str,
        *,
        site: str,
        per_unit: float = 1.0,
        cumulative: bool = False,
        wraps_at: float | None = None,
    ) -> FileSource:
        """Make a channel of a file with one number; `per_unit` of it make one of our unit."""
        stream = self.stream(base, quantity, site=site, source=path, cumulative=cumulative, wraps_at=wraps_at)
        return self.file(path, (stream,), number(per_unit), max_bytes=64)


def slug(text: str) -> str:
    """Return a text as a column's name is written: small letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "unnamed"


def matching(snapshot: Snapshot, pattern: str) -> list[str]:
    """Return the paths of a snapshot that match, cpu2 before cpu10. `*` does not cross a slash."""
    # Snapshots have hundreds of paths and are asked a hundred times: few paths begin as a pattern does.
    begins, depth = re.split(r"[*?[]", pattern, maxsplit=1)[0], pattern.count("/")
    near = (path for path in snapshot if path.startswith(begins) and path.count("/") == depth)
    return sorted((path for path in near if fnmatchcase(path, pattern)), key=natural)


def folders(snapshot: Snapshot, pattern: str) -> list[str]:
    """Return the folders of the files that match, each once."""
    return list(dict.fromkeys(path.rpartition("/")[0] for path in matching(snapshot, pattern)))


def natural(path: str) -> list[tuple[int, str]]:
    """Return a sort key that counts: the numbers in a path compare as numbers."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", path)]
