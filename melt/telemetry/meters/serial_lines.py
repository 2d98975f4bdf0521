"""Any meter that sends lines over a serial port: `columns` says what their numbers are. Needs the package pyserial.

API: https://pyserial.readthedocs.io/en/latest/pyserial_api.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from melt.errors import UsageError
from melt.telemetry.meters.base import MeterError
from melt.telemetry.meters.lines import LINE_OPTIONS, LineMeter
from melt.telemetry.meters.options import Options

_KNOWN = ("port", "baud", *LINE_OPTIONS)
_BAUD = 115200
_LOOK_S = 0.005


class SerialPort:
    """A serial port of this computer."""

    def __init__(self, port: str, baud: int) -> None:
        self._path, self._baud = port, baud
        self._port: Any = None

    @property
    def name(self) -> str:
        """The port."""
        return self._path

    def open(self) -> None:
        """Open it for this process alone."""
        try:
            import serial
        except ModuleNotFoundError as error:
            raise UsageError("a meter on a serial port needs pyserial: pip install 'melt[serial]'") from error
        try:
            # A read waits no longer than what `receive` is asked for, and looks at the clock itself.
            self._port = serial.Serial(self._path, self._baud, timeout=0, exclusive=True)
        except ValueError as error:
            raise UsageError(f"{self._path}: {error}") from error
        except OSError as error:
            raise MeterError(f"the meter's port {self._path} cannot be opened: {error.strerror or error}") from error

    def receive(self, timeout_s: float) -> bytes | None:
        """Return what came. Raises MeterError when the port is gone."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                data = bytes(self._port.read(self._port.in_waiting or 1))
            except OSError as error:
                raise MeterError(f"the meter's port {self._path} is gone: {error.strerror or error}") from error
            if data:
                return data
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            time.sleep(min(_LOOK_S, left_s))

    def close(self) -> None:
        """Give it back."""
        if self._port is not None:
            with suppress(OSError):
                self._port.close()


def make(given: Mapping[str, object], where: str) -> LineMeter:
    """Return the meter that a profile describes. Raises UsageError."""
    options = Options(where, given, _KNOWN)
    baud = options.number("baud", _BAUD)
    if baud != int(baud):
        raise options.wrong(f"baud: expected a whole number, found {baud:g}")
    return LineMeter(SerialPort(options.text("port"), int(baud)), options)
