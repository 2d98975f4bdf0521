"""A run as llama-bench would have written it: the fields of its JSON output at the pinned revision of llama.cpp.

What melt did not measure or set is null. llama-bench times one thing per test, so a run that prefills and then decodes
becomes two: `n_gen` and `n_depth` of the second are the tokens that were timed and those that were there before.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from melt.records import RunStart, Window
from melt.traces import RunBundle

_FLASH_ATTN = {"auto": -1, "off": 0, "on": 1, "false": 0, "true": 1}
_TIMED = ("prefill", "decode")


def llama_bench_tests(bundle: RunBundle) -> list[dict[str, Any]]:
    """Return a test per phase, length and depth that was measured; nothing for prompts, which llama-bench has not."""
    start = bundle.start
    if start.spec.workload.kind == "prompts":
        return []
    groups: dict[tuple[str, int, int], list[Window]] = defaultdict(list)
    for window in bundle.windows:
        if window.phase in _TIMED and not window.warmup and window.n_tokens and window.t1_ns > window.t0_ns:
            depth = start.spec.workload.n_depth if window.depth is None else window.depth
            groups[window.phase, window.n_tokens, depth].append(window)
    common = _common(start, bundle.stop.used)
    return [
        {
            **common,
            "n_prompt": n_tokens if phase == "prefill" else 0,
            "n_gen": n_tokens if phase == "decode" else 0,
            "n_depth": depth,
            "test_time": _utc(start.started_utc_ns),
            **_samples(windows, n_tokens),
        }
        for (phase, n_tokens, depth), windows in groups.items()
    ]


def _common(start: RunStart, used: dict[str, object]) -> dict[str, Any]:
    artifact, settings, device = start.artifact, start.spec.settings, start.device
    flash_attn = str(used.get("flash_attn", settings.flash_attn)).lower()
    return {
        "build_commit": used.get("engine_revision"),
        "build_number": None,
        "cpu_info": device.soc,
        "gpu_info": ", ".join(device.accelerators) or None,
        "backends": used.get("backend"),
        "model_filename": artifact.path,
        "model_type": " ".join(filter(None, (artifact.architecture, artifact.quant))) or None,
        "model_size": artifact.weight_bytes,
        "model_n_params": artifact.n_params,
        "n_batch": used.get("n_batch", settings.n_batch),
        "n_ubatch": used.get("n_ubatch", settings.n_ubatch),
        "n_threads": used.get("threads", settings.threads),
        "cpu_mask": None,
        "cpu_strict": None,
        "poll": None,
        "type_k": used.get("cache_type_k", settings.cache_type_k),
        "type_v": used.get("cache_type_v", settings.cache_type_v),
        "n_gpu_layers": used.get("n_gpu_layers", settings.n_gpu_layers),
        "n_cpu_moe": None,
        "split_mode": None,
        "main_gpu": None,
        "no_kv_offload": None,
        "flash_attn": _FLASH_ATTN.get(flash_attn),
        "devices": None,
        "tensor_split": None,
        "tensor_buft_overrides": None,
        "load_mode": "mmap" if used.get("mmap", settings.mmap) else "none",
        "lazy_mode": None,
        "embeddings": False,
        "no_op_offload": None,
        "no_host": None,
        "repack": None,
        "fit_target": None,
        "fit_min_ctx": None,
    }


def _samples(windows: Sequence[Window], n_tokens: int) -> dict[str, Any]:
    samples_ns = [w.t1_ns - w.t0_ns for w in windows]
    samples_ts = [n_tokens * 1e9 / length_ns for length_ns in samples_ns]
    several = len(samples_ns) > 1
    return {
        "avg_ns": round(statistics.fmean(samples_ns)),
        "stddev_ns": round(statistics.stdev(samples_ns)) if several else None,
        "avg_ts": statistics.fmean(samples_ts),
        "stddev_ts": statistics.stdev(samples_ts) if several else None,
        "samples_ns": samples_ns,
        "samples_ts": samples_ts,
    }


def _utc(moment_ns: int) -> str:
    return datetime.fromtimestamp(moment_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
