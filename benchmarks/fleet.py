"""Measure what a controller costs with a shelf of devices: simulated devices, a clock that skips idle time.

    python benchmarks/fleet.py [--devices 1,8,32,64,128,200] [--cells 8] [--cell-s 60] [--quiet]

Conductor, collecting, reading of journals, live progress, analysis and the store are melt's own, on this machine's
cores and disk; only the transport, the device behind it and the idle time are made up (benchmarks/simulated_device.py).
Each size runs in a process of its own. Exit code 0 when every bound holds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from unittest.mock import patch

from rich.console import Console
from rich.table import Table
from simulated_device import SimulatedDevice
from skipping_clock import SkippingClock

from melt import _layout
from melt.fleet.conductor import Conducted, conduct
from melt.models.inspect import inspect
from melt.plan.expand import expand
from melt.plan.ids import new_id
from melt.plan.model import ModelChoice, Plan
from melt.records import Outcome, Repeat, Workload
from melt.store.store import Store

_MODEL = Path(_layout.__file__).parent / "models" / "data" / "tiny-pydoc-f16.gguf"
_BOUND_DEVICES = 64
_BUSY_RATIO = 0.95
_MIB_PER_DEVICE = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one size came to. `busy_ratio` is over all devices, from their first run to the end of their last cell."""

    devices: int
    cells: int
    busy_ratio: float
    worst_busy_ratio: float
    overhead_s: float
    first_run_s: float
    cpu_s_per_device_hour: float
    cores: float
    peak_mib: float
    real_s: float


def measure(devices: int, cells: int, cell_s: float, folder: Path, *, quiet: bool = False) -> Figures:
    """Let the fleet work off its cells; `quiet`: as if nothing else ran on this machine.

    Exits where a run did not end well, because then it cost something else.
    """
    work_ns = time.process_time_ns if quiet else time.monotonic_ns
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    # What is imported, compiled and recorded once is no cost of a device.
    _work_off(SkippingClock(1, work_ns), 1, 1, cell_s, folder / "before")
    cpu_s, real_s = time.process_time(), time.perf_counter()
    shelf, done, took_s = _work_off(SkippingClock(devices, work_ns), devices, cells, cell_s, folder / "store")
    cpu_s, real_s = time.process_time() - cpu_s, time.perf_counter() - real_s
    bad = [b.stop.reasons for b in done.bundles if b.stop.outcome is not Outcome.OK]
    if bad or done.troubles or len(done.bundles) != devices * cells:
        sys.exit(f"fleet: {len(done.bundles)} of {devices * cells} runs, {done.troubles[:1]} {bad[:1]}")
    runs = [device.runs for device in shelf]
    # The last cell of a device is counted up to its end only: what is done after it keeps no device from working.
    shares = [cell_s * len(own) * 1e9 / (own[-1][1] - own[0][0]) for own in runs]
    gaps = [(b[0] - a[1]) / 1e9 for own in runs for a, b in itertools.pairwise(own)]
    begun_ns = min(device.opened_ns for device in shelf)
    return Figures(
        devices=devices,
        cells=cells,
        busy_ratio=statistics.mean(shares),
        worst_busy_ratio=min(shares),
        overhead_s=statistics.median(gaps),
        first_run_s=max(own[0][0] - begun_ns for own in runs) / 1e9,
        cpu_s_per_device_hour=cpu_s / (devices * took_s / 3600),
        cores=cpu_s / took_s,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        real_s=real_s,
    )


