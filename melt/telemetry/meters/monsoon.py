"""Monsoon High Voltage Power Monitor (HVPM), its main channel at 5 kHz. Needs `monsoon`; not run on hardware.

`monsoon` finds the meter, sets its voltage and reads its packets; what a packet holds is worked out here, because the
package's own engine starts anew without a word when the USB link breaks. Packets and their calibration:
https://github.com/msoon/PyMonsoon (HVPM.py, sampleEngine.py).
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melt.errors import MeltError, UsageError
from melt.telemetry.meters.base import (
    AMPS,
    READ_S,
    VOLTS,
    Batch,
    ClockReading,
    MeterError,
    MeterFacts,
    attempt,
    let_go,
)
from melt.telemetry.meters.options import Options
from melt.traces import Values

RATE_HZ = 5000
_KNOWN = ("serial_number", "voltage_v", "accuracy")
_LATENCY_NS = 4_000_000
"""A packet of three samples leaves the meter each 0.6 ms; the soonest of many waits for a few more at most."""
_PACKET_BYTES, _OBSERVATIONS = 64, 3
_HEADER = np.dtype([("dropped", "<u2"), ("flags", "u1"), ("n", "u1")])
_OBSERVATION = np.dtype([("adc", ">u2", (8,)), ("gain", "u1"), ("kind", "u1")])
_KIND_BITS, _MEASURED, _ZERO, _REFERENCE = 0x30, 0x00, 0x10, 0x30
_COARSE, _FINE, _MAIN_VOLTS = 0, 1, 6
_FINE_BELOW = 64_000
"""Above it the fine range is at its end, and the coarse one counts."""
_VOLTS_PER_COUNT = 62.5e-6 * 4
_CALIBRATIONS_KEPT = 5
_CALIBRATE_EACH_MS = 1250
_CALIBRATED_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Scales:
    """What a meter keeps of its own calibration: milliamperes of the reference, and offsets in counts."""

    coarse_ma: float
    fine_ua: float
    coarse_zero: float
    fine_zero: float


@dataclass(slots=True)
class Decoder:
    """Turns packets into samples. Between measurements the meter measures nothing and a reference: the means of the
    last five of each say what a count is worth.
    """

    scales: Scales
    zeros: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_CALIBRATIONS_KEPT))
    references: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_CALIBRATIONS_KEPT))

    @property
    def is_calibrated(self) -> bool:
        """Whether enough was seen to say what a count is worth."""
        return len(self.zeros) == len(self.references) == _CALIBRATIONS_KEPT

    def decode(self, packet: bytes) -> tuple[int, Values]:
        """Return a packet's count of dropped samples (16 bits) and its rows of volts and amperes; NaN: calibrating.

        Calibrations take the place of measurements: their rows keep the time. Raises ValueError on half a packet.
        """
        if len(packet) < _HEADER.itemsize:
            raise ValueError("half a packet")
        header = np.frombuffer(packet, _HEADER, 1)[0]
        n = min(int(header["n"]), _OBSERVATIONS)
        if len(packet) < _HEADER.itemsize + n * _OBSERVATION.itemsize:
            raise ValueError("half a packet")
        seen = np.frombuffer(packet, _OBSERVATION, n, _HEADER.itemsize)
        rows = np.full((n, 2), np.nan)
        for row, one in zip(rows, seen, strict=True):
            kind = int(one["kind"]) & _KIND_BITS
            coarse, fine = int(one["adc"][_COARSE]), int(one["adc"][_FINE])
            if kind == _ZERO and coarse and fine:
                self.zeros.append((coarse, fine))
            elif kind == _REFERENCE and coarse and fine:
                self.references.append((coarse, fine))
            elif kind == _MEASURED and self.is_calibrated:
                row[:] = int(one["adc"][_MAIN_VOLTS]) * _VOLTS_PER_COUNT, self._amps(coarse, fine)
        return int(header["dropped"]), rows

    def _amps(self, coarse: int, fine: int) -> float:
        if fine < _FINE_BELOW:
            return self._scaled(fine, 1, self.scales.fine_ua, self.scales.fine_zero) / 1e6
        return self._scaled(coarse, 0, self.scales.coarse_ma, self.scales.coarse_zero) / 1e3

    def _scaled(self, count: int, which: int, scale: float, offset: float) -> float:
        zero = offset + _mean(self.zeros, which)
        span = _mean(self.references, which) - zero
        return (count - zero) * scale / span if span else float("nan")


class MonsoonMeter:
    """The meter as it is fed by `monsoon.HVPM`. Its clock counts samples, those that it says it dropped included."""

    def __init__(self, options: Options, find: Callable[[int | None], Any]) -> None:
        self._serial = int(options.number("serial_number")) if options.has("serial_number") else None
        self._volts = options.number("voltage_v") if options.has("voltage_v") else None
        self._accuracy = options.share("accuracy")
        self._find = find
        self._hvpm: Any = None
        self._decoder: Decoder | None = None
        self._counted = 0
        self._dropped: int | None = None

    def open(self) -> MeterFacts:
        """Reach the meter; its output stays as it is."""
        try:
            self._hvpm = self._find(self._serial)
            self._hvpm.fillStatusPacket()
            said = self._hvpm.statusPacket
        except MeltError:
            raise
        except Exception as error:
            raise MeterError(
                f"the Monsoon does not answer: is it on, plugged in, and may this user use it? ({error})"
            ) from error
        self._decoder = Decoder(
            Scales(said.mainCoarseScale, said.mainFineScale, said.mainCoarseZeroOffset, said.mainFineZeroOffset)
        )
        return MeterFacts(
            name=f"Monsoon HVPM {said.serialNumber}, firmware {said.firmwareVersion}",
            columns=(VOLTS, AMPS),
            rate_hz=RATE_HZ,
            accuracy=self._accuracy,
            calibration=f"by itself against its reference each {_CALIBRATE_EACH_MS} ms",
        )

    def start(self) -> None:
        """Begin to sample and wait for the first calibration. Raises MeterError."""
        _try(lambda: self._hvpm.StartSampling(_CALIBRATE_EACH_MS, 0xFFFFFFFF), "does not start")
        deadline = time.monotonic() + _CALIBRATED_WITHIN_S
        while self._decoder is None or not self._decoder.is_calibrated:
            self.read()
            if time.monotonic() > deadline:
                raise MeterError(f"the Monsoon did not calibrate itself within {_CALIBRATED_WITHIN_S:.0f} s")

    def read(self) -> Batch | None:
        """Return what came within READ_S. Raises MeterError where the link is gone."""
        decoder = self._decoder
        if decoder is None:
            raise MeterError("the Monsoon was not opened")
        rows: list[Values] = []
        times: list[NDArray[np.int64]] = []
        lost = unread = 0
        deadline = time.monotonic() + READ_S
        while time.monotonic() < deadline:
            data = bytes(_try(self._hvpm.BulkRead, "is gone"))
            for first in range(0, len(data), _PACKET_BYTES):
                try:
                    dropped, found = decoder.decode(data[first : first + _PACKET_BYTES])
                except ValueError:
                    unread += 1
                    continue
                more = 0 if self._dropped is None else (dropped - self._dropped) % (1 << 16)
                self._dropped = dropped
                lost += more
                at = self._counted + more + np.arange(len(found), dtype=np.int64)
                self._counted += more + len(found)
                times.append(at * (1_000_000_000 // RATE_HZ))
                rows.append(found)
        if not rows:
            return Batch(np.empty(0, np.int64), np.empty((0, 2)), lost=lost, unread=unread)
        t_ns, now_ns = np.concatenate(times), time.monotonic_ns()
        clock = ClockReading(now_ns - _LATENCY_NS, int(t_ns[-1]), now_ns, one_way=True) if len(t_ns) else None
        return Batch(t_ns, np.concatenate(rows), clock, lost, unread)

    def switch(self, on: bool) -> None:
        """Set the main channel to `voltage_v`, or to 0 V."""
        if on and self._volts is None:
            raise UsageError("the Monsoon's `voltage_v` is not in the profile: say what the device is to get")
        _try(lambda: self._hvpm.setVout(self._volts if on else 0), "does not switch its output")

    def close(self) -> None:
        """Stop sampling and let go of it; the output stays on."""
        if self._hvpm is not None:
            let_go(self._hvpm.stopSampling, self._hvpm.closeDevice)


def _try(act: Callable[[], Any], trouble: str) -> Any:
    return attempt(act, f"the Monsoon {trouble}")


def make(given: Mapping[str, object], where: str) -> MonsoonMeter:
    """Return the meter that a profile describes. Raises UsageError."""
    return MonsoonMeter(Options(where, given, _KNOWN), _find)


def _find(serial_number: int | None) -> Any:
    try:
        from Monsoon import HVPM, pmapi
    except ModuleNotFoundError as error:
        raise UsageError("a Monsoon needs its package: pip install 'melt[monsoon]'") from error
    found, protocol = HVPM.Monsoon(), pmapi.USB_protocol()
    # It prints what it finds, where melt prints data.
    with redirect_stdout(sys.stderr):
        found.setup_usb(serial_number, protocol)
    if protocol.DEVICE is None:
        raise MeterError("no Monsoon is here: is it on and plugged in, and may this user use its USB device?")
    return found


def _mean(pairs: Sequence[tuple[int, int]] | deque[tuple[int, int]], which: int) -> float:
    return sum(pair[which] for pair in pairs) / len(pairs)
