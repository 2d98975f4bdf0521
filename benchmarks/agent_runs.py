"""Start the runner here, alone or under the agent as a run does, and the agent without a runner."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from melt.engines import registry
from melt.engines.base import Command, Engine, RunnerReport
from melt.records import Artifact, Repeat, RunSpec, Sampling, Settings, Window, Workload
from melt.targets.agent import AgentClient
from melt.targets.jobfile import File, Group, Job
from melt.telemetry.journal import Event, Line, Tick, read_journal
from melt.transports.registry import open_transport

CHANNELS = 60
RATE_HZ = 100
PERIOD_NS = 1_000_000_000 // RATE_HZ
_GLOBS = (
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/hwmon/hwmon*/*_input",
    "sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
    "sys/devices/system/cpu/cpu*/topology/*",
    "sys/devices/system/cpu/cpu*/cache/index*/*",
    "sys/block/*/queue/*",
)
_DEADLINE_S = 900.0
_START_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Sampled:
    """What sampling cost, as a share of one core, and when each tick began."""

    cpu_share: float
    tick_ns: tuple[int, ...]

    @property
    def late_ns(self) -> list[int]:
        """How late each tick began, against the grid on which the earliest of them lies; without the first tenths.

        The agent opens its files at the first tick, the loop before it.
        """
        first_ns = self.tick_ns[0]
        offsets = [t - first_ns - round((t - first_ns) / PERIOD_NS) * PERIOD_NS for t in self.tick_ns[RATE_HZ // 5 :]]
        return [offset - min(offsets) for offset in offsets]


def late_p99_s(turns: Iterable[Sampled]) -> float:
    """Return the 99th percentile of how late ticks began, over several turns."""
    return statistics.quantiles([late for turn in turns for late in turn.late_ns], n=100)[98] / 1e9


def sampled_files() -> tuple[str, ...]:
    """Return 60 files of this machine: its sensors, then other sysfs files of one short line, as sensors are."""
    found = [str(path) for pattern in _GLOBS for path in sorted(Path("/").glob(pattern)) if _readable(path)]
    if len(found) < CHANNELS:
        sys.exit(f"overhead: only {len(found)} of {CHANNELS} files to sample were found on this machine")
    return tuple(found[:CHANNELS])


@dataclass(frozen=True, slots=True)
class Running:
    """A runner under the agent, by its job's folder."""

    folder: Path
    engine: Engine

    def ended(self) -> bool:
        """Say whether the job is over."""
        return (self.folder / "end").exists()

    def pids(self, *roles: str) -> tuple[int, ...]:
        """Return process numbers by role, once all have started."""
        until = time.monotonic() + _START_DEADLINE_S
        while time.monotonic() < until:
            lines = [line.split() for line in (self.folder / "pid").read_text(encoding="utf-8").splitlines()]
            known = {words[0]: int(words[1]) for words in lines if words[0] in roles}
            if len(known) == len(roles):
                return tuple(known[role] for role in roles)
            time.sleep(0.01)
        sys.exit(f"overhead: {' and '.join(roles)} did not start")

    def report(self) -> RunnerReport:
        """Return what the runner has said so far. A failure ends the program."""
        records = read_journal(self.folder / "journal").records
        report = self.engine.parse(r.data for r in records if isinstance(r, Line) and r.source == 0)
        if report.failure is not None:
            sys.exit(f"overhead: the runner failed: {report.failure.message}")
        return report

    def windows(self) -> list[Window]:
        """Return the measured prefill or decode windows, in order, once it has ended."""
        report = self.report()
        if not report.complete:
            sys.exit("overhead: the runner ended before it was done")
        return [w for w in report.windows if w.phase in ("prefill", "decode") and not w.warmup]