def _work_off(
    clock: SkippingClock, devices: int, cells: int, cell_s: float, store: Path
) -> tuple[list[SimulatedDevice], Conducted, float]:
    """Conduct a sweep on new devices into a new store; return them, what came of it, and the seconds it took."""
    shelf = {f"ssh:board-{i}": SimulatedDevice(i, clock, cell_s) for i in range(devices)}
    artifact = inspect(_MODEL)
    plan = Plan(
        name="fleet",
        models=(ModelChoice(model="tiny-pydoc"),),
        workloads=(Workload(n_prompt=512, n_gen=128),),
        devices=tuple(shelf),
        repeat=Repeat(repetitions=5, sessions=cells),
    )
    specs = expand(plan, sweep_id=new_id(), new_run_id=new_id)
    with (
        Store.open(store) as opened,
        patch("melt.session.connect.open_transport", shelf.__getitem__),
        clock.injected(),
    ):
        begun_ns = clock.now_ns()
        done = conduct(specs, opened, lambda *_: artifact, observe=lambda _: None, stop=Event())
        return list(shelf.values()), done, (clock.now_ns() - begun_ns) / 1e9


def apart(devices: int, cells: int, cell_s: float, *, quiet: bool) -> Figures:
    """Measure in a process of its own, which has no memory of the sizes before."""
    print(f"fleet: {devices} devices, {cells} cells of {cell_s:g} s each", file=sys.stderr, flush=True)
    words = [sys.executable, __file__, "--one", str(devices), "--cells", str(cells), "--cell-s", str(cell_s)]
    words += ["--quiet"] if quiet else []
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"fleet: {devices} devices could not be measured")
    return Figures(**json.loads(done.stdout))


def per_device_mib(one: Figures, least: Figures) -> float:
    """Return by how much memory grows with each device beyond those of the smallest size."""
    return (one.peak_mib - least.peak_mib) / max(1, one.devices - least.devices)


def table(found: list[Figures], title: str) -> Table:
    headers = (
        "devices",
        "busy",
        "least busy",
        "overhead per cell",
        "all started after",
        "host CPU per device-hour",
        "cores",
        "peak memory",
        "MiB a device",
    )
    shown = Table(*headers, title=title)
    for one in found:
        grown = "" if one is found[0] else f"{per_device_mib(one, found[0]):.2f}"
        shown.add_row(
            str(one.devices),
            f"{one.busy_ratio:.1%}",
            f"{one.worst_busy_ratio:.1%}",
            f"{one.overhead_s:.2f} s",
            f"{one.first_run_s:.1f} s",
            f"{one.cpu_s_per_device_hour:.1f} s",
            f"{one.cores:.2f}",
            f"{one.peak_mib:.0f} MiB",
            grown,
        )
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a controller costs with a shelf of devices.")
    parser.add_argument("--devices", default="1,8,32,64,128,200", help="sizes (default: 1,8,32,64,128,200)")
    parser.add_argument("--cells", type=int, default=8, help="cells on each device (default: 8)")
    parser.add_argument("--cell-s", type=float, default=60.0, help="how long the runner works (default: 60)")
    parser.add_argument("--quiet", action="store_true", help="count CPU time alone, where other programs run, too")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        with tempfile.TemporaryDirectory(prefix="melt-fleet-") as name:
            print(json.dumps(asdict(measure(args.one, args.cells, args.cell_s, Path(name), quiet=args.quiet))))
        return 0
    load = os.getloadavg()[0]
    found = [apart(int(size), args.cells, args.cell_s, quiet=args.quiet) for size in args.devices.split(",")]
    title = f"{args.cells} cells of {args.cell_s:g} s on each; {os.cpu_count()} cores, load {load:.1f} before"
    title += "; CPU time of melt alone" if args.quiet else ""
    Console(width=140).print(table(found, title))
    bound = [one for one in found if one.devices == _BOUND_DEVICES]
    holds = all(one.busy_ratio >= _BUSY_RATIO and per_device_mib(one, found[0]) < _MIB_PER_DEVICE for one in bound)
    print(f"bounds at {_BOUND_DEVICES} devices: busy >= {_BUSY_RATIO:.0%}, memory < {_MIB_PER_DEVICE:g} MiB a device")
    print("holds" if bound and holds else "MISSED" if bound else "not measured at that size")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
