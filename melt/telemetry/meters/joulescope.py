"""Joulescope JS220 or JS110: its power, as the meter computes it. Needs `pyjoulescope_driver`; not run on hardware.

The driver pushes blocks of samples from a thread of its own. API: https://joulescope-driver.readthedocs.io (topics
`s/p/ctrl`, `s/p/!data`, `h/fs`).
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from melt.errors import UsageError
from melt.telemetry.meters.base import READ_S, WATTS, Batch, ClockReading, MeterError, MeterFacts, attempt, let_go
from melt.telemetry.meters.options import Options

_KNOWN = ("serial_number", "rate_hz", "accuracy")
_RATE_HZ = 5000
_LATENCY_NS = 100_000_000
"""The driver gathers samples before it passes them on; it does not say for how long."""
_BLOCKS = 4096
_FIRST_BLOCK_S = 5.0


class JoulescopeMeter:
    """The meter behind `pyjoulescope_driver.Driver`. Its clock is the number of its samples at its full rate."""

    def __init__(self, options: Options, load: Callable[[], Any]) -> None:
        self._serial = options.text("serial_number") if options.has("serial_number") else None
        self._rate_hz = options.number("rate_hz", _RATE_HZ)
        self._accuracy = options.share("accuracy")
        self._load = load
        self._driver: Any = None
        self._path = ""
        self._blocks: queue.Queue[tuple[int, Mapping[str, Any]]] = queue.Queue(_BLOCKS)
        self._overrun = False
        self._expected: int | None = None

    def open(self) -> MeterFacts:
        """Reach the meter. Raises MeterError where there is none, or several and no serial number."""
        self._driver = self._load()
        paths = [str(path) for path in _try(self._driver.device_paths, "cannot be looked for")]
        fitting = [path for path in paths if self._serial is None or path.rpartition("/")[2] == self._serial]
        if not fitting:
            raise MeterError(f"no Joulescope {self._serial or ''} is here: is it plugged in?".replace("  ", " "))
        if len(fitting) > 1:
            raise MeterError(f"{len(fitting)} Joulescopes are here: say which by `serial_number`: {', '.join(fitting)}")
        self._path = fitting[0]
        _try(lambda: self._driver.open(self._path), "cannot be opened")
        return MeterFacts(
            name=f"Joulescope {self._path}",
            columns=(WATTS,),
            rate_hz=self._rate_hz,
            accuracy=self._accuracy,
            calibration="its maker's, kept in the meter",
        )

    def start(self) -> None:
        """Begin to sample and wait for the first block. Raises MeterError."""
        mode = "s/i/range/select" if "js110" in self._path else "s/i/range/mode"
        for topic, value in ((mode, "auto"), ("h/fs", round(self._rate_hz))):
            self._publish(topic, value)
        _try(lambda: self._driver.subscribe(f"{self._path}/s/p/!data", "pub", self._came), "sends nothing")
        self._publish("s/p/ctrl", 1)
        deadline = time.monotonic() + _FIRST_BLOCK_S
        while self.read() is None:
            if time.monotonic() > deadline:
                raise MeterError(f"the Joulescope sent nothing within {_FIRST_BLOCK_S:.0f} s")

    def _publish(self, topic: str, value: object) -> None:
        _try(lambda: self._driver.publish(f"{self._path}/{topic}", value), f"does not take {topic} = {value}")

    def _came(self, topic: str, value: Mapping[str, Any]) -> None:
        """Take a block; called from the driver's thread, which must not wait."""
        try:
            self._blocks.put_nowait((time.monotonic_ns(), value))
        except queue.Full:
            self._overrun = True

    def read(self) -> Batch | None:
        """Return the next block. Raises MeterError where the driver has lost the meter."""
        try:
            arrived_ns, block = self._blocks.get(timeout=READ_S)
        except queue.Empty:
            if self._path not in _try(self._driver.device_paths, "is gone"):
                raise MeterError(f"the Joulescope {self._path} is gone") from None
            return None
        watts = np.asarray(block["data"], np.float64)
        step, first, rate = int(block["decimate_factor"]), int(block["sample_id"]), float(block["sample_rate"])
        if not len(watts) or step < 1 or not rate > 0:
            return Batch(np.empty(0, np.int64), np.empty((0, 1)), unread=1)
        lost = 0 if self._expected is None else max(0, first - self._expected) // step
        self._expected = first + step * len(watts)
        ids = first + step * np.arange(len(watts), dtype=np.int64)
        t_ns = np.rint(ids * (1e9 / rate)).astype(np.int64)
        clock = ClockReading(arrived_ns - _LATENCY_NS, int(t_ns[-1]), arrived_ns, one_way=True)
        overrun, self._overrun = self._overrun, False
        return Batch(t_ns, watts.reshape(-1, 1), clock, max(lost, int(overrun)))

    def switch(self, on: bool) -> None:
        """Refuse: a Joulescope feeds nothing."""
        raise UsageError(f"a Joulescope has no output to switch {'on' if on else 'off'}: switch what feeds it")

    def close(self) -> None:
        """Stop and let go of it."""
        if self._driver is None:
            return
        let_go(
            lambda: self._driver.publish(f"{self._path}/s/p/ctrl", 0),
            lambda: self._driver.close(self._path),
            self._driver.finalize,
        )


def _try(act: Callable[[], Any], trouble: str) -> Any:
    return attempt(act, f"the Joulescope {trouble}")


def make(given: Mapping[str, object], where: str) -> JoulescopeMeter:
    """Return the meter that a profile describes. Raises UsageError."""
    return JoulescopeMeter(Options(where, given, _KNOWN), _load)


def _load() -> Any:
    try:
        from pyjoulescope_driver import Driver
    except ModuleNotFoundError as error:
        raise UsageError("a Joulescope needs its package: pip install 'melt[joulescope]'") from error
    return Driver()
