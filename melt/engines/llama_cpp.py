"""llama.cpp through llama-cpp-python: starts agents/runners/llama_cpp.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from melt._layout import agents_dir
from melt.engines.base import BuiltRunner, Command, Engine, RunnerReport
from melt.engines.llama_native import LlamaNative
from melt.engines.runner_events import parse_events
from melt.engines.runner_job import JOB, job_file
from melt.records import Artifact, DeviceFacts, RunSpec

_RUNNER = "llama_cpp.py"
_BESIDE = ("llama_api.py", "llama_facts.py", "llama_profile.py", "llama_work.py", "page_cache.py", "runner_io.py")


class LlamaCpp:
    """The engine `llama.cpp`: GGUF models on the CPU, and on the GPU that the device's build of it serves."""

    name = "llama.cpp"
    profiles = True
    formats: tuple[str, ...] = ("gguf",)

    def for_device(self, device: DeviceFacts) -> Engine:
        """Return this engine, and on Android, which has no Python, the native runner on the same llama.cpp."""
        if device.os != "android":
            return self
        return LlamaNative().for_device(device)

    def built_runner(self) -> BuiltRunner | None:
        """Return None: llama-cpp-python is installed on the device."""
        return None

    def runner_files(self) -> tuple[Path, ...]:
        """Return the runner and the files that it imports; the runner itself first."""
        return tuple(agents_dir() / "runners" / name for name in (_RUNNER, *_BESIDE))

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
            argv=(python, f"{runner_dir}/{_RUNNER}", f"{{dir}}/{JOB}"),
            files={JOB: job_file(spec, artifact, model_path)},
        )

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        """Read the runner's stdout lines; see melt.engines.runner_events."""
        return parse_events(lines)