class Bench:
    """The agent of this machine and the folder in which its jobs lie."""

    def __init__(self, folder: Path, model: Artifact, engine: str = "llama.cpp") -> None:
        self._folder = folder
        self._model = model
        self._agent = AgentClient(open_transport("local"), str(folder))
        self._agent.deploy()
        self._engine = registry.get(engine)
        self._files = sampled_files()
        self._jobs = 0

    @contextmanager
    def started(self, workload: Workload, repetitions: int) -> Iterator[Running]:
        """Start the runner under the agent, as a run does, and see it to its end."""
        command = self._command(workload, repetitions)
        folder = self._job_folder(command)
        words = tuple(word.replace("{dir}", str(folder)) for word in command.argv)
        job = Job(run_id="runner", runner=words, groups=self._groups(), env=dict(command.env))
        (folder / "job").write_bytes(job.render())
        self._agent.start(str(folder))
        running = Running(folder, self._engine)
        try:
            yield running
        except BaseException:
            # It goes on without this program, and a benchmark may have stopped it: what is stopped does not end.
            for pid in running.pids("worker", "runner"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.stop(running)
            raise

    def stop(self, run: Running) -> None:
        """End a runner in order, and wait for that."""
        self._agent.stop(str(run.folder))

    def agent_alone(self, seconds: float) -> Sampled:
        """Let the agent sample without a runner, and ask it for its own CPU time."""
        records = self._run(Job(run_id="idle", linger_s=seconds, groups=self._groups()))
        own = [r for r in records if isinstance(r, Event) and r.name == "self"]
        used_ns = _number(own[-1], "cpu_ns") - _number(own[0], "cpu_ns")
        ticks = tuple(r.t_ns for r in records if isinstance(r, Tick))
        return Sampled(used_ns / (own[-1].t_ns - own[0].t_ns), ticks)

    def bare_loop(self, seconds: float) -> Sampled:
        """Read the same files in a loop of C that does nothing else."""
        binary = self._folder / "bare_loop"
        if not binary.exists():
            source = Path(__file__).with_name("bare_loop.c")
            subprocess.run(("cc", "-O2", "-D_GNU_SOURCE", "-o", str(binary), str(source)), check=True)
        words = (str(binary), str(PERIOD_NS), str(round(seconds * RATE_HZ)), *self._files)
        done = subprocess.run(words, capture_output=True, check=True, timeout=_DEADLINE_S, start_new_session=True)
        used_ns, *ticks = map(int, done.stdout.split())
        return Sampled(used_ns / (len(ticks) * PERIOD_NS), tuple(ticks))

    def _groups(self) -> tuple[Group, ...]:
        return (Group(0, PERIOD_NS, tuple(File(i, path) for i, path in enumerate(self._files))),)

    def _command(self, workload: Workload, repetitions: int) -> Command:
        spec = RunSpec(
            run_id="overhead",
            sweep_id="overhead",
            plan="overhead",
            block=0,
            position=0,
            device="local",
            model=self._model.name,
            quant=None,
            engine=self._engine.name,
            workload=workload,
            settings=Settings(threads=1),
            repeat=Repeat(warmup=1, repetitions=repetitions),
            sampling=Sampling(),
        )
        runner_dir = str(self._engine.runner_files()[0].parent)
        return self._engine.command(
            spec, self._model, model_path=self._model.path, runner_dir=runner_dir, python=sys.executable
        )

    def _run(self, job: Job) -> list[object]:
        folder = self._job_folder(Command(argv=()))
        (folder / "job").write_bytes(job.render())
        self._agent.start(str(folder))
        until = time.monotonic() + _DEADLINE_S
        with self._agent.tail(str(folder), follow=True) as journal:
            while journal.read(1 << 20, max(0.0, until - time.monotonic())):
                pass
        return list(read_journal(folder / "journal").records)

    def _job_folder(self, command: Command) -> Path:
        self._jobs += 1
        folder = self._folder / f"job{self._jobs}"
        folder.mkdir()
        for name, data in command.files.items():
            (folder / name).write_bytes(data)
        return folder


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Return the quartiles of a few values."""
    ordered = sorted(values)
    if len(ordered) < 2:
        return ordered[0], ordered[0]
    low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return low, high


def _number(event: Event, name: str) -> int:
    value = event.data[name]
    assert isinstance(value, int)
    return value


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
