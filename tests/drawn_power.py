"""A power and a meter of it, drawn from a seed: what the meter says is made from what is true, and the truth is kept.

Everything is told on this computer's monotonic clock. The power is a sum of a rest that may lean, a ripple, and a load
that jumps and slopes at moments that a run decides: `drawn_meter.py` watches a phone's programs and plays it.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

ACCURACY = 0.01
"""The class that each meter states. Its true gain is drawn within it."""
LATENCY_S = 0.02
"""How long the fastest of its lines may be on its way, as its profile states."""
RATE_HZ = 5000
MOST_JITTER_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One seed's world.

    The device: `rest_w` grows by `leaning_w_s` each second; `ripple_w` goes up and down each `ripple_s`; the load is
    about `load_w`, another one after `dwell_s` on average; one that `follows` is there only while the device computes.
    The meter: gain, drift, counts and noise (a share), what it loses, and how late and in which portions it delivers.
    The link: each packet takes up to so long to the phone and back.
    """

    seed: int
    rest_w: float
    leaning_w_s: float
    ripple_w: float
    ripple_s: float
    load_w: float
    dwell_s: float
    sloping: bool
    follows: bool
    gain: float
    ppm: float
    offset_ns: int
    phase: float
    noise: float
    step: float
    lost: float
    hole_each_s: float
    late_s: float
    jitter_s: float
    portion_s: float
    to_phone_s: float
    from_phone_s: float


def draw(seed: int, *, worst: bool) -> Drawn:
    """Draw a world. The worst: all that the lines may be late, both ways of a link unlike, 100 to 150 ppm of drift."""
    chance = random.Random(f"{seed} {worst}")
    slow, fast = MOST_JITTER_S, chance.uniform(0.0, 0.004)
    ways = chance.choice([(slow, slow), (slow, fast), (fast, slow)])
    return Drawn(
        seed=seed,
        rest_w=chance.uniform(0.3, 4.0),
        leaning_w_s=chance.choice([0.0, 0.0, 1.0]) * chance.uniform(-0.01, 0.01),
        ripple_w=chance.uniform(0.0, 0.3),
        ripple_s=chance.uniform(0.003, 0.012),
        load_w=chance.uniform(1.0, 8.0),
        dwell_s=chance.choice([0.005, 0.02, 0.1, 0.5]),
        sloping=chance.random() < 1 / 3,
        follows=chance.random() < 2 / 3,
        gain=1.0 + chance.uniform(-ACCURACY, ACCURACY),
        ppm=chance.choice([-1, 1]) * chance.uniform(100, 150) if worst else chance.uniform(-50, 50),
        offset_ns=chance.randrange(-(10**15), 10**15),
        phase=chance.random(),
        noise=chance.choice([0.0, 0.003, 0.02]),
        step=chance.choice([1e-5, 1e-3, 5e-3]),
        lost=chance.choice([0.0, 5e-4, 3e-3]),
        hole_each_s=chance.choice([math.inf, math.inf, math.inf, 2.0]),
        late_s=0.6 * LATENCY_S if worst else chance.uniform(0.0, 0.4) * LATENCY_S,
        jitter_s=MOST_JITTER_S if worst else 0.005,
        portion_s=chance.choice([0.002, 0.005, 0.016, 0.02, 0.025, 0.05]),
        to_phone_s=ways[0] if worst else 0.004,
        from_phone_s=ways[1] if worst else 0.004,
    )


@dataclass(frozen=True, slots=True)
class Power:
    """The true power since `began_ns`: from each of `t_ns` on the load is `watts` and grows by `slopes` a second."""

    drawn: Drawn
    began_ns: int
    t_ns: Times
    watts: Floats
    slopes: Floats

    def at(self, t_ns: Times) -> Floats:
        """Return the power at moments, in W."""
        since_s = (t_ns - self.began_ns) / 1e9
        steady = self.drawn.rest_w + self.drawn.leaning_w_s * since_s
        ripple = self.drawn.ripple_w * np.sin(2 * np.pi / self.drawn.ripple_s * since_s)
        which = np.searchsorted(self.t_ns, t_ns, "right") - 1
        load = self.watts[which] + self.slopes[which] * (t_ns - self.t_ns[which]) / 1e9
        return np.asarray(steady + ripple + load, np.float64)

    def energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """Return its integral between two moments."""
        first_j, last_j = self.counted_j(np.array([t0_ns, t1_ns]))
        return float(last_j - first_j)

    def counted_j(self, t_ns: Times) -> Floats:
        """Return its integral from the first change of the load to each of some later moments."""
        since_s = (t_ns - self.began_ns) / 1e9
        turn = 2 * math.pi / self.drawn.ripple_s
        steady_j = self.drawn.rest_w * since_s + self.drawn.leaning_w_s * since_s**2 / 2
        ripple_j = -self.drawn.ripple_w * np.cos(turn * since_s) / turn
        lasted_s = np.diff(self.t_ns) / 1e9
        changes_j = self.watts[:-1] * lasted_s + self.slopes[:-1] * lasted_s**2 / 2
        which = np.searchsorted(self.t_ns, t_ns, "right") - 1
        into_s = (t_ns - self.t_ns[which]) / 1e9
        load_j = np.append(0.0, np.cumsum(changes_j))[which]
        return np.asarray(
            steady_j + ripple_j + load_j + self.watts[which] * into_s + self.slopes[which] * into_s**2 / 2, np.float64
        )

    def measured_ns(self, told_ns: int) -> int:
        """Return when it was on this computer's clock what the meter's clock tells."""
        return self.began_ns + round((told_ns - self.drawn.offset_ns) * (1 + self.drawn.ppm * 1e-6))

    def rest_j(self, t0_ns: int, t1_ns: int) -> float:
        """Return what the device would have taken at rest."""
        a_s, b_s = ((t - self.began_ns) / 1e9 for t in (t0_ns, t1_ns))
        return (b_s - a_s) * (self.drawn.rest_w + self.drawn.leaning_w_s * (a_s + b_s) / 2)


def heading(drawn: Drawn, began_ns: int) -> str:
    """Return the first line of a file of the truth; a line `t_ns watts slope` for each change of the load follows."""
    return json.dumps({"began_ns": began_ns, "drawn": asdict(drawn)}) + "\n"


def read_power(path: Path) -> Power:
    """Return the truth that a meter wrote; of a line that was cut short nothing counts."""
    first, *lines = path.read_text().rpartition("\n")[0].split("\n")
    document: Mapping[str, Any] = json.loads(first)
    rows = [line.split() for line in lines]
    return Power(
        Drawn(**document["drawn"]),
        document["began_ns"],
        np.array([int(row[0]) for row in rows], np.int64),
        np.array([float(row[1]) for row in rows]),
        np.array([float(row[2]) for row in rows]),
    )
