"""Plug-ins that are wrong in one way each, and sound ones: `BROKEN` says which tests of melt.testing must find out.

`install` makes a package of this module; `pytest -p broken_plugins` tells the suites what they need to know of it.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from melt.engines.base import Command, Generation, RunnerReport
from melt.engines.runner_events import parse_events
from melt.errors import EngineError, UsageError
from melt.records import Stream, Window
from melt.telemetry.base import Discovery, FileSource
from melt.telemetry.meters.base import WATTS, Batch, ClockReading, MeterFacts
from melt.testing.cases import Case, EngineCase, MeterCase, TelemetryCase, TransportCase
from melt.transports.base import Completed
from melt.transports.local import LocalTransport

BROKEN = {
    "sound": set(),
    "single": set(),
    "unwilling": {"words_with_the_paths", "given_alone"},
    "raises": {"torn_run"},
    "reads": {"without_touching"},
    "remembers": {"without_touching"},
    "believes": {"torn_run", "nothing_said"},
    "deaf": {"arrives_or_is_refused"},
    "splits": {"words_with_the_paths"},
    "dated": {"words_with_the_paths"},
    "early": {"whole_run"},
    "steady": set(),
    "backwards": {"clock_goes_forward"},
    "milliseconds": {"clock_is_in_nanoseconds", "rate_is_the_one"},
    "milliwatts": {"values_are_in_si_units"},
    "liberal": {"option_that_it_does_not_know"},
    "faithful": set(),
    "codeless": {"streams_and_exit_code"},
    "quoting": {"odd_word"},
    "gentle": set(),
    "zero": {"what_cannot_be_read"},
    "unguarded": {"odd_content"},
    "outside": {"snapshot_alone"},
}
"""By name, a part of what each test is called that must fail at least; of the sound ones none may."""

_SAID = (Path(__file__).parent / "contract" / "golden" / "runner" / "pp32-tg4.jsonl").read_bytes()


class Sound:
    """An engine as it should be."""

    formats = ("gguf",)

    def __init__(self, argument: str) -> None:
        self.name = type(self).__name__.lower()

    def for_device(self, device: object) -> Sound:
        return self

    def built_runner(self) -> None:
        return None

    def runner_files(self) -> tuple[Path, ...]:
        return (Path(__file__),)

    def command(
        self, spec: Any, artifact: object, *, model_path: str, runner_dir: str, python: str, **_: object
    ) -> Command:
        asked = (spec.settings.threads, spec.workload.n_prompt, spec.workload.n_gen, spec.repeat.repetitions)
        return Command(argv=(python, f"{runner_dir}/x.py", model_path, *map(str, asked)))

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        return parse_events(lines)


class Single(Sound):
    """An engine as it should be, of models that answer at once."""

    formats = ("onnx",)

    def command(self, spec: Any, artifact: object, *, model_path: str, **_: object) -> Command:  # type: ignore[override]
        if spec.workload.kind != "inference":
            raise EngineError("single runs models that answer at once: ask for infer50")
        asked = (spec.settings.threads, spec.workload.n_infer, spec.repeat.repetitions)
        return Command(argv=("run", model_path, *map(str, asked)))


class Unwilling(Sound):
    def command(self, *_: object, **__: object) -> Command:
        raise EngineError("not today")


class Raises(Sound):
    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        return parse_events(json.dumps(json.loads(line)).encode() for line in lines)


class Reads(Sound):
    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        Path(__file__).read_bytes()
        return parse_events(lines)


class Remembers(Sound):
    seen: list[bytes] = []  # noqa: RUF012 - the mistake

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        self.seen[:] = [*self.seen[-20:], *lines]
        return parse_events(self.seen)


class Believes(Sound):
    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        return RunnerReport(windows=(Window(phase="decode", t0_ns=1, t1_ns=2, repetition=0),), complete=True)


class Deaf(Sound):
    def command(self, spec: Any, artifact: object, *, model_path: str, **_: object) -> Command:  # type: ignore[override]
        return Command(argv=("run", model_path))


class Splits(Sound):
    def command(self, spec: Any, artifact: object, **places: Any) -> Command:
        whole = super().command(spec, artifact, **places)
        return Command(argv=tuple(" ".join(whole.argv).split()))


class Dated(Sound):
    """An engine of before there were inputs."""

    def command(self, spec: Any, artifact: object, *, model_path: str, runner_dir: str, python: str) -> Command:  # type: ignore[override]
        return super().command(spec, artifact, model_path=model_path, runner_dir=runner_dir, python=python)


class Early(Sound):
    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        first = Generation(repetition=0, warmup=False, submit_ns=10, token_ns=(5,))
        return RunnerReport(generations=(first,), complete=True)


class Steady:
    """A meter as it should be, of 100 Hz, on a clock of its own that began at 0."""

    def __init__(self, options: object, where: str, known: bool = False) -> None:
        if options and not known:
            raise UsageError(f"{where}: unknown option {options}")
        self._next = 0

    def open(self) -> MeterFacts:
        return MeterFacts(name="played", columns=(WATTS,), rate_hz=100.0)

    def start(self) -> None:
        self._began_ns = time.monotonic_ns()

    def read(self) -> Batch | None:
        time.sleep(0.05)
        now_ns = time.monotonic_ns()
        there_ns = now_ns - self._began_ns
        k = np.arange(self._next, there_ns // 10_000_000 + 1, dtype=np.int64)
        self._next += len(k)
        return self.batch(k * 10_000_000, np.full((len(k), 1), 2.5), ClockReading(now_ns, there_ns, now_ns + 1000))

    def batch(self, t_ns: Any, values: Any, clock: ClockReading) -> Batch:
        return Batch(t_ns, values, clock)

    def switch(self, on: bool) -> None: ...

    def close(self) -> None: ...


class Backwards(Steady):
    def batch(self, t_ns: Any, values: Any, clock: ClockReading) -> Batch:
        return Batch(t_ns[::-1], values, clock)


class Milliseconds(Steady):
    def batch(self, t_ns: Any, values: Any, clock: ClockReading) -> Batch:
        return Batch(
            t_ns // 1_000_000, values, ClockReading(clock.sent_ns, clock.there_ns // 1_000_000, clock.received_ns)
        )


class Milliwatts(Steady):
    def batch(self, t_ns: Any, values: Any, clock: ClockReading) -> Batch:
        return Batch(t_ns, values * 1e4, clock)


class Liberal(Steady):
    def __init__(self, options: object, where: str) -> None:
        super().__init__(options, where, known=True)


class Faithful(LocalTransport):
    def __init__(self, address: str) -> None:
        super().__init__()


class Codeless(Faithful):
    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        done = super().run(argv, timeout_s=timeout_s, stdin=stdin)
        return Completed(done.argv, 0, done.stdout, done.stderr)


class Quoting(Faithful):
    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        line = " ".join(word if shlex.quote(word) == word else f'"{word}"' for word in argv)
        done = subprocess.run(["sh", "-c", line], input=stdin, capture_output=True, timeout=timeout_s, check=False)
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


class Gentle:
    """Channels as they should be: one file with a temperature in thousandths of a degree."""

    SYSTEMS, GLOBS, COMMANDS = ("linux",), ("/sys/oven/temp",), {}

    def discover(self, snapshot: Any, sampling: Any) -> Discovery:
        if "/sys/oven/temp" not in snapshot:
            return Discovery(missing=("there is no oven",))
        stream = Stream(
            collector="oven", name="oven_c", quantity="temperature", unit="c", site="oven", source="/sys", rate_hz=1.0
        )
        return Discovery(files=(FileSource("/sys/oven/temp", 1.0, (stream,), self.parse),))

    def parse(self, raw: bytes) -> tuple[float, ...]:
        return (int(raw) / 1000,) if raw.strip().isdigit() and len(raw) < 12 else (float("nan"),)


class Zero(Gentle):
    def parse(self, raw: bytes) -> tuple[float, ...]:
        return (int(raw) / 1000,) if raw.strip().isdigit() and len(raw) < 12 else (0.0,)


class Unguarded(Gentle):
    def discover(self, snapshot: Any, sampling: Any) -> Discovery:
        found = super().discover(snapshot, sampling)
        return found if not found.files or int(snapshot["/sys/oven/temp"]) else Discovery()


class Outside(Gentle):
    def discover(self, snapshot: Any, sampling: Any) -> Discovery:
        list(Path("/").iterdir())
        return super().discover(snapshot, sampling)


gentle, zero, unguarded, outside = Gentle(), Zero(), Unguarded(), Outside()

_POINTS: dict[str, Sequence[type]] = {
    "melt.engines": (Sound, Single, Unwilling, Raises, Reads, Remembers, Believes, Deaf, Splits, Dated, Early),
    "melt.transports": (Faithful, Codeless, Quoting),
    "melt.power_meters": (Steady, Backwards, Milliseconds, Milliwatts, Liberal),
}


def install(folder: Path) -> None:
    """Write what pip writes for a package of this module."""
    info = folder / "broken_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugins\nVersion: 1.0\n")
    points = {group: {one.__name__.lower(): one.__name__ for one in made} for group, made in _POINTS.items()}
    points["melt.telemetry"] = {name: name for name in ("gentle", "zero", "unguarded", "outside")}
    lines = [
        line
        for group, named in points.items()
        for line in (f"[{group}]", *(f"{name} = broken_plugins:{target}" for name, target in named.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def pytest_melt_cases() -> list[Case]:
    """Return what the suites need to know."""
    oven = {"oven": {"/sys/oven/temp": b"41500\n"}}
    return [
        *(EngineCase(name=one.__name__.lower(), said={"run": _SAID}) for one in _POINTS["melt.engines"]),
        *(TransportCase(name=f"{one.__name__.lower()}:") for one in _POINTS["melt.transports"]),
        *(MeterCase(name=one.__name__.lower()) for one in _POINTS["melt.power_meters"]),
        *(TelemetryCase(name=name, snapshots=oven) for name in ("gentle", "zero", "unguarded", "outside")),
    ]
