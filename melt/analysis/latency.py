"""Latency and throughput of a single-shot model: the first request apart from all later ones, see docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from melt.analysis.figures import NOT_REACHED, Figure
from melt.analysis.rates import UNTIMED
from melt.analysis.repetitions import Repetition, runner_trace
from melt.analysis.statistics import median_of, quantile
from melt.engines.base import Inference
from melt.records import Workload
from melt.traces import Trace

INFERENCES = "inferences"
"""The collector's name of the trace with every request's time."""

RATE = "inferences_per_s"
ENERGY = "energy_per_inference_j"
QUANTILES = {"inference_p50_s": 0.50, "inference_p90_s": 0.90, "inference_p99_s": 0.99}
NAMES = (
    "first_inference_s",
    "first_inference_ratio",
    *QUANTILES,
    RATE,
    "items_per_s",
    "energy_inference_j",
    "energy_inference_net_j",
    ENERGY,
    "energy_per_inference_net_j",
)
"""What only runs of a single-shot model have."""

OF_TOKENS = (
    "tokenize_s",
    "ttft_s",
    "tpot_s",
    "itl_p50_s",
    "itl_p95_s",
    "itl_p99_s",
    "e2e_s",
    "prefill_tps",
    "decode_tps",
    "burst_tps",
    "steady_tps",
    "mbu_ratio",
    "mfu_prefill_ratio",
    "mfu_decode_ratio",
    "roofline_prefill_ratio",
    "roofline_decode_ratio",
    "kv_cache_bytes",
    "energy_prefill_j",
    "energy_prefill_net_j",
    "energy_decode_j",
    "energy_decode_net_j",
    "energy_per_prompt_token_j",
    "energy_per_prompt_token_net_j",
    "energy_per_token_j",
    "energy_per_token_net_j",
    "tokens_per_j",
    "energy_response_j",
)
"""What they have not: they neither read nor write tokens."""

MIN_FOR_P99 = 100
"""Below this a 99th percentile is the maximum under another name."""


def not_of(workloads: Iterable[Workload]) -> frozenset[str]:
    """Return the figures that none of these workloads can have, because all are of the other kind of model."""
    single_shot = {workload.kind == "inference" for workload in workloads}
    return frozenset((*(OF_TOKENS if False not in single_shot else ()), *(NAMES if True not in single_shot else ())))


def latency(repetition: Repetition) -> dict[str, Figure]:
    """Return what the clock of a repetition tells: percentiles of a request's time, requests a second.

    Items a second too, where a request is of several.
    """
    n = sum(len(one.t1_ns) for one in repetition.inferences)
    length_s = sum(window.duration_s for window in repetition.phase("inference"))
    if not n or not length_s:
        return dict.fromkeys((*QUANTILES, RATE), Figure(None, NOT_REACHED))
    n_items = sum(one.batch * len(one.t1_ns) for one in repetition.inferences)
    return {
        **percentiles(repetition.inferences),
        RATE: Figure(n / length_s),
        **({"items_per_s": Figure(n_items / length_s)} if n_items != n else {}),
    }


def sampled_latency(samples: Mapping[str, Sequence[float]], index: int, source: str) -> dict[str, Figure]:
    """Return what a runner measured of a repetition that tells no times: the rate, and why there is no latency."""
    values = samples.get(RATE, ())
    rate = Figure(values[index], source=source) if index < len(values) else Figure(None, NOT_REACHED)
    return {**dict.fromkeys(QUANTILES, Figure(None, UNTIMED, source)), RATE: rate}


def percentiles(inferences: Iterable[Inference], none_note: str = NOT_REACHED) -> dict[str, Figure]:
    """Return the percentiles of a request's time, those of all the repetitions given pooled, in seconds."""
    times = durations_s(inferences)
    if not times:
        return dict.fromkeys(QUANTILES, Figure(None, none_note))
    few = f"of {len(times)} requests" if len(times) < MIN_FOR_P99 else None
    return {name: Figure(quantile(times, q), few if q > 0.98 else None) for name, q in QUANTILES.items()}


def first(
    inferences: Sequence[Inference], measured: Iterable[Inference], none_note: str = NOT_REACHED
) -> dict[str, Figure]:
    """Return the time of a process's very first request, warm-ups included, and how often the median goes into it.

    The first allocates, chooses kernels, compiles: an application that asks once pays it, a loop does not.
    """
    begun = min((one for one in inferences if one.t0_ns), key=lambda one: one.t0_ns[0], default=None)
    steady_s = median_of(durations_s(measured))
    if begun is None:
        return dict.fromkeys(("first_inference_s", "first_inference_ratio"), Figure(None, none_note))
    first_s = (begun.t1_ns[0] - begun.t0_ns[0]) / 1e9
    ratio = None if not steady_s else first_s / steady_s
    return {
        "first_inference_s": Figure(first_s, None if begun.warmup else "it is one of those that are measured"),
        "first_inference_ratio": Figure(ratio, None if ratio is not None else NOT_REACHED),
    }


def durations_s(inferences: Iterable[Inference]) -> list[float]:
    """Return how long each request took, in seconds."""
    return [(t1 - t0) / 1e9 for one in inferences for t0, t1 in zip(one.t0_ns, one.t1_ns, strict=True)]


def inference_trace(inferences: Iterable[Inference]) -> Trace:
    """Return a row per request, at the moment in which its answer was there."""
    rows = [
        (t1, one.repetition, one.warmup, index, (t1 - t0) / 1e9, one.batch)
        for one in inferences
        for index, (t0, t1) in enumerate(zip(one.t0_ns, one.t1_ns, strict=True))
    ]
    names = (
        ("repetition", "count", "1"),
        ("warmup", "state", "1"),
        ("index", "count", "1"),
        ("latency_s", "duration", "s"),
        ("batch", "count", "1"),
    )
    return runner_trace(INFERENCES, names, rows)
