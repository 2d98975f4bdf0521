"""What llama.cpp really did with what it was asked: settings in force, devices, memory.

Where the library has no question for it, the answer is read from its log (src/llama-context.cpp, llama-kv-cache.cpp).
Runs on the device's own Python, 3.8 and later.
"""

from __future__ import annotations

import ctypes

from llama_api import CACHE_TYPES
from runner_io import affinity

_MIB = 1024 * 1024
_KV_CACHE = r"size = +([\d.]+) MiB \( *(\d+) cells, +(\d+) layers[^)]*\), K "
_RECURRENT_STATE = r"size = +([\d.]+) MiB \( *\d+ cells[^)]*\), R "
_ROUNDING_MIB = 0.006
_NO_GPU = ("CPU", "BLAS")
"""Devices of ggml that no layer is offloaded to. A Mac's BLAS is Accelerate; its GPU is called MTL0."""
_FLASH_ATTENTION = r"(?:flash_attn +=|Flash Attention)[^\n]* (enabled|disabled)"


def used(engine, settings):
    """Say what is in force, as the load event's `used`; null where the engine does not tell."""
    api, context, log = engine.api, engine.context, engine.log
    layers = int((log.find(r"offloaded (\d+)/\d+ layers") or ["0"])[-1])
    devices = _devices(api)
    return {
        "threads": api.llama_n_threads(context),
        "threads_batch": api.llama_n_threads_batch(context),
        "n_ctx": api.llama_n_ctx(context),
        "n_batch": api.llama_n_batch(context),
        "n_ubatch": api.llama_n_ubatch(context),
        "cache_type_k": settings.cache_type_k,
        "cache_type_v": settings.cache_type_v,
        "flash_attn": {"enabled": "on", "disabled": "off"}.get((log.find(_FLASH_ATTENTION) or [None])[-1]),
        "n_gpu_layers": layers,
        "mmap": (log.find(r"load_mode = (\w+)") or [""])[-1].startswith("mmap"),
        "backend": next((name for name, _ in devices if name not in _NO_GPU), "CPU") if layers else "CPU",
        "devices": ["%s (%s)" % device for device in devices],
        "cpu_features": (api.llama_print_system_info() or b"").decode("utf-8", "replace").strip(" |"),
        "affinity": affinity(),
    }


def memory(engine, settings):
    """Say what the engine allocated, in bytes, as the load event's `memory`; null where it does not tell."""
    compute = {}
    for device, mib in engine.log.find(r"(\S+) +compute buffer size = +([\d.]+) MiB"):
        compute[device] = float(mib)  # a later reservation of a device replaces the earlier one
    return {
        "model_bytes": engine.api.llama_model_size(engine.model) or None,
        "kv_cache_bytes": _kv_cache_bytes(engine, settings),
        "compute_bytes": round(sum(compute.values()) * _MIB) if compute else None,
    }


def _kv_cache_bytes(engine, settings):
    """Add up the caches: exactly from cells, layers and types where that agrees with the log, else as logged."""
    row = 0
    for half, kind in (("k", settings.cache_type_k), ("v", settings.cache_type_v)):
        width = (engine.log.find(r"n_embd_%s_gqa += (\d+)\n" % half) or ["0"])[-1]
        row += _row_bytes(engine.api, kind, int(width))
    total = None
    for mib, cells, layers in engine.log.find(_KV_CACHE):
        size = float(mib) * _MIB
        exact = int(cells) * int(layers) * row
        # Layers may differ in width, and some architectures keep no V: then the log is right and this is not.
        if abs(exact - size) <= _ROUNDING_MIB * _MIB:
            size = exact
        total = (total or 0) + round(size)
    for mib in engine.log.find(_RECURRENT_STATE):
        total = (total or 0) + round(float(mib) * _MIB)
    return total


def _row_bytes(api, kind, width):
    function = api._lib.ggml_row_size
    function.argtypes, function.restype = [ctypes.c_int, ctypes.c_int64], ctypes.c_size_t
    return function(CACHE_TYPES[kind], width)


def _devices(api):
    lib = api._lib
    if not hasattr(lib, "ggml_backend_dev_count"):
        return []
    lib.ggml_backend_dev_count.restype = ctypes.c_size_t
    lib.ggml_backend_dev_get.argtypes, lib.ggml_backend_dev_get.restype = [ctypes.c_size_t], ctypes.c_void_p
    names = []
    for function in (lib.ggml_backend_dev_name, lib.ggml_backend_dev_description):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    for index in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(index)
        name, description = lib.ggml_backend_dev_name(device), lib.ggml_backend_dev_description(device)
        names.append((name.decode("utf-8", "replace"), description.decode("utf-8", "replace")))
    return names
