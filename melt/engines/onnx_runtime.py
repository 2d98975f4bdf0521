"""ONNX Runtime through its Python package: starts agents/runners/onnx_runtime.py."""

from __future__ import annotations

from melt.engines.python_runner import PythonRunner
from melt.errors import EngineError
from melt.records import DeviceFacts


class OnnxRuntime(PythonRunner):
    """The engine `onnxruntime`: ONNX models, single-shot or decoders, on the providers of the device's build."""

    name = "onnxruntime"
    profiles = True
    formats: tuple[str, ...] = ("onnx",)
    runner = "onnx_runtime.py"
    beside = (
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

    def for_device(self, device: DeviceFacts) -> OnnxRuntime:
        """Return this engine. Raises EngineError for Android, which has no Python."""
        if device.os == "android":
            raise EngineError(
                f"{device.device_id}: ONNX models run on this machine, on boards and on Macs, not on Android, "
                "which has no Python for the runner"
            )
        return self
