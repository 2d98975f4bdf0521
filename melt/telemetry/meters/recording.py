"""What a meter said during a run, as it came: two files that only grow and a document, in the run's folder.

`meter.samples` holds rows of an int64 time and a float64 per column; `meter.clock` rows of six int64: the reading of
the clock, whether it was one way, and how much was lost and could not be read until then. A row that is cut short at
the end is the last thing that a dying computer wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from melt.errors import StoreError
from melt.telemetry.meters.base import Batch, ClockReading, MeterFacts
from melt.traces import Times, Values

SAMPLES, CLOCK, DOCUMENT = "meter.samples", "meter.clock", "meter.json"
_CLOCK_COLUMNS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A burst of work that the device played: when it was busy, (from, to) on the device's clock."""

    busy_ns: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What is known of a recording beside its samples.

    `device_clock` has this computer's clock when it was compared with the device's, the offset (this clock less that of
    the device) and its uncertainty, before the run and after it. `end` is how the reading ended: `stopped` in order,
    `lost` with a `complaint`, None where nobody came to say.
    """

    facts: MeterFacts
    covers: str
    device_clock: tuple[tuple[int, int, int], ...] = ()
    played: tuple[Played, ...] = ()
    end: str | None = None
    complaint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Everything a meter said: samples in the order in which they came, (n,) and (n, columns).

    `torn`: the files end in the middle of a row.
    """

    noted: Noted
    t_ns: Times
    values: Values
    clock: tuple[ClockReading, ...]
    lost: int
    unread: int
    torn: bool


class Writer:
    """Appends what a meter says. Raises StoreError where the disk does not take it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lost = self._unread = 0
        self._samples, self._clock = self._open(SAMPLES), self._open(CLOCK)

    def _open(self, name: str) -> BinaryIO:
        try:
            return (self._folder / name).open("wb", buffering=0)
        except OSError as error:
            raise StoreError(f"cannot write {self._folder / name}: {error.strerror}") from error

    def append(self, batch: Batch) -> None:
        """Keep a batch."""
        self._lost += batch.lost
        self._unread += batch.unread
        rows = np.empty(len(batch.t_ns), _row(batch.values.shape[1]))
        rows["t_ns"], rows["values"] = batch.t_ns, batch.values
        self._write(self._samples, rows.tobytes())
        if batch.clock is not None:
            one = batch.clock
            told = (one.sent_ns, one.there_ns, one.received_ns, int(one.one_way), self._lost, self._unread)
            self._write(self._clock, np.array(told, "<i8").tobytes())

    def _write(self, out: BinaryIO, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[out.write(view) :]
        except OSError as error:
            raise StoreError(f"cannot write {out.name}: {error.strerror}; make room") from error

    def close(self) -> None:
        """Let go of the files."""
        for out in (self._samples, self._clock):
            with suppress(OSError):
                out.close()


def dump_noted(noted: Noted) -> bytes:
    """Write what is known of a recording as JSON."""
    return json.dumps(asdict(noted), indent=1).encode()


def read_recording(folder: Path) -> Recording | None:
    """Return what a meter said during a run, None where none was asked. Raises StoreError."""
    try:
        noted = _load_noted(json.loads((folder / DOCUMENT).read_bytes()))
        rows, torn = _rows(folder / SAMPLES, _row(len(noted.facts.columns)))
        clock, torn_clock = _rows(folder / CLOCK, np.dtype(("<i8", (_CLOCK_COLUMNS,))))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / DOCUMENT} does not tell of a meter's recording: {error}") from error
    readings = tuple(ClockReading(int(a), int(b), int(c), bool(d)) for a, b, c, d, _, _ in clock)
    lost, unread = (int(clock[-1][4]), int(clock[-1][5])) if len(clock) else (0, 0)
    return Recording(
        noted=noted,
        t_ns=rows["t_ns"].astype(np.int64),
        values=rows["values"].astype(np.float64),
        clock=readings,
        lost=lost,
        unread=unread,
        torn=torn or torn_clock,
    )


def _row(columns: int) -> np.dtype[Any]:
    return np.dtype([("t_ns", "<i8"), ("values", "<f8", (columns,))])


def _rows(path: Path, row: np.dtype[Any]) -> tuple[Any, bool]:
    """Return the whole rows of a file, and whether a part of one follows them."""
    data = path.read_bytes() if path.exists() else b""
    n = len(data) // row.itemsize
    return np.frombuffer(data, row, n), len(data) != n * row.itemsize


def _load_noted(document: Mapping[str, Any]) -> Noted:
    facts = {**document["facts"], "columns": tuple(document["facts"]["columns"])}
    return Noted(
        facts=MeterFacts(**facts),
        covers=str(document["covers"]),
        device_clock=tuple((int(a), int(b), int(c)) for a, b, c in document["device_clock"]),
        played=tuple(Played(busy_ns=_pairs(one["busy_ns"])) for one in document["played"]),
        end=document["end"],
        complaint=document["complaint"],
    )


def _pairs(found: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(first), int(last)) for first, last in found)
