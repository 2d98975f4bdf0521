"""Memory bandwidth utilisation: what decoding reads per second as a share of what the memory can deliver.

Decoding one sequence reads every weight once per token, which makes it a matter of bandwidth. The term and the formula
are Databricks', https://www.databricks.com/blog/llm-inference-performance-engineering-best-practices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from melt.analysis.figures import NOT_REACHED, Figure
from melt.records import Artifact, RunStart, Window

_F16_BYTES = 2.0
_BYTES_PER_VALUE = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
    "float32": 4.0,
    "float16": 2.0,
}
"""Bytes per cached value, from the block sizes in ggml-common.h; numpy's names are those of ONNX Runtime's runner."""


def mbu(start: RunStart, used: Mapping[str, object], decode: Sequence[Window], decode_tps: float | None) -> Figure:
    """Return the share of the measured bandwidth that decoding reached, 0..1; None and why where it says nothing."""
    problem = _why_not(start, used)
    if problem is None and (decode_tps is None or not decode):
        workload = start.spec.workload
        problem = NOT_REACHED if workload.n_gen else "the workload decodes nothing"
    bandwidth, weights = start.device.memory_bandwidth_bytes_per_s, weight_bytes_per_token(start.artifact)
    if problem is not None or decode_tps is None or not bandwidth or weights is None:
        return Figure(None, problem or "the bytes of the model's weights are unknown", "derived")
    kv_bytes = kv_bytes_per_token(start.artifact, used)
    depth = mean_depth(decode)
    note = None
    if kv_bytes is None or depth is None:
        kv_bytes, depth, note = 0.0, 0.0, "weights only: the size of the KV cache is unknown"
    return Figure((weights + kv_bytes * depth) * decode_tps / bandwidth, note, "derived")


def weight_bytes_per_token(artifact: Artifact) -> float | None:
    """Return the bytes of weights that one decoded token reads, None when unknown.

    An embedding table of its own is looked up, a row per token; a tied one is the output matrix and is read whole.
    """
    if artifact.weight_bytes is None:
        return None
    return float(artifact.weight_bytes - (artifact.embedding_bytes or 0))


def kv_bytes_per_token(artifact: Artifact, used: Mapping[str, object]) -> float | None:
    """Return the bytes that one token of context takes in the cache as it was really typed, None when unknown."""
    if artifact.kv_bytes_per_token is None:
        return None
    both = used.get("cache_type", "f16")
    widths = [_BYTES_PER_VALUE.get(str(used.get(key, both))) for key in ("cache_type_k", "cache_type_v")]
    known = [w for w in widths if w is not None]
    return artifact.kv_bytes_per_token * sum(known) / (2 * _F16_BYTES) if len(known) == 2 else None


def mean_depth(decode: Sequence[Window]) -> float | None:
    """Return how many tokens of context a decoded token attended to on average, itself included."""
    counted = [(w.n_tokens, w.depth) for w in decode if w.n_tokens and w.depth is not None]
    total = sum(n for n, _ in counted)
    return sum(n * (depth + (n + 1) / 2) for n, depth in counted) / total if total else None


def not_the_cpus(start: RunStart, used: Mapping[str, object]) -> str | None:
    """Say why a run is none of what the CPUs' ceilings can be held against, None where it is."""
    layers = used.get("n_gpu_layers", start.spec.settings.n_gpu_layers)
    if isinstance(layers, int) and layers > 0:
        return "the ceilings measured are those of the CPU, layers ran elsewhere"
    nodes = used.get("nodes_by_provider")
    if isinstance(nodes, Mapping) and set(nodes) - {"CPUExecutionProvider"}:
        return "the ceilings measured are those of the CPU, nodes ran elsewhere"
    if "moe" in (start.artifact.architecture or ""):
        return "a mixture of experts reads only some of its weights per token"
    return None


def _why_not(start: RunStart, used: Mapping[str, object]) -> str | None:
    if not start.device.memory_bandwidth_bytes_per_s:
        return "the memory bandwidth was not measured"
    return not_the_cpus(start, used)
