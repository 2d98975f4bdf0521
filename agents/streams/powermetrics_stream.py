"""Print what powermetrics measures, a JSON object a line: `python powermetrics_stream.py PERIOD_MS`.

powermetrics needs root: this user must be allowed to run it without a password (`sudo -n`). It prints a property list
of many lines per sample, separated by zero bytes; a line of this program holds the values of one sample as they are:

    {"elapsed_ns": 108023417, "thermal_pressure": "Nominal",
     "processor": {"cpu_power": 102.663, "gpu_power": 19.0, "ane_power": 0.0, "combined_power": 121.7},   mW
     "gpu": {"freq_hz": 444.0, "idle_ratio": 0.97},                                                       MHz (!)
     "cpus": [{"cpu": 0, "freq_hz": 1296410000.0, "idle_ratio": 0.33, "down_ratio": 0.0}, ...]}           Hz

Powers are means over `elapsed_ns` before the line, which is more than was asked for. Runs until it is killed, nobody
reads or powermetrics ends, whose complaints go to stderr and whose exit code it takes. powermetrics belongs to root, so
that only its own broken pipe ends it: one sample after this program. Python 3.8 and later, standard library only.
"""

from __future__ import annotations

import json
import os
import plistlib
import subprocess
import sys

SAMPLERS = "cpu_power,gpu_power,thermal"
END = b"</plist>"
_MOST_BYTES = 8 << 20
_OF_PROCESSOR = ("cpu_power", "gpu_power", "ane_power", "dram_power", "combined_power")
_OF_GPU = ("freq_hz", "idle_ratio")
_OF_CPU = ("cpu", "freq_hz", "idle_ratio", "down_ratio")


def main(argv):
    """Run the command line and return the exit code."""
    if len(argv) != 2 or not argv[1].isdigit() or int(argv[1]) < 1:
        print("usage: %s PERIOD_MS" % argv[0], file=sys.stderr)
        return 2
    command = ["sudo", "-n", "powermetrics", "--samplers", SAMPLERS, "-f", "plist", "-i", argv[1]]
    try:
        meter = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
    except OSError as error:
        print("cannot start %s: %s" % (command[0], error.strerror), file=sys.stderr)
        return 1
    try:
        for sample in samples(meter.stdout):
            print(json.dumps(sample), flush=True)
    except (BrokenPipeError, KeyboardInterrupt):
        # What is still in the buffer cannot be written: nothing may try to, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return meter.wait()


def samples(stdout):
    """Yield each sample as soon as it is whole; one that cannot be read is passed over, with a word on stderr."""
    pending = b""
    while True:
        chunk = os.read(stdout.fileno(), 1 << 16)
        if not chunk:
            return
        pending += chunk
        while END in pending:
            document, _, pending = pending.partition(END)
            sample = values(document + END)
            if sample is not None:
                yield sample
        if len(pending) > _MOST_BYTES:
            print("powermetrics printed %d bytes without an end" % len(pending), file=sys.stderr)
            pending = b""


def values(document):
    """Return what is wanted of one property list, None where it is none."""
    try:
        found = plistlib.loads(document.strip(b"\0 \t\r\n"))
    except Exception as error:
        # plistlib lets through whatever a parser of XML, numbers and dates may raise.
        print("a sample of powermetrics is no property list: %s" % error, file=sys.stderr)
        return None
    if not isinstance(found, dict):
        return None
    processor, gpu = _mapping(found.get("processor")), _mapping(found.get("gpu"))
    clusters = [_mapping(cluster) for cluster in _list(processor.get("clusters"))]
    cpus = [_mapping(cpu) for cluster in clusters for cpu in _list(cluster.get("cpus"))]
    return {
        "elapsed_ns": found.get("elapsed_ns"),
        "thermal_pressure": found.get("thermal_pressure"),
        "processor": {name: processor.get(name) for name in _OF_PROCESSOR},
        "gpu": {name: gpu.get(name) for name in _OF_GPU},
        "cpus": [{name: cpu.get(name) for name in _OF_CPU} for cpu in cpus],
    }


def _mapping(value):
    return value if isinstance(value, dict) else {}


def _list(value):
    return value if isinstance(value, list) else []


if __name__ == "__main__":
    sys.exit(main(sys.argv))
