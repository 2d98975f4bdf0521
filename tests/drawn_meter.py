"""A power meter that is a program: `drawn_meter.py FOLDER COLUMNS PHONE_PID FIRST_SEED normal|worst`.

Each time it is started it takes the next seed and plays that world: it watches what the phone below the process
PHONE_PID computes, says 5000 times a second what a meter would say of that, and writes the truth beside it.
"""

from __future__ import annotations

import fcntl
import math
import os
import random
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from drawn_power import RATE_HZ, Drawn, Floats, Power, Times, draw, heading

_PERIOD_NS = 1_000_000_000 // RATE_HZ
_VOLTS = 4.2
_LOOK_S, _SEEK_NS = 0.002, 5_000_000
_PIPE_BYTES = 1 << 20
_YOUNG_NS = 1_000_000_000
"""A process may become another program a moment after it was begun."""
_BURST, _RUNNER = b"melt-agent\0burst\0", b"/runner.json\0"
_HOLE_SAMPLES = 12
_KEPT_NS = 10_000_000
"""The last sample that was taken may lie before the last look."""


@dataclass(slots=True)
class Watch:
    """Tells which of a phone's programs computes: the runner, the agent's burst, or none that is known."""

    root: int
    _known: dict[int, int] = field(default_factory=dict)
    _found: dict[int, bytes] = field(default_factory=dict)
    _sought_ns: int = 0

    def computing(self, now_ns: int) -> bytes | None:
        if now_ns - self._sought_ns > _SEEK_NS:
            self._sought_ns = now_ns
            self._seek(now_ns)
        return next((what for pid, what in self._found.items() if _state(pid)[0] == b"R"), None)

    def _seek(self, now_ns: int) -> None:
        alive = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
        self._known = {pid: since for pid, since in self._known.items() if pid in alive}
        self._found = {pid: what for pid, what in self._found.items() if pid in alive}
        for pid in alive:
            if now_ns - self._known.setdefault(pid, now_ns) < _YOUNG_NS and pid not in self._found:
                with suppress(OSError):
                    told = Path(f"/proc/{pid}/cmdline").read_bytes()
                    what = next((word for word in (_BURST, _RUNNER) if word in told), None)
                    if what is not None and self._is_below(pid):
                        self._found[pid] = what

    def _is_below(self, pid: int) -> bool:
        while pid > 1 and pid != self.root:
            pid = int(_state(pid)[1])
        return pid == self.root


