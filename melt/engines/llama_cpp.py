"""llama.cpp through llama-cpp-python: starts agents/runners/llama_cpp.py."""

from __future__ import annotations

from melt.engines.base import Engine
from melt.engines.llama_native import LlamaNative
from melt.engines.python_runner import PythonRunner
from melt.records import DeviceFacts


class LlamaCpp(PythonRunner):
    """The engine `llama.cpp`: GGUF models on the CPU, and on the GPU that the device's build of it serves."""

    name = "llama.cpp"
    profiles = True
    formats: tuple[str, ...] = ("gguf",)
    runner = "llama_cpp.py"
    beside = ("llama_api.py", "llama_facts.py", "llama_profile.py", "llama_work.py", "page_cache.py", "runner_io.py")

    def for_device(self, device: DeviceFacts) -> Engine:
        """Return this engine, and on Android, which has no Python, the native runner on the same llama.cpp."""
        if device.os != "android":
            return self
        return LlamaNative().for_device(device)
