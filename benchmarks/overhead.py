"""What melt itself costs, measured here and now: `python benchmarks/overhead.py [--quick] [--output FILE.md]`.

Everything is measured in turn, in rounds or in slices of two seconds, so that whatever the machine does meanwhile meets
both sides alike; a ratio is the median over pairs that lie beside each other. docs/performance.md explains each row.
Exit code 0 when every bound holds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import agent_runs
import llama_bench
import slices
from rich.console import Console
from rich.table import Table

from melt.models.library import Library
from melt.records import Artifact, Workload
from melt.store.store import Store

T = TypeVar("T")

_BUSY_LOAD = 0.5
_TURN_S = 2.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    repetitions: int
    turns: int
    sessions: int


_FULL = Size(rounds=15, repetitions=80, turns=30, sessions=5)
_QUICK = Size(rounds=2, repetitions=8, turns=5, sessions=3)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `values` has one per round or repetition; `at_least` or `at_most` bounds their median."""

    what: str
    values: tuple[float, ...]
    unit: str
    digits: int
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """The median of them."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool:
        """Whether the median keeps to its bound."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def cells(self) -> tuple[str, str, str, str, str]:
        """Write the row as text, in the order of `_HEADERS`."""
        low, high = agent_runs.spread(self.values)
        bound = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return (
            self.what,
            f"{self.value:.{self.digits}f}{self.unit}",
            f"{low:.{self.digits}f} … {high:.{self.digits}f}",
            bound + self.unit,
            "holds" if self.holds else "MISSED",
        )


def throughput(bench: agent_runs.Bench, model: Artifact, size: Size) -> Iterator[Row]:
    """Compare the runner under the agent with llama-bench, and with itself while the agent is stopped."""
    reference = llama_bench.build()
    for workload in (Workload(n_prompt=32), Workload(n_gen=24, n_depth=32)):
        _say(f"{workload.name}: llama-bench and the runner in turn")
        ours, theirs = slices.against_llama_bench(bench, reference, Path(model.path), workload, size.repetitions)
        what = f"{workload.name}: runner under the agent / llama-bench"
        yield Row(what, slices.ratios(ours, theirs), "", 3, at_least=0.98)
        _say(f"{workload.name}: the agent on and off in turn")
        on, off = slices.on_and_off(bench, workload, 3 * size.repetitions)
        yield Row(f"{workload.name}: agent on / agent off", slices.ratios(on, off), "", 3, at_least=0.995)


def sampling(bench: agent_runs.Bench, size: Size) -> Iterator[Row]:
    """Compare the agent with a bare loop over the same files, two seconds each in turn."""
    sides = {"agent": lambda: bench.agent_alone(_TURN_S), "bare": lambda: bench.bare_loop(_TURN_S)}
    seen = _in_turn(sides, size.turns)
    cpu = {side: [s.cpu_share for s in values] for side, values in seen.items()}
    # A percentile of two seconds is two ticks: five turns together give one.
    late = {side: [agent_runs.late_p99_s(group) for group in _batched(values, 5)] for side, values in seen.items()}
    at = f"{agent_runs.CHANNELS} files at {agent_runs.RATE_HZ} Hz"
    share = 100 * statistics.median(cpu["bare"])
    what = f"CPU of the agent / bare loop ({at}; the loop takes {share:.2f} % of a core)"
    yield Row(what, slices.ratios(cpu["agent"], cpu["bare"]), "", 2, at_most=1.5)
    late_us = 1e6 * statistics.median(late["bare"])
    what = f"tick jitter p99 of the agent / bare loop (the loop is {late_us:.0f} µs late)"
    yield Row(what, slices.ratios(late["agent"], late["bare"]), "", 2, at_most=1.5)


def help_time(size: Size) -> Iterator[Row]:
    """Time `melt --help` against an interpreter that does nothing."""
    sides = {"melt": lambda: _seconds(*_melt(), "--help"), "bare": lambda: _seconds(sys.executable, "-c", "pass")}
    seen = _in_turn(sides, 2 * size.rounds)
    more_ms = tuple(1e3 * (melt - bare) for melt, bare in zip(seen["melt"], seen["bare"], strict=True))
    yield Row("`melt --help` over the bare interpreter", more_ms, " ms", 0, at_most=150)


def fixed_cost(folder: Path, size: Size) -> Iterator[Row]:
    """Time one more run of a sweep, less what the engine did in it: load, prefill, decode, warm-up included."""

    def sweep(sessions: int) -> float:
        store = Path(tempfile.mkdtemp(dir=folder))
        words = ("run", "-m", "tiny-pydoc", "-pg", "32,8", "-r", "1", "--warmup", "1", "-t", "1")
        wall_s = _seconds(*_melt(), *words, "--sessions", str(sessions), "--store", str(store), "-o", "json")
        with Store.open(store) as opened:
            runs = opened.bundles()
        if len(runs) != sessions:
            sys.exit(f"overhead: {len(runs)} of {sessions} runs are in the store")
        return wall_s - sum(window.duration_s for run in runs for window in run.windows)

    sides = {"many": lambda: sweep(1 + size.sessions), "one": lambda: sweep(1)}
    seen = _in_turn(sides, max(2, size.rounds // 3))
    costs = tuple((many - one) / size.sessions for many, one in zip(seen["many"], seen["one"], strict=True))
    yield Row("fixed cost of one run", costs, " s", 2, at_most=0.5)


def _in_turn(sides: dict[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure every side once per round; the one that begins changes from round to round."""
    seen: dict[str, list[T]] = defaultdict(list)
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            _say(f"round {number + 1} of {rounds}: {name}")
            seen[name].append(sides[name]())
    return seen


def _batched(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces of one size."""
    return (values[begin : begin + size] for begin in range(0, len(values), size))


def _melt() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("melt")
    return (str(script),) if script.exists() else (sys.executable, "-m", "melt")


def _seconds(*words: str) -> float:
    begun = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"overhead: {' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return wall_s


def _machine(model: Artifact, load_before: float) -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next(
        (line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), platform.machine()
    )
    text = f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}; model {Path(model.path).name}; one thread"
    busy = (
        f". The machine was busy before (load {load_before:.1f}): do not believe it."
        if load_before > _BUSY_LOAD
        else ""
    )
    return text + busy


def _model(wanted: str | None) -> Artifact:
    library = Library()
    if wanted is not None:
        return library.resolve(wanted, None)
    return library.peek("smollm2-135m-instruct", None) or library.resolve("tiny-pydoc", None)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_HEADERS = ("what", "median", "quartiles", "bound", "")


def _markdown(machine: str, rows: Sequence[Row]) -> str:
    lines = [machine, "", f"| {' | '.join(_HEADERS)} |", "|---|--:|--:|--:|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row.cells())} |" for row in rows)]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what melt itself costs on this machine.")
    parser.add_argument("--quick", action="store_true", help="show that it runs: too few rounds to believe")
    parser.add_argument("--model", help="a name or a GGUF file (default: SmolLM2 if it was pulled, else tiny-pydoc)")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the table as markdown too")
    args = parser.parse_args()
    size, model = _QUICK if args.quick else _FULL, _model(args.model)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="melt-overhead-") as name:
        bench = agent_runs.Bench(Path(name), model)
        rows = [*help_time(size), *fixed_cost(Path(name), size), *sampling(bench, size)]
        rows = [*throughput(bench, model, size), *rows]
    machine = _machine(model, load_before)
    table = Table(*_HEADERS, title=machine)
    for row in rows:
        table.add_row(*row.cells())
    Console().print(table)
    if args.output:
        args.output.write_text(_markdown(machine, rows), encoding="utf-8")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
