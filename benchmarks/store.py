"""Measure the results store beside flat files (JSON, JSON lines, CSV) that hold the same runs and answer the same.

    python -m benchmarks.store [--runs 10000] [--samples 100000000] [--folder DIR] [--rounds 5]

The runs are drawn from one of tiny-pydoc that was measured on this machine. A folder that has them is used again, one
that has some of them is filled up; each measured publication leaves a run more. Every figure is taken in turns, store
and flat files one after the other, with files in the page cache, without the start of a process: median and CPU time.
Publication in the store is synced to disk and keeps the raw journal and what the device said; flat files are not and
do not. A table and a line of JSON go to stdout. Exit code 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import flat_files
from benchmarks.store_runs import Template, samples_of, template
from melt.analysis.compare import DEFAULT
from melt.cli.main import main as melt
from melt.store.store import Store

_COMPARE_S, _COMPARE_RUNS, _FASTER = 2.0, 10_000, 10.0
_PUBLISH_MS = 50.0
_BYTES_PER_SAMPLE = 2.0
_PUBLISHED_PER_ROUND = 5
_ALL = ("--since", "2000-01-01")

Times = defaultdict[str, list[tuple[float, float]]]
"""Wall and CPU seconds, by what was done."""


def fill(folder: Path, made: Template) -> None:
    """Make the runs that are not there yet. Exits where the folder has runs of another shape."""
    shape = {"runs": made.runs, "samples_per_run": made.samples_per_run}
    note = folder / "made.json"
    if note.exists() and (found := json.loads(note.read_text())) != shape:
        sys.exit(f"store: {folder} was made for {found}, not for {shape}: name another folder")
    note.write_text(json.dumps(shape))
    with Store.open(folder / "store") as store:
        for number in range(store.count(), made.runs):
            bundle = made.run(number)
            flat_files.write(folder / "flat", bundle)
            store.publish(bundle)
            if number % 100 == 99:
                print(f"made {number + 1} of {made.runs} runs", file=sys.stderr, flush=True)


def measure(folder: Path, made: Template, rounds: int) -> Times:
    """Take every figure once per round, the side that begins changing from round to round."""
    seen: Times = defaultdict(list)
    flat = folder / "flat"

    def verb(*words: str) -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            if melt([*words, "--store", str(folder / "store")]):
                raise SystemExit(f"store: melt {' '.join(words)} failed")

    with Store.open(folder / "store") as store:
        run_id = store.run_ids()[0]
        longest = max(made.bundle.traces, key=lambda trace: len(trace.t_ns)).collector
        asked: dict[str, Callable[[], object]] = {
            "runs, store": lambda: verb("runs", "-o", "jsonl", *_ALL),
            "runs, flat": lambda: flat_files.listing(flat),
            "compare, store": lambda: verb("compare", "--by", "quant", "-o", "json", *_ALL),
            "compare, flat": lambda: flat_files.compare(flat, DEFAULT),
            "one trace, store": lambda: store.trace(run_id, longest),
            "one trace, flat": lambda: flat_files.trace(flat, run_id, longest),
            "report of a night, store": lambda: verb("report", "--sweep", "last", "-o", str(folder / "report.html")),
        }
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for _ in range(_PUBLISHED_PER_ROUND):
                bundle = made.run(store.count())
                seen["publish, flat"].append(_timed(partial(flat_files.write, flat, bundle)))
                seen["publish, store"].append(_timed(partial(store.publish, bundle)))
            names = list(asked)
            for name in names if number % 2 else reversed(names):
                seen[name].append(_timed(asked[name]))
    return seen


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    act()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def sizes(folder: Path, samples: int) -> dict[str, float]:
    """Return bytes per sample: of the traces alone, and of all that either side keeps."""
    kept = {
        "traces, store": (folder / "store" / "traces").rglob("*.parquet"),
        "traces, flat": (folder / "flat").rglob("*.csv"),
        "everything, store": (folder / "store").rglob("*"),
        "everything, flat": (folder / "flat").rglob("*"),
    }
    return {name: _bytes(paths) / samples for name, paths in kept.items()}


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def medians(seen: Times) -> dict[str, dict[str, float]]:
    """Return milliseconds by what was done: median wall time and CPU time, and the least wall time."""
    shown = {}
    for name, values in seen.items():
        wall_s, cpu_s = zip(*values, strict=True)
        figures = statistics.median(wall_s), statistics.median(cpu_s), min(wall_s)
        shown[name] = dict(zip(("wall_ms", "cpu_ms", "least_ms"), (1e3 * s for s in figures), strict=True))
    return shown


def table(title: str, times: dict[str, dict[str, float]], per_sample: dict[str, float]) -> Table:
    """Show the store beside the flat files, and how many times as long or as large those are."""
    shown = Table("what", "store", "CPU", "flat files", "CPU", "flat / store", title=title)
    for what in ("publish", "runs", "compare", "report of a night", "one trace"):
        mine, theirs = times[f"{what}, store"], times.get(f"{what}, flat")
        row = [f"{mine['wall_ms']:.1f} ms", f"{mine['cpu_ms']:.1f} ms"]
        if theirs is None:
            row += ["-", "-", "-"]
        else:
            ratio = theirs["wall_ms"] / mine["wall_ms"]
            row += [f"{theirs['wall_ms']:.1f} ms", f"{theirs['cpu_ms']:.1f} ms", f"{ratio:.2f}"]
        shown.add_row(what, *row)
    for what in ("traces", "everything"):
        own, other = per_sample[f"{what}, store"], per_sample[f"{what}, flat"]
        shown.add_row(f"{what}, bytes/sample", f"{own:.2f}", "", f"{other:.2f}", "", f"{other / own:.2f}")
    return shown


def bounds(runs: int, times: dict[str, dict[str, float]], per_sample: dict[str, float]) -> dict[str, bool | None]:
    """Return for each bound, in words, whether it holds; None where this many runs do not tell."""
    compare_ms = times["compare, store"]["wall_ms"]
    faster = times["compare, flat"]["wall_ms"] / compare_ms
    publish_ms, per = times["publish, store"]["wall_ms"], per_sample["traces, store"]
    enough = runs >= _COMPARE_RUNS
    in_time = compare_ms <= 1e3 * _COMPARE_S
    return {
        f"compare over {_COMPARE_RUNS:,} runs within {_COMPARE_S:g} s ({compare_ms / 1e3:.2f} s over {runs:,})": (
            in_time if enough or not in_time else None
        ),
        f"compare {_FASTER:g} times as fast as flat files ({faster:.2f} times)": faster >= _FASTER,
        f"publish within {_PUBLISH_MS:g} ms ({publish_ms:.1f} ms)": publish_ms <= _PUBLISH_MS,
        f"at most {_BYTES_PER_SAMPLE:g} bytes per sample ({per:.2f})": per <= _BYTES_PER_SAMPLE,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the results store beside flat files with the same runs.")
    parser.add_argument("--runs", type=int, default=10_000, help="(default: 10000)")
    parser.add_argument("--samples", type=int, default=100_000_000, help="of all runs together (default: 100000000)")
    parser.add_argument("--folder", type=Path, default=Path("build/store-benchmark"), help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    args = parser.parse_args()
    folder: Path = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    made = template(folder, args.runs, args.samples // args.runs)
    load = os.getloadavg()[0]
    fill(folder, made)
    times = medians(measure(folder, made, args.rounds))
    with Store.open(folder / "store") as store:
        runs = store.count()
    samples = runs * samples_of(made.run(0))
    per_sample = sizes(folder, samples)
    title = f"{runs:,} runs, {samples / 1e6:.0f} M samples; {os.cpu_count()} cores, load {load:.1f} before"
    Console(width=100).print(table(title, times, per_sample))
    held = bounds(runs, times, per_sample)
    words = {True: "held", False: "MISSED", None: "too few runs to tell"}
    for what, holds in held.items():
        print(f"{words[holds]}: {what}")
    told = {"runs": runs, "samples": samples, "load": load, "times": times, "bytes_per_sample": per_sample}
    print(json.dumps({**told, "bounds": held}))
    return 1 if False in held.values() else 0


if __name__ == "__main__":
    sys.exit(main())
