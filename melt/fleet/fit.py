"""Whether a cell fits into a device's memory, predicted from the model file and the device before anything travels."""

from __future__ import annotations

from dataclasses import dataclass

from melt.models.inspect import expected_memory, resident_memory
from melt.records import Artifact, DeviceFacts, RunSpec


@dataclass(frozen=True, slots=True)
class Fit:
    """What a cell needs, what is free now, what the system can give, and what there is. None: not known."""

    needed_bytes: int
    available_bytes: int | None
    room_bytes: int | None
    total_bytes: int | None

    @property
    def figures(self) -> dict[str, float]:
        """The prediction in numbers, for a reason; what is not known is left out."""
        named = {
            "needed_bytes": self.needed_bytes,
            "available_bytes": self.available_bytes,
            "total_bytes": self.total_bytes,
        }
        return {name: float(value) for name, value in named.items() if value is not None}


def predict(spec: RunSpec, artifact: Artifact, device: DeviceFacts) -> Fit | None:
    """Predict the memory of a cell; None where it is not the system's memory that holds the weights.

    A GPU shares the system's memory on Arm boards, Macs and phones, and has its own on PCs. There, what the engine
    reserves counts, because buffers of a GPU are occupied as a whole. The tokens of prompts in a file are not counted.
    """
    on_gpu = spec.settings.n_gpu_layers != 0
    if on_gpu and device.arch == "x86_64":
        return None
    workload, settings = spec.workload, spec.settings
    n_ctx = workload.n_prompt + workload.n_gen + workload.n_depth
    reckon = expected_memory if on_gpu else resident_memory
    needed = reckon(artifact, n_ctx, settings.cache_type_k, settings.cache_type_v, n_ubatch=settings.n_ubatch)
    return Fit(needed, device.memory_available_bytes, _room(device), device.memory_total_bytes)


def _room(device: DeviceFacts) -> int | None:
    """Return what a system can give to one program by dropping caches and moving out what others hold.

    Android ends other apps for it, and macOS compresses and swaps as far as its disk reaches: there it is all memory.
    """
    total, available = device.memory_total_bytes, device.memory_available_bytes
    if device.os != "linux" or total is None or available is None:
        return total
    return min(total, available + (device.swap_free_bytes or 0))
