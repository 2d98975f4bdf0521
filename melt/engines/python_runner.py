"""What engines share whose runner is a program of agents/runners, started by the device's own Python."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from melt._layout import agents_dir
from melt.engines.base import BuiltRunner, Command, RunnerReport
from melt.engines.runner_events import parse_events
from melt.engines.runner_job import JOB, job_file
from melt.records import Artifact, RunSpec


class PythonRunner:
    """The part of an Engine that is about its runner. `runner` is its file, `beside` are those that it imports."""

    runner: ClassVar[str]
    beside: ClassVar[tuple[str, ...]]

    def built_runner(self) -> BuiltRunner | None:
        """Return None: the engine is a package that is installed on the device."""
        return None

    def runner_files(self) -> tuple[Path, ...]:
        """Return the runner and the files that it imports; the runner itself first."""
        return tuple(agents_dir() / "runners" / name for name in (self.runner, *self.beside))

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
        """Say how to start the runner: its job is `runner.json` in the job's folder."""
        return Command(
            argv=(python, f"{runner_dir}/{self.runner}", f"{{dir}}/{JOB}"),
            files={JOB: job_file(spec, artifact, model_path, inputs_path)},
        )

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        """Read the runner's stdout lines; see melt.engines.runner_events."""
        return parse_events(lines)
