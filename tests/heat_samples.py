"""Sustained runs whose heat is known beforehand: token times by a rate over time, made without a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from melt.analysis.repetitions import token_trace
from melt.engines.base import Generation
from melt.traces import Trace

BOOT_NS = 86_400 * 400 * 10**9
S = 10**9


def generations(
    rate_tps: Callable[[float], float],
    lasts_s: float,
    *,
    n_gen: int = 32,
    prefill_s: float = 0.4,
    noise: float = 0.0,
    stalls: Sequence[tuple[float, float]] = (),
    seed: int = 0,
) -> list[Generation]:
    """Decode at a rate over time, request after request; `noise` of each token, `stalls` at a time for a time."""
    rng = np.random.default_rng(seed)
    waiting = sorted(stalls)
    made, now_s = [], 0.0
    while now_s < lasts_s:
        submit_s, now_s = now_s, now_s + prefill_s
        times_s = [now_s]
        while len(times_s) < n_gen and now_s < lasts_s:
            now_s += max(0.1, 1 + noise * rng.standard_normal()) / rate_tps(now_s)
            if waiting and now_s >= waiting[0][0]:
                now_s += waiting.pop(0)[1]
            times_s.append(now_s)
        made.append(
            Generation(
                repetition=0,
                warmup=False,
                submit_ns=BOOT_NS + round(submit_s * S),
                depth=0,
                n_prompt=64,
                token_ns=tuple(BOOT_NS + round(t * S) for t in times_s),
                token_ids=(),
                stop="length",
            )
        )
    return made


def tokens(rate_tps: Callable[[float], float], lasts_s: float, **how: object) -> Trace:
    """Return the trace of token times of such a run."""
    return token_trace(generations(rate_tps, lasts_s, **how))  # type: ignore[arg-type]
