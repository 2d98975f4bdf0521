"""Results of optimum-benchmark, `benchmark.json` or `benchmark_report.json` alone, as entries to import. Pure.

The report has a section per target (load, prefill, decode, ...) with the latency of each iteration in seconds and the
highest memory; the configuration says what ran where. Its energy is codecarbon's estimate and is left in the entry.
optimum_benchmark/benchmark/report.py and trackers/ of huggingface/optimum-benchmark describe it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from melt.analysis.figures import Figure
from melt.analysis.import_json import NotImportableError, finite, mapping, objects, text_of
from melt.analysis.imported import Entry
from melt.records import Workload

TOOL = "optimum-benchmark"

_MB = 1e6
_SECTIONS = ("load_model", "load", "prefill", "decode", "generate", "per_token", "forward", "call")
_PERCENTILES = {"itl_p50_s": 50, "itl_p95_s": 95, "itl_p99_s": 99}


def is_one(value: Mapping[str, Any]) -> bool:
    """Return whether an object looks like a result of optimum-benchmark."""
    report = mapping(value.get("report", value))
    return any("latency" in mapping(report.get(name)) or "memory" in mapping(report.get(name)) for name in _SECTIONS)


def entries(text: str) -> list[Entry]:
    """Read a text. Raises NotImportableError, its message begins with the line."""
    return [_entry(line, whole) for line, whole in objects(text)]


def _entry(line: int, whole: Mapping[str, Any]) -> Entry:
    if not is_one(whole):
        raise NotImportableError(f"{line}: no result of optimum-benchmark: no section `prefill`, `decode` or alike")
    config, report = mapping(whole.get("config")), mapping(whole.get("report", whole))
    backend, scenario = mapping(config.get("backend")), mapping(config.get("scenario"))
    environment = mapping(config.get("environment"))
    batch, n_prompt, n_gen = _shape(scenario)
    name, device = _device(environment, backend)
    engine, version = text_of(backend.get("name")) or "unknown", text_of(backend.get("version"))
    threads = finite(backend.get("intra_op_num_threads"))
    told = {
        "backend": text_of(backend.get("device")),
        "dtype": text_of(backend.get("torch_dtype")),
        "batch_size": batch,
    }
    told["engine_revision"] = f"{engine} {version}" if version else None
    return Entry(
        told=whole,
        line=line,
        tool_version=text_of(environment.get("optimum_benchmark_version")),
        model=text_of(backend.get("model")) or "unknown",
        quant=_quant(backend),
        engine=engine,
        workload=_workload(batch, n_prompt, n_gen),
        device_name=name,
        device=device,
        artifact={"path": text_of(backend.get("model")), "architecture": text_of(backend.get("model_type"))},
        settings={} if threads is None else {"threads": int(threads)},
        used={"runner": TOOL, **{key: value for key, value in told.items() if value is not None}},
        samples=_samples(report, batch or 1, n_prompt, n_gen),
        totals=_totals(report),
    )


def _shape(scenario: Mapping[str, Any]) -> tuple[int | None, int, int]:
    shapes, generate = mapping(scenario.get("input_shapes")), mapping(scenario.get("generate_kwargs"))
    new = finite(generate.get("max_new_tokens")) or finite(scenario.get("new_tokens"))
    batch = finite(shapes.get("batch_size"))
    return None if batch is None else int(batch), int(finite(shapes.get("sequence_length")) or 0), int(new or 0)


def _workload(batch: int | None, n_prompt: int, n_gen: int) -> Workload:
    """Return what was asked for; several requests at a time are another workload than one."""
    if batch in (None, 1):
        return Workload(n_prompt=n_prompt, n_gen=n_gen)
    return Workload(kind="prompts", prompts_name=f"{batch} x pp{n_prompt}", n_prompt=n_prompt, n_gen=n_gen)


def _samples(report: Mapping[str, Any], batch: int, n_prompt: int, n_gen: int) -> dict[str, Sequence[float]]:
    """Return what each iteration took. The first token comes with the prefill; the decode is of all others."""
    prefill, decode = _latencies(report, "prefill"), _latencies(report, "decode")
    found: dict[str, Sequence[float]] = {"ttft_s": prefill, "e2e_s": _latencies(report, "generate")}
    found["query_s"] = _latencies(report, "forward") or _latencies(report, "call")
    found["samples_per_s"] = [batch / s for s in found["query_s"]]
    if n_prompt:
        found["prefill_tps"] = [batch * n_prompt / s for s in prefill]
    if n_gen > 1:
        found["decode_tps"] = [batch * (n_gen - 1) / s for s in decode]
        found["tpot_s"] = [s / (n_gen - 1) for s in decode]
    return {name: values for name, values in found.items() if values}


def _totals(report: Mapping[str, Any]) -> dict[str, Figure]:
    found = {}
    load = _latencies(report, "load_model") or _latencies(report, "load")
    if load:
        found["load_s"] = Figure(load[0], source=TOOL)
    if gaps := _latencies(report, "per_token"):
        found |= {name: Figure(float(np.percentile(gaps, q)), source=TOOL) for name, q in _PERCENTILES.items()}
    peaks = [_memory(report, name) for name in _SECTIONS]
    if known := [peak for peak in peaks if peak is not None]:
        found["peak_rss_bytes"] = Figure(max(known), source=TOOL)
    return found


def _latencies(report: Mapping[str, Any], section: str) -> list[float]:
    latency = mapping(mapping(report.get(section)).get("latency"))
    values = latency.get("values")
    numbers = [finite(value) for value in values] if isinstance(values, list) else []
    kept = [number for number in numbers if number is not None and number > 0]
    return kept if len(kept) == len(numbers) and latency.get("unit", "s") == "s" else []


def _memory(report: Mapping[str, Any], section: str) -> float | None:
    memory = mapping(mapping(report.get(section)).get("memory"))
    megabytes = finite(memory.get("max_ram"))
    return None if megabytes is None or memory.get("unit", "MB") != "MB" else megabytes * _MB


def _quant(backend: Mapping[str, Any]) -> str | None:
    scheme = text_of(backend.get("quantization_scheme"))
    bits = finite(mapping(backend.get("quantization_config")).get("bits"))
    if scheme is None:
        return text_of(backend.get("torch_dtype")) or text_of(backend.get("dtype"))
    return scheme if bits is None else f"{scheme}-{bits:.0f}bit"


def _device(environment: Mapping[str, Any], backend: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of what the model ran on and what is told of the machine, whose GPUs all are listed."""
    cpu, gpus = text_of(environment.get("cpu")), environment.get("gpu")
    names = tuple(filter(None, map(text_of, gpus))) if isinstance(gpus, list) else ()
    memory = finite(environment.get("cpu_ram_mb"))
    system = text_of(environment.get("system"))
    name = (_used_gpu(names, backend) if backend.get("device") == "cuda" else None) or cpu or "unknown"
    return name, {
        "os": None if system is None else system.lower(),
        "os_build": text_of(environment.get("platform")),
        "arch": text_of(environment.get("machine")),
        "soc": cpu,
        "memory_total_bytes": None if memory is None else int(memory * _MB),
        "accelerators": names,
    }


def _used_gpu(names: Sequence[str], backend: Mapping[str, Any]) -> str | None:
    """Return the first GPU that was asked for (`device_ids`: "1", "0,1"); without that, CUDA takes the first."""
    first = str(backend.get("device_ids") or "0").partition(",")[0].strip()
    place = int(first) if first.isdecimal() else 0
    return names[place] if place < len(names) else None
