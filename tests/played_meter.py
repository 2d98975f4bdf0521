"""A power meter whose true energy is known: a program that prints what one would, 5000 times a second."""

from __future__ import annotations

import math
import sys
from pathlib import Path

IDLE_W = 3.0
_SWING_W, _PERIOD_S = 2.0, 0.037
_PROGRAM = f"""\
import math, os, sys, time
began_ns = time.monotonic_ns()
drift, step_ns, k, trouble = 50e-6, 200_000, 0, sys.argv[2]
while True:
    now_ns = time.monotonic_ns()
    lines = []
    while began_ns + k * step_ns <= now_ns:
        t_ns = began_ns + k * step_ns
        watts = {IDLE_W} + {_SWING_W} * math.sin(2 * math.pi * t_ns / 1e9 / {_PERIOD_S})
        told_ns = round((t_ns - began_ns) * (1 - drift)) + 12345
        if trouble == "clock set" and t_ns - began_ns > 4_000_000_000:
            told_ns -= 600_000_000
        watts *= {{"turned round": -1, "wrong unit": 1e6}}.get(trouble, 1)
        lines.append(f"{{told_ns}},4.2,{{watts / 4.2!r}}\\n")
        k += 1
        if trouble == "garbage" and k % 30 == 0:
            lines[-1] = "\\x7f12,4.2,\\n"
        if trouble == "spikes" and k % 500 == 0:
            lines[-1] = f"{{told_ns}},4.2,1e9\\n"
    sys.stdout.write("".join(lines))
    sys.stdout.flush()
    if os.path.exists(sys.argv[1]):
        break
    time.sleep(0.002)
"""
"""A clock of its own that is 50 ppm slow; what it measures goes up and down as this computer's clock says.

It is unplugged by a file of the name that it is given; the second word is what troubles it.
"""


def name_meter(folder: Path, match: str, trouble: str = "none") -> Path:
    """Write a lab's folder of profiles, in which what `match` describes hangs on the meter. Return the folder.

    The meter is unplugged by a file `unplugged` in `folder`. `trouble`: garbage, spikes, clock set,
    turned round, wrong unit.
    """
    profiles, program = folder / "devices", folder / "meter.py"
    profiles.mkdir()
    program.write_text(_PROGRAM)
    (profiles / "bench.yaml").write_text(
        f"title: bench\nmatch: {match}\nmeter:\n  kind: lines\n"
        f"  command: [{sys.executable}, {program}, {folder / 'unplugged'}, {trouble}]\n"
        "  columns: [time_ns, v, a]\n  rate_hz: 5000\n  latency_s: 0.004\n  accuracy: 0.001\n"
    )
    return profiles


def true_j(t0_ns: int, t1_ns: int) -> float:
    """Return the energy between two moments of this computer's monotonic clock."""
    turn = 2 * math.pi / _PERIOD_S
    swing = (math.cos(turn * t0_ns / 1e9) - math.cos(turn * t1_ns / 1e9)) / turn
    return IDLE_W * (t1_ns - t0_ns) / 1e9 + _SWING_W * swing
