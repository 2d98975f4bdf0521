"""What melt costs a model of ONNX: `python benchmarks/onnx_overhead.py [--quick] [--output FILE.md]`.

The runner under the agent, which reads 60 files at 100 Hz, against a bare loop around session.run and against
onnxruntime's own way to time it (bare_onnx.py): the same inputs, one thread, in slices of two seconds in turn, of which
the i-th of one side is compared with the i-th of the other. What counts is how many requests a second of CPU time is
worth: who shares the machine changes that least. Exit code 0 when every bound holds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import agent_runs
import numpy as np
from rich.console import Console
from rich.table import Table
from slices import Side

from melt._layout import agents_dir
from melt.models.library import Library
from melt.records import Artifact, Workload

MODELS = ("magika", "silero-vad", "rapidocr-cls")
AT_LEAST = 0.99
_WAYS = {"loop": "bare loop", "timeit": "onnxruntime's benchmark helper"}
_HEADERS = ("model", "a request takes", "melt against", "per CPU second", "quartiles", "bound", "", "per second")
_RULE = ("---", "--:", "---", "--:", "--:", "--:", "---", "--:")
_SLICE_S = 2.0
_START_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: melt's requests over the other's for each pair of slices, per second of CPU and of the clock."""

    model: str
    request_s: float
    against: str
    cpu: tuple[float, ...]
    wall: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether the median keeps to the bound."""
        return statistics.median(self.cpu) >= AT_LEAST

    def cells(self) -> tuple[str, ...]:
        """Write the row as text, in the order of `_HEADERS`."""
        low, high = agent_runs.spread(self.cpu)
        return (
            self.model,
            f"{1e3 * self.request_s:.3g} ms",
            self.against,
            f"{statistics.median(self.cpu):.3f}",
            f"{low:.3f} … {high:.3f}",
            f"≥ {AT_LEAST:g}",
            "holds" if self.holds else "MISSED",
            f"{statistics.median(self.wall):.3f}",
        )


@dataclass
class Course:
    """One side's slices: the process that computes, and its CPU time when each slice began and when the last ended."""

    side: Side
    pid: int
    cpu_ns: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Let it run for a slice."""
        self.cpu_ns.append(_cpu_ns(self.pid))
        self.side.run_for(_SLICE_S)

    def end(self) -> None:
        """Note its CPU time behind the last slice, while it still lives."""
        self.cpu_ns.append(_cpu_ns(self.pid))

    def rates(self, ended_ns: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return requests per second of CPU and of the clock in each slice, by when batches of them ended."""
        begins = [begun for begun, _ in self.side.active] + [self.side.active[-1][1]]
        done = np.diff(np.concatenate(([0], np.cumsum(counts)))[np.searchsorted(ended_ns, begins)])
        wall_ns = np.array([ended - begun for begun, ended in self.side.active])
        return done * 1e9 / np.diff(self.cpu_ns), done * 1e9 / wall_ns


def measure(model: Artifact, folder: Path, rounds: int) -> list[Row]:
    """Let the three sides run in turn, `rounds` slices each."""
    # Longer than all slices together: it is ended when they are over.
    workload = Workload(kind="inference", duration_s=rounds * _SLICE_S * 10)
    bench = agent_runs.Bench(folder, model, "onnxruntime")
    with ExitStack() as stack:
        inputs = _write_inputs(model, folder)
        others = {way: stack.enter_context(_looping(model, inputs, way, folder)) for way in _WAYS}
        run = stack.enter_context(bench.started(workload, 1))
        ours = Course(Side(run.pids("worker", "runner"), run.ended), *run.pids("runner"))
        _wait(lambda: "backend" in run.report().used)
        courses = [ours, *(course for course, _ in others.values())]
        for number in range(rounds):
            _say(f"{model.name}: round {number + 1} of {rounds}")
            for course in courses[number % len(courses) :] + courses[: number % len(courses)]:
                for opponent in courses:
                    if opponent is not course:
                        opponent.side.signal(signal.SIGSTOP)
                course.run()
        for course in courses:
            course.end()
        theirs = {way: course.rates(*_batches(said)) for way, (course, said) in others.items()}
        ours.side.signal(signal.SIGCONT)
        bench.stop(run)
        inferences = [i for i in run.report().inferences if not i.warmup]
    begun_ns, ended_ns = (np.array([t for i in inferences for t in getattr(i, name)]) for name in ("t0_ns", "t1_ns"))
    mine = ours.rates(ended_ns, np.ones(len(ended_ns), int))
    request_s = float(np.median(ended_ns - begun_ns)) / 1e9
    return [
        Row(model.name, request_s, _WAYS[way], *(tuple(a / b) for a, b in zip(mine, rates, strict=True)))
        for way, rates in theirs.items()
    ]


def _batches(said: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read when each batch of requests ended, and how many they were."""
    lines = said.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = np.array([line.split() for line in lines if line.endswith("\n")], np.int64)
    return whole[:, 0], whole[:, 1]


def _cpu_ns(pid: int) -> int:
    """Return the CPU time of all threads of a process, in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks)


@contextmanager
def _looping(model: Artifact, inputs: Path, way: str, folder: Path) -> Iterator[tuple[Course, Path]]:
    """Start a loop without melt, and end it behind; what it says goes into a file."""
    said = folder / f"{way}.txt"
    words = (sys.executable, str(Path(__file__).with_name("bare_onnx.py")), model.path, str(inputs), way)
    # A session of its own, as the agent gives the runner: the kernel shares a busy CPU out by sessions.
    with said.open("wb") as out, subprocess.Popen(words, stdout=out, start_new_session=True) as process:
        try:
            side = Side((process.pid,), lambda: process.poll() is not None)
            _wait(lambda: said.stat().st_size > 0 or side.done())
            if side.done():
                sys.exit(f"onnx_overhead: {' '.join(words)} failed")
            side.signal(signal.SIGSTOP)
            yield Course(side, process.pid), said
        finally:
            process.kill()


def _write_inputs(model: Artifact, folder: Path) -> Path:
    """Write the very tensors that melt's runner makes up."""
    # The runners are programs: they import each other from their own folder.
    sys.path.append(str(agents_dir() / "runners"))
    import onnx_inputs

    declared = [(tensor.name, tensor.type, tensor.shape or ()) for tensor in model.inputs]
    path = folder / "inputs.npz"
    np.savez(path, **onnx_inputs.make_up(declared, model.dims, 0))
    return path


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while not until():
        if time.monotonic() > deadline:
            sys.exit("onnx_overhead: a side did not start")
        time.sleep(0.02)


def _end_in_order(number: int, _frame: object) -> None:
    """Let each side be ended, which would stay behind; a second signal does not disturb that."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(f"onnx_overhead: ended by {signal.Signals(number).name}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what melt costs a model of ONNX on this machine.")
    parser.add_argument("--quick", action="store_true", help="show that it runs: too few rounds to believe")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the table as markdown too")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _end_in_order)
    rows: list[Row] = []
    for name in MODELS:
        with tempfile.TemporaryDirectory(prefix="melt-onnx-overhead-") as folder:
            rows += measure(Library().resolve(name, None), Path(folder), 3 if args.quick else 20)
    table = Table(*_HEADERS, title=f"{os.cpu_count()} CPUs, Linux {platform.release()}; one thread")
    for row in rows:
        table.add_row(*row.cells())
    Console().print(table)
    if args.output:
        lines = [" | ".join(("", *cells, "")).strip() for cells in (_HEADERS, _RULE, *(row.cells() for row in rows))]
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
