"""A recorded trace played again as if it were measured now: for tests, and to try an analysis without hardware.

The file is CSV with a heading, or Parquet. Its columns are called like those of a line meter (`time_s`, `v`, `a`, `w`,
`j`, in their units); others are passed over.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from melt.errors import UsageError
from melt.telemetry.meters.base import READ_S, Batch, ClockReading, MeterError, MeterFacts
from melt.telemetry.meters.linecolumns import PASSED_OVER, line_format, parse_lines, unit_names
from melt.telemetry.meters.options import Options
from melt.traces import Times, Values

_KNOWN = ("file", "rate_hz", "repeat", "accuracy", "calibration")


class RecordedMeter:
    """Plays a file in real time, once or over and over; its clock is that of the file, exactly."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._path = Path(options.text("file")).expanduser()
        self._repeat = options.flag("repeat")
        self._t_ns: Times = np.empty(0, np.int64)
        self._values: Values = np.empty((0, 0))
        self._unread = self._next = 0
        self._began_ns = 0

    def open(self) -> MeterFacts:
        """Read the file. Raises UsageError where it is no trace."""
        options = self._options
        columns, lines = _lines_of(self._path)
        form = line_format(Options(str(self._path), {"columns": columns}, ("columns", "separator")))
        if not form.has_time:
            raise UsageError(f"{self._path}: no column tells the time: name one time_s, time_ms, time_us or time_ns")
        parsed = parse_lines(lines, form, 0)
        self._t_ns, self._values, self._unread = parsed.t_ns, parsed.values, parsed.unread
        if len(self._t_ns) < 2 or self._t_ns[-1] <= self._t_ns[0]:
            raise UsageError(f"{self._path}: a trace has at least two samples, the last of them later than the first")
        period_s = float(self._t_ns[-1] - self._t_ns[0]) / (len(self._t_ns) - 1) / 1e9
        return MeterFacts(
            name=f"recorded {self._path.name}",
            columns=form.columns,
            rate_hz=options.number("rate_hz", 1 / period_s),
            accuracy=options.share("accuracy"),
            calibration=options.text("calibration") if options.has("calibration") else None,
        )

    def start(self) -> None:
        """Begin with the first sample, now."""
        self._began_ns, self._next = time.monotonic_ns(), 0

    def read(self) -> Batch | None:
        """Return the samples that are due. Raises MeterError after the last."""
        n = len(self._t_ns)
        if self._next >= n and not self._repeat:
            raise MeterError(f"{self._path.name} is at its end")
        time.sleep(READ_S / 4)
        now_ns = time.monotonic_ns()
        first_ns = int(self._t_ns[0])
        # The next round begins one mean period after the last sample of this one.
        round_ns = (int(self._t_ns[-1]) - first_ns) * n // (n - 1)
        due_ns = now_ns - self._began_ns + first_ns
        found_t, found_v = [], []
        while True:
            rounds, at = divmod(self._next, n)
            until = int(np.searchsorted(self._t_ns, due_ns - rounds * round_ns, "right"))
            if until <= at:
                break
            found_t.append(self._t_ns[at:until] + rounds * round_ns)
            found_v.append(self._values[at:until])
            self._next += until - at
            if self._next >= n and not self._repeat:
                break
        unread, self._unread = self._unread, 0
        if not found_t:
            return None
        clock = ClockReading(now_ns, due_ns, now_ns)
        return Batch(np.concatenate(found_t), np.concatenate(found_v), clock, unread=unread)

    def switch(self, on: bool) -> None:
        """Refuse: there is nothing behind it."""
        raise UsageError(f"{self._path.name} is a recording: it has no output to switch {'on' if on else 'off'}")

    def close(self) -> None:
        """Forget the file."""
        self._t_ns, self._values = np.empty(0, np.int64), np.empty((0, 0))


def make(given: Mapping[str, object], where: str) -> RecordedMeter:
    """Return the meter that a profile describes. Raises UsageError."""
    return RecordedMeter(Options(where, given, _KNOWN))


def _lines_of(path: Path) -> tuple[list[str], list[str]]:
    """Return the names of a file's columns and its rows as lines. Raises UsageError."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            names = list(table.column_names)
            rows = [",".join(map(_written, row)) for row in zip(*(c.to_pylist() for c in table.columns), strict=True)]
        else:
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                names, *found = [*csv.reader(file)] or [[]]
            rows = [",".join(row) for row in found]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a recorded trace: {error}") from error
    known = unit_names()
    return [name.strip() if name.strip() in known else PASSED_OVER for name in names], rows


def _written(value: object) -> str:
    return "nan" if value is None else str(value)
