"""What an engine adapter is: how to start a runner, and how to read what it says. No I/O, no device, no files opened.

The runner's lines are specified in agents/PROTOCOL.md, "Runner events".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from melt.engines.profile import Profile
from melt.records import Artifact, DeviceFacts, Reason, RunSpec, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One request inside one repetition, times on the device's monotonic clock.

    `token_ns[i]` is when token i was known; `token_ns[0]` ends the first token (TTFT = token_ns[0] - submit_ns).
    """

    repetition: int
    warmup: bool
    submit_ns: int
    token_ns: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    n_prompt: int = 0
    depth: int = 0
    stop: str = "length"
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """The requests of one repetition to a single-shot model: request i ran from `t0_ns[i]` to `t1_ns[i]`.

    Times are on the device's monotonic clock, from handing over the inputs until the outputs are there. Each request
    was of `batch` items.
    """

    repetition: int
    warmup: bool
    t0_ns: tuple[int, ...]
    t1_ns: tuple[int, ...]
    batch: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerReport:
    """Everything a runner said, typed. `failure` is set when it named its own failure; `complete` when it said finish.

    `used` are the settings that were really in force; `memory` what the runner knows of its memory, in bytes. A runner
    that knows no token's time says in `samples` what it measured per repetition, by the metric's name (`decode_tps`).
    `profile` is what a run under a profiler tells, None where none ran.
    """

    windows: tuple[Window, ...] = ()
    generations: tuple[Generation, ...] = ()
    inferences: tuple[Inference, ...] = ()
    used: Mapping[str, object] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    profile: Profile | None = None
    failure: Reason | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start a runner on a device: `argv` with `{dir}` for the job's folder, and the files it wants there."""

    argv: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRunner:
    """A runner that is built from source for a kind of device: melt/targets/runners.py makes a file of it.

    `target` is `android-arm64`, `linux-arm64` or `linux-x86_64`; `variant` names the CPU features it was built for.
    """

    name: str
    target: str
    variant: str


class Engine(Protocol):
    """An inference engine. Implementations pass tests/contract/test_engines.py."""

    name: str
    formats: tuple[str, ...]

    def for_device(self, device: DeviceFacts) -> Engine:
        """Return the engine in the form that runs on this device. Raises EngineError where none does."""
        ...

    def runner_files(self) -> tuple[Path, ...]:
        """Files that must be on the device for the runner to start; pushed by content, beside each other."""
        ...

    def built_runner(self) -> BuiltRunner | None:
        """Say which program must be built and put beside the runner's files, None when there is nothing to build."""
        ...

    def command(
        self,
        spec: RunSpec,
        artifact: Artifact,
        *,
        model_path: str,
        runner_dir: str,
        python: str,
        inputs_path: str | None = None,
    ) -> Command:
        """Say how to start the runner on the device, given where the model and the runner files lie there.

        `inputs_path` is where the workload's input tensors lie there, None where it has none of its own.
        """
        ...

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        """Read the runner's stdout lines. Unknown events are passed over; a torn last line too."""
        ...
