"""How busy the Mac's own processes keep its CPUs; this machine's other work is none of it."""

import os
import time
from pathlib import Path


def busy_s():
    """Return the CPU time that all processes have taken, those that ended not counted."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split() if folder.name.isdigit() else None
        except OSError:
            continue
        if fields is not None:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Load:
    """The share of this machine's CPUs that was in use since the last question, 0 to 1."""

    def __init__(self):
        self._before = busy_s(), time.monotonic()

    def __call__(self):
        """Return it; what ended meanwhile may have taken more than is known."""
        now = busy_s(), time.monotonic()
        used = (now[0] - self._before[0]) / max(1e-3, now[1] - self._before[1]) / os.cpu_count()
        self._before = now
        return min(1.0, max(0.0, used))
