"""macmon 0.6.1: `macmon pipe [-s SAMPLES] [-i MS]`, the power of a Mac mini with the load of this machine."""

import itertools
import json
import random
import sys
import time

sys.path.insert(0, "/private/tools")

from load import Load


def option(words, names, default):
    return next((int(after) for word, after in itertools.pairwise(words) if word in names), default)


words = sys.argv[1:]
if words in (["--version"], ["-V"]):
    print("macmon 0.6.1")
    sys.exit(0)
if words[:1] != ["pipe"]:
    sys.exit("error: unrecognized subcommand")
samples, period_s = option(words, ("-s", "--samples"), 0), option(words, ("-i", "--interval"), 1000) / 1000
load = Load()
due_s = time.monotonic()
for _ in range(samples) if samples else itertools.count():
    due_s += period_s
    time.sleep(max(0.0, due_s - time.monotonic()))
    busy = load()
    # No two readings of a meter are the same.
    cpu, gpu, ram = 0.05 + 14.0 * busy + random.random() / 50, 0.0174, 0.116 + 0.4 * busy
    line = {
        "all_power": cpu + gpu,
        "ane_power": 0.0,
        "cpu_power": cpu,
        "ecpu_usage": [972 + int(1000 * busy), busy],
        "gpu_power": gpu,
        "gpu_ram_power": 0.0,
        "gpu_usage": [461, 0.0218],
        "memory": {"ram_total": 17179869184, "ram_usage": 9063366656, "swap_total": 0, "swap_usage": 0},
        "pcpu_usage": [600 + int(2600 * busy), busy],
        "ram_power": ram,
        "sys_power": 5.2 + 1.15 * (cpu + gpu + ram),
        "temp": {"cpu_temp_avg": 41.2 + 30 * busy, "gpu_temp_avg": 36.97},
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00", time.gmtime()),
    }
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:
        sys.stdout = None
        break