def _state(pid: int) -> tuple[bytes, bytes]:
    """Return the state and the parent of a process; of one that is gone those of none."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return b"X", b"0"
    return words[0], words[1]


class World:
    """The true power as it unfolds. What was true once stays so: it is written down at once."""

    def __init__(self, drawn: Drawn, folder: Path) -> None:
        self.drawn, self.began_ns = drawn, time.monotonic_ns()
        self._chance = random.Random(drawn.seed)
        self._truth = (folder / f"truth-{drawn.seed}").open("x", buffering=1)
        self._truth.write(heading(drawn, self.began_ns))
        self._rows: deque[tuple[int, float, float]] = deque()
        self._level, self._jumps_ns = 1.0, self.began_ns
        self._computes: bytes | None = None
        self._goes_on_ns = self.began_ns
        self._change(self.began_ns)

    def unfold(self, now_ns: int, computes: bytes | None) -> Power:
        """Return the power since the last time, up to now."""
        while self._jumps_ns <= now_ns:
            self._level = self._chance.choice([0.2, 0.5, 1.0, 1.5])
            self._change(self._jumps_ns)
            self._jumps_ns += round(self._chance.expovariate(1 / self.drawn.dwell_s) * 1e9) + 1
        if computes != self._computes:
            self._computes = computes
            self._change(now_ns)
        while len(self._rows) > 1 and self._rows[1][0] <= self._goes_on_ns - _KEPT_NS:
            self._rows.popleft()
        self._goes_on_ns = now_ns
        t_ns, watts, slopes = zip(*self._rows, strict=True)
        return Power(self.drawn, self.began_ns, np.array(t_ns, np.int64), np.array(watts), np.array(slopes))

    def _change(self, at_ns: int) -> None:
        one = self.drawn
        by_itself = 0.0 if one.follows else self._level / 4
        # A burst is the same work throughout, and so is its power.
        computing = {_BURST: 1.0, _RUNNER: self._level if one.follows else 1.0}.get(self._computes or b"", 0.0)
        watts = one.load_w * (by_itself + computing)
        slope = self._chance.uniform(0.0, 2.0) * watts if one.sloping and one.dwell_s < 0.2 and computing else 0.0
        self._rows.append((at_ns, watts, slope))
        self._truth.write(f"{at_ns} {watts!r} {slope!r}\n")


class Meter:
    """What a meter of that world says, and when it arrives."""

    def __init__(self, drawn: Drawn, columns: str, began_ns: int) -> None:
        self._drawn, self._columns, self._began_ns = drawn, columns, began_ns
        self._rng = np.random.default_rng(drawn.seed)
        self._chance = random.Random(-drawn.seed)
        self._taken, self._counted_ns, self._joules = 0, began_ns, 0.0
        self._portion: list[str] = []
        self._portion_ends_ns = began_ns
        self._under_way: deque[tuple[int, bytes]] = deque()
        self._hole_from = self._next_hole(0)

    def measure(self, power: Power, now_ns: int) -> None:
        """Take the samples that were due by now."""
        one = self._drawn
        period_ns = _PERIOD_NS * (1 + one.ppm * 1e-6)
        due = math.floor((now_ns - self._began_ns) / period_ns - one.phase)
        which = np.arange(self._taken, max(self._taken, due))
        self._taken += len(which)
        true_ns = self._began_ns + np.rint((which + one.phase) * period_ns).astype(np.int64)
        told_ns = one.offset_ns + np.rint((which + one.phase) * _PERIOD_NS).astype(np.int64)
        for k, line in zip(which, self._lines(power, true_ns, told_ns), strict=True):
            if k >= self._hole_from + _HOLE_SAMPLES:
                self._hole_from = self._next_hole(int(k))
            if k < self._hole_from and self._chance.random() >= one.lost:
                self._portion.append(line)

    def _next_hole(self, after: int) -> float:
        each_s = self._drawn.hole_each_s
        return math.inf if math.isinf(each_s) else after + self._chance.uniform(0.5, 1.5) * each_s * RATE_HZ

    def _lines(self, power: Power, true_ns: Times, told_ns: Times) -> list[str]:
        one = self._drawn
        if not len(true_ns):
            return []
        if self._columns == "time_ns,j":
            counts = power.counted_j(np.append(self._counted_ns, true_ns))
            joules = self._joules + one.gain * (counts[1:] - counts[0])
            self._counted_ns, self._joules = int(true_ns[-1]), float(joules[-1])
            return [f"{t},{j:.6f}\n" for t, j in zip(told_ns, joules, strict=True)]
        watts = one.gain * power.at(true_ns) * (1 + one.noise * self._rng.standard_normal(len(true_ns)))
        if self._columns == "time_ns,w":
            return [f"{t},{w:.5g}\n" for t, w in zip(told_ns, _in_steps(watts, one.step), strict=True)]
        amps = _in_steps(watts / _VOLTS, one.step / 4)
        return [f"{t / 1e3:.3f},{_VOLTS},{1e3 * a:.6g}\n" for t, a in zip(told_ns, amps, strict=True)]

    def deliver(self, now_ns: int) -> None:
        """Send what is due: in portions, each late, none before the one before it."""
        one = self._drawn
        if now_ns >= self._portion_ends_ns:
            self._portion_ends_ns = now_ns + round(one.portion_s * 1e9)
            late_ns = round((one.late_s + self._chance.uniform(0, one.jitter_s)) * 1e9)
            self._under_way.append((now_ns + late_ns, "".join(self._portion).encode()))
            self._portion = []
        while self._under_way and self._under_way[0][0] <= now_ns:
            data = memoryview(self._under_way.popleft()[1])
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]


def _in_steps(values: Floats, step: float) -> Floats:
    return np.rint(values / step) * step


def _take_seed(folder: Path, seed: int) -> int:
    """Return the first seed from `seed` on that none before took."""
    while (folder / f"truth-{seed}").exists():
        seed += 1
    return seed


def main(folder: Path, columns: str, phone: int, first: int, worst: bool) -> None:
    with suppress(OSError):
        fcntl.fcntl(sys.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    with suppress(OSError):
        os.nice(-10)  # it stands for an instrument, which waits for nobody
    drawn = draw(_take_seed(folder, first), worst=worst)
    world, watch = World(drawn, folder), Watch(phone)
    meter = Meter(drawn, columns, world.began_ns)
    while True:
        now_ns = time.monotonic_ns()
        meter.measure(world.unfold(now_ns, watch.computing(now_ns)), now_ns)
        meter.deliver(now_ns)
        time.sleep(_LOOK_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "worst")
