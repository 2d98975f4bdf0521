"""powermetrics --samplers cpu_power,gpu_power,thermal -f plist [-n COUNT] -i MS: for root, 8 ms late each time."""

import itertools
import os
import plistlib
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, "/private/tools")

from load import Load

WORDS = ("Nominal", "Moderate", "Heavy", "Trapping", "Sleeping")
LEVEL = Path("/private/control/com.apple.system.thermalpressurelevel")


def option(names, default):
    return next((after for word, after in itertools.pairwise(sys.argv) if word in names), default)


if os.environ.get("STANDS_IN_FOR_ROOT") != "1":
    sys.exit("powermetrics must be invoked as the superuser")
count, period_s = int(option(("-n", "--sample-count"), "0")), int(option(("-i", "--sample-rate"), "5000")) / 1000
load, before_s = Load(), time.monotonic()
for _ in range(count) if count else itertools.count():
    time.sleep(period_s + 0.008)
    busy, now_s = load(), time.monotonic()
    elapsed_s, before_s = now_s - before_s, now_s
    cpu_mw, gpu_mw = 48.0 + 14000 * busy + 20 * random.random(), 19.0117
    clusters = [
        {
            "name": name,
            "freq_hz": 1.3e9,
            "cpus": [
                {"cpu": first + i, "freq_hz": 6e8 + 2.6e9 * busy, "idle_ratio": 1 - busy, "down_ratio": 0.0}
                for i in range(4)
            ],
        }
        for name, first in (("E-Cluster", 0), ("P-Cluster", 4))
    ]
    sample = {
        "is_delta": True,
        "elapsed_ns": int(elapsed_s * 1e9),
        "hw_model": "Macmini9,1",
        "thermal_pressure": WORDS[int(LEVEL.read_text()) if LEVEL.exists() else 0],
        "processor": {
            "clusters": clusters,
            "ane_energy": 0,
            "ane_power": 0.0,
            "cpu_energy": int(cpu_mw * elapsed_s),
            "cpu_power": cpu_mw,
            "gpu_energy": int(gpu_mw * elapsed_s),
            "gpu_power": gpu_mw,
            "combined_power": cpu_mw + gpu_mw,
        },
        "gpu": {"freq_hz": 444.0, "idle_ratio": 0.97, "gpu_energy": int(gpu_mw * elapsed_s)},
    }
    try:
        os.write(1, plistlib.dumps(sample) + b"\0")
    except BrokenPipeError:
        break
