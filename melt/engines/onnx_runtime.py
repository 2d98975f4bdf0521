"""ONNX Runtime through its Python package: starts agents/runners/onnx_runtime.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from melt._layout import agents_dir
from melt.engines.base import BuiltRunner, Command, RunnerReport
from melt.engines.runner_events import parse_events
from melt.engines.runner_job import JOB, job_file
from melt.errors import EngineError
from melt.records import Artifact, DeviceFacts, RunSpec

_RUNNER = "onnx_runtime.py"
_BESIDE = (
    "onnx_cache.py",
    "onnx_decoder.py",
    "onnx_inputs.py",
    "onnx_look.py",
    "onnx_profile.py",
    "onnx_run.py",
    "onnx_session.py",
    "onnx_tokens.py",
    "onnx_work.py",
    "page_cache.py",
    "runner_io.py",
)


class OnnxRuntime:
    """The engine `onnxruntime`: ONNX models, single-shot or decoders, on the providers of the device's build."""

    name = "onnxruntime"
    profiles = True
    formats: tuple[str, ...] = ("onnx",)

    def for_device(self, device: DeviceFacts) -> OnnxRuntime:
        """Return this engine. Raises EngineError for Android, which has no Python."""
        if device.os == "android":
            raise EngineError(
                f"{device.device_id}: ONNX models run on this machine, on boards and on Macs, not on Android, "
                "which has no Python for the runner"
            )
        return self

    def built_runner(self) -> BuiltRunner | None:
        """Return None: onnxruntime is installed on the device."""
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
            files={JOB: job_file(spec, artifact, model_path, inputs_path)},
        )

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        """Read the runner's stdout lines; see melt.engines.runner_events."""
        return parse_events(lines)
