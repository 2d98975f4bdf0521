"""Print the energy counters of an Apple chip, a JSON object a line: `python ioreport_stream.py PERIOD_MS`.

Needs zeus-apple-silicon (1.1.0) and no rights. A line holds the fields of its AppleEnergyMetrics as they are: whole
millijoules since the Mac was started, null where the chip has no such counter, a list where there are several clusters:

    {"cpu_total_mj": 81042, "gpu_mj": 5120, "dram_mj": 9077, "efficiency_cluster_mj": [1200], ...}

The numbers are the chip's own model of what it consumes, and the driver renews them when it likes: every reading
between two of its updates prints the same again. Runs until it is killed or nobody reads; exit code 1 with one sentence
where there are no counters (a virtual Mac, another processor). Python 3.9 and later.
"""

from __future__ import annotations

import json
import os
import sys
import time

FIELDS = (
    "cpu_total_mj",
    "gpu_mj",
    "gpu_sram_mj",
    "dram_mj",
    "ane_mj",
    "efficiency_cluster_mj",
    "performance_cluster_mj",
)


def main(argv):
    """Run the command line and return the exit code."""
    if len(argv) != 2 or not argv[1].isdigit() or int(argv[1]) < 1:
        print("usage: %s PERIOD_MS" % argv[0], file=sys.stderr)
        return 2
    try:
        from zeus_apple_silicon import AppleEnergyMonitor

        stream(AppleEnergyMonitor(), int(argv[1]) / 1000)
    except (ImportError, RuntimeError, ValueError) as error:
        print("no energy counters: %s" % error, file=sys.stderr)
        return 1
    except (BrokenPipeError, KeyboardInterrupt):
        # What is still in the buffer cannot be written: nothing may try to, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def stream(monitor, period_s):
    """Print a line each period, on a grid, so that a late one does not delay those that follow."""
    due_s = time.monotonic()
    while True:
        reading = monitor.get_cumulative_energy()
        print(json.dumps({name: getattr(reading, name) for name in FIELDS}), flush=True)
        now_s = time.monotonic()
        due_s = max(due_s + period_s, now_s - period_s)
        time.sleep(max(0.0, due_s - now_s))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
