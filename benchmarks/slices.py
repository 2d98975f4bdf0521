"""Two programs measured in slices of two seconds in turn, so that a noisy machine disturbs both alike.

One is stopped (SIGSTOP) while the other runs. What was under way when a slice ended has the pause in its time and is
left out. The i-th clean repetition of one side is compared with the i-th of the other: they lie seconds apart.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import agent_runs
import llama_bench

from melt.records import Workload

SLICE_S = 2.0
_LOOK_S = 0.02


@dataclass
class Side:
    """Processes that are let run and stopped together. `active` are their slices on the monotonic clock, in ns."""

    pids: Sequence[int]
    done: Callable[[], bool]
    active: list[tuple[int, int]] = field(default_factory=list)

    def signal(self, number: int) -> None:
        """Send a signal to all of them."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def run_for(self, seconds: float) -> None:
        """Let it run for a slice, or until it is done."""
        begun_ns = time.monotonic_ns()
        self.signal(signal.SIGCONT)
        while not self.done() and time.monotonic_ns() - begun_ns < seconds * 1e9:
            time.sleep(_LOOK_S)
        if not self.done():
            self.signal(signal.SIGSTOP)
        self.active.append((begun_ns, time.monotonic_ns()))

    def holds(self, t0_ns: int, t1_ns: int) -> bool:
        """Say whether a span lies within one slice."""
        return any(begun <= t0_ns and t1_ns <= ended for begun, ended in self.active)


def against_llama_bench(
    bench: agent_runs.Bench, binary: Path, model: Path, workload: Workload, repetitions: int
) -> tuple[list[float], list[float]]:
    """Return tokens per second of the runner under the agent and of llama-bench, a value per clean repetition."""
    words = llama_bench.command(binary, model, workload, repetitions)
    other = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    with bench.started(workload, repetitions) as run:
        ours = Side(run.pids("worker", "runner"), run.ended)
        theirs = Side((other.pid,), lambda: other.poll() is not None)
        theirs.signal(signal.SIGSTOP)
        while not (ours.done() and theirs.done()):
            for side, opponent in ((ours, theirs), (theirs, ours)):
                if not side.done():
                    opponent.signal(signal.SIGSTOP)
                    side.run_for(SLICE_S)
        assert other.stdout is not None
        their_s = llama_bench.seconds(other.stdout.read())
        other.stdout.close()
        clean = [w.n_tokens / w.duration_s for w in run.windows() if w.n_tokens and ours.holds(w.t0_ns, w.t1_ns)]
    n_tokens = workload.n_gen or workload.n_prompt
    # llama-bench does not say when a repetition was, but one with a pause in it is longer by the pause.
    limit_s = min(their_s) + SLICE_S / 2
    return clean, [n_tokens / seconds for seconds in their_s if seconds < limit_s]


def on_and_off(bench: agent_runs.Bench, workload: Workload, repetitions: int) -> tuple[list[float], list[float]]:
    """Return tokens per second of one runner while the agent samples, and while it is stopped."""
    with bench.started(workload, repetitions) as run:
        agent = Side(run.pids("worker"), run.ended)
        pauses = Side((), run.ended)
        while not run.ended():
            agent.run_for(SLICE_S)
            pauses.run_for(SLICE_S)
        agent.signal(signal.SIGCONT)
        windows = [w for w in run.windows() if w.n_tokens]
    on, off = (
        [(w.n_tokens or 0) / w.duration_s for w in windows if side.holds(w.t0_ns, w.t1_ns)] for side in (agent, pauses)
    )
    return on, off


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Compare repetitions that lie beside each other; one side may have a few more."""
    return tuple(a / b for a, b in zip(above, below, strict=False))
