"""Latency and throughput of a repetition in the terms of llama-bench, MLPerf and vLLM: see docs/metrics.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from melt.analysis.efficiency import UTILISATION
from melt.analysis.figures import NOT_REACHED, Figure, Figures
from melt.analysis.repetitions import Repetition, token_gaps_s
from melt.analysis.statistics import median_of, quantile
from melt.engines.base import Generation
from melt.records import Window, Workload

ITL_QUANTILES = {"itl_p50_s": 0.50, "itl_p95_s": 0.95, "itl_p99_s": 0.99}
UNTIMED = "the runner tells no times of tokens and phases"
MIN_GAPS_FOR_P99 = 100
"""Below this a 99th percentile is the maximum under another name."""


def rates(repetition: Repetition, workload: Workload) -> dict[str, Figure]:
    """Return what a repetition's own clock tells.

    The requests of a repetition are combined: latencies by their median, throughput as all tokens over all time.
    """
    prompted = [g for g in repetition.generations if g.n_prompt > 0]
    has_prompt, no_prompt, no_decode = _why_none(workload)
    tokenized = repetition.phase("tokenize")
    return {
        "tokenize_s": Figure(sum(w.duration_s for w in tokenized))
        if tokenized
        else Figure(None, "no text was tokenized"),
        "ttft_s": _latency(prompted, ttft_s, no_prompt if not has_prompt or workload.n_gen else no_decode),
        "tpot_s": _latency(repetition.generations, tpot_s, no_decode),
        **itl_percentiles(repetition.generations, no_decode),
        "e2e_s": _latency(repetition.generations, e2e_s, no_decode),
        "prefill_tps": _throughput(repetition.phase("prefill"), no_prompt),
        "decode_tps": _throughput(repetition.phase("decode"), no_decode),
    }


def sampled_rates(samples: Mapping[str, Sequence[float]], index: int, workload: Workload, source: str) -> Figures:
    """Return what a runner measured of a repetition that tells no times: throughput, and why there is no latency."""
    _, no_prompt, no_decode = _why_none(workload)
    untimed = ("tokenize_s", "ttft_s", "tpot_s", *ITL_QUANTILES, "e2e_s", "mbu_ratio", *UTILISATION)
    rates = {
        name: Figure(values[index], source=source)
        if index < len(values := samples.get(name, ()))
        else Figure(None, note)
        for name, note in (("prefill_tps", no_prompt), ("decode_tps", no_decode))
    }
    return {**dict.fromkeys(untimed, Figure(None, UNTIMED, source)), **rates}


def ttft_s(generation: Generation) -> float | None:
    """Time to first token: from submission until it is known, prefill and sampling included."""
    return (generation.token_ns[0] - generation.submit_ns) / 1e9 if generation.token_ns else None


def e2e_s(generation: Generation) -> float | None:
    """End to end: from submission until the last token is known."""
    return (generation.token_ns[-1] - generation.submit_ns) / 1e9 if generation.token_ns else None


def tpot_s(generation: Generation) -> float | None:
    """Time per output token: (E2E - TTFT) / (N - 1); None under two tokens."""
    n = len(generation.token_ns)
    return (generation.token_ns[-1] - generation.token_ns[0]) / 1e9 / (n - 1) if n > 1 else None


def itl_percentiles(generations: Iterable[Generation], note: str) -> dict[str, Figure]:
    """Return the percentiles of the inter-token latency, all gaps of the requests pooled."""
    gaps = token_gaps_s(generations)
    if not gaps:
        return {name: Figure(None, note) for name in ITL_QUANTILES}
    few = f"of {len(gaps)} gaps" if len(gaps) < MIN_GAPS_FOR_P99 else None
    return {name: Figure(quantile(gaps, q), few if q > 0.98 else None) for name, q in ITL_QUANTILES.items()}


def _why_none(workload: Workload) -> tuple[bool, str, str]:
    """Return whether there is a prompt, and the notes of a prefill and of a decode phase that are missing."""
    has_prompt = bool(workload.n_prompt or workload.prompts)
    decodes = workload.n_gen > 1 or (workload.n_gen and not has_prompt)
    return (
        has_prompt,
        NOT_REACHED if has_prompt else "the workload has no prompt",
        NOT_REACHED if decodes else "the workload decodes nothing",
    )


def _latency(generations: Sequence[Generation], of: Callable[[Generation], float | None], note: str) -> Figure:
    value = median_of(map(of, generations))
    return Figure(None, note) if value is None else Figure(value)


def _throughput(windows: Sequence[Window], note: str) -> Figure:
    n_tokens = sum(w.n_tokens or 0 for w in windows)
    return Figure(n_tokens / sum(w.duration_s for w in windows)) if n_tokens else Figure(None, note)
