"""Throughput over time, and what heat made of it: the burst, the steady state, the moment between them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from melt.analysis.trend import trend
from melt.records import Window
from melt.traces import Times, Trace, Values

KEPT_RATIO = 0.90
"""Throttled is what keeps less of the burst. Noise between bins is a few per cent, and governors wander by as much;
a tenth is also what the verdict takes for a clock that was lowered."""

MIN_BINS = 16
"""Under this a quarter of the curve is no stretch that a rate and its trend could be told of."""

MAX_STEADY_CHANGE = 0.05
"""A last quarter that still changes by more is on its way to somewhere, and its mean is a rate of nothing."""

_MOST_BINS = 240
LEAST_BIN_S = 0.25
_TOKENS_A_BIN = 8
_BURST_SHARE, _STEADY_SHARE = 0.10, 0.25
_LEAST_BURST_BINS = 3
_LEAST_HALF_BINS = 2
_CALM_BINS = 5
"""The median of so many bins passes over what lasts one or two: garbage collection, a program that wakes up."""
_LEAST_HELD_SHARE = 0.05
_LEAST_FILLED = 0.10
_S = 1e9


@dataclass(frozen=True, slots=True)
class Steps:
    """Work that was done one piece after the other: from, to, tokens. Shapes (n,); a new request where `first`."""

    begin_ns: Times
    end_ns: Times
    tokens: Values
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.end_ns)


@dataclass(frozen=True, slots=True)
class Curve:
    """Tokens a second of working time, in bins of equal time from `t0_ns` on, of which the last ends by `t1_ns`.

    `rates` has shape (n,), NaN where the bin holds hardly any such work. `whole_requests`: a bin is as long as one or
    more requests, so that the depth that grows within each does not show.
    """

    t0_ns: int
    t1_ns: int
    width_ns: int
    rates: Values
    tokens: Values
    working_s: Values
    whole_requests: bool

    @property
    def middle_ns(self) -> Times:
        """The middle of each bin, shape (n,)."""
        edges_ns = np.minimum(self.t0_ns + np.arange(len(self.rates) + 1) * self.width_ns, self.t1_ns)
        return np.asarray((edges_ns[:-1] + edges_ns[1:]) // 2, np.int64)

    def mean_tps(self, first: int, last: int) -> float:
        """Return all tokens over all working time of the bins from `first` up to `last`, which is not among them."""
        return float(self.tokens[first:last].sum() / self.working_s[first:last].sum())


@dataclass(frozen=True, slots=True)
class Steady:
    """The last stretch of a curve. `change_ratio` is by how much it rose or fell on the whole, as a share of it.

    `spread_ratio` is the coefficient of variation of its bins.
    """

    rate_tps: float
    spread_ratio: float
    change_ratio: float
    from_ns: int
    lasts_s: float


def decode_steps(tokens: Trace, *, warmup: bool = False) -> Steps:
    """Return a step for each token that came out of another one: what lies between requests is no decoding."""
    wanted = np.isfinite(tokens.columns["itl_s"]) & (tokens.columns["warmup"] == warmup)
    end_ns = tokens.t_ns[wanted]
    begin_ns = end_ns - np.round(tokens.columns["itl_s"][wanted] * _S).astype(np.int64)
    requests = tokens.columns["request"][wanted]
    first = np.concatenate(([True], np.diff(requests) != 0)) if len(requests) else np.zeros(0, bool)
    return Steps(begin_ns, end_ns, np.ones(len(end_ns)), first)


def prefill_steps(windows: Iterable[Window]) -> Steps:
    """Return a step for each measured prefill: for workloads that decode nothing."""
    kept = [w for w in windows if w.phase == "prefill" and not w.warmup and w.n_tokens and w.t1_ns > w.t0_ns]
    return Steps(
        np.array([w.t0_ns for w in kept], np.int64),
        np.array([w.t1_ns for w in kept], np.int64),
        np.array([w.n_tokens or 0 for w in kept], np.float64),
        np.ones(len(kept), bool),
    )


def inference_steps(requests: Trace) -> Steps:
    """Return a step for each measured request to a single-shot model."""
    wanted = requests.columns["warmup"] == 0
    end_ns = requests.t_ns[wanted]
    begin_ns = end_ns - np.round(requests.columns["latency_s"][wanted] * _S).astype(np.int64)
    return Steps(begin_ns, end_ns, np.ones(len(end_ns)), np.ones(len(end_ns), bool))


def curve(steps: Steps, most_bins: int = _MOST_BINS) -> Curve | None:
    """Cut steps into bins and tell the rate of each; None where there is nothing to cut.

    A bin has 0.25 s, 8 tokens and a 240th of the whole at least, and is a multiple of the time from request to request
    where enough such bins remain. A step that lies in two bins counts in both by its share.
    """
    if not len(steps):
        return None
    t0_ns, t1_ns = int(steps.begin_ns[0]), int(steps.end_ns.max())
    span_s = (t1_ns - t0_ns) / _S
    if span_s <= 0:
        return None
    each_s = float(np.median((steps.end_ns - steps.begin_ns) / steps.tokens)) / _S
    width_s = max(span_s / most_bins, LEAST_BIN_S, _TOKENS_A_BIN * each_s)
    starts_ns = steps.begin_ns[steps.first]
    period_s = float(np.median(np.diff(starts_ns))) / _S if len(starts_ns) > 1 else math.inf
    # Of a runner that says the same time twice there is none.
    whole = 0 < period_s < math.inf and span_s / (math.ceil(width_s / period_s) * period_s) >= MIN_BINS
    if whole:
        width_s = math.ceil(width_s / period_s) * period_s
    n = max(1, math.floor(span_s / width_s + 0.5))
    edges_s = np.minimum(np.arange(n + 1) * width_s, span_s)
    at_s = np.column_stack((steps.begin_ns - t0_ns, steps.end_ns - t0_ns)).ravel() / _S
    tokens = np.diff(np.interp(edges_s, at_s, _grown(steps.tokens)))
    working_s = np.diff(np.interp(edges_s, at_s, _grown((steps.end_ns - steps.begin_ns) / _S)))
    filled = working_s >= _LEAST_FILLED * np.diff(edges_s)
    rates = np.divide(tokens, working_s, out=np.full(n, np.nan), where=filled)
    return Curve(t0_ns, t1_ns, round(width_s * _S), rates, tokens, working_s, whole)


def _grown(amounts: Values) -> Values:
    """Return what had come together at the beginning and at the end of each step."""
    total = np.cumsum(amounts)
    return np.column_stack((total - amounts, total)).ravel()


def is_long_enough(found: Curve) -> bool:
    """Whether a curve has bins enough, each of whole requests, to tell burst and steady state apart."""
    return found.whole_requests and int(np.isfinite(found.rates).sum()) >= MIN_BINS


def burst_tps(found: Curve) -> tuple[float, int]:
    """Return the rate before heat: the median of the first bins, and how many these are.

    They are a tenth of the curve, and half of that as long as one half is a tenth slower than the other: then heat came
    sooner, or the clocks had not risen yet. Where the first three are a tenth faster, they are the burst: of a long
    run heat may come within a hundredth. A best of many would be that of the luckiest bin.
    """
    rates = found.rates[np.isfinite(found.rates)]
    part = rates[: max(_LEAST_BURST_BINS, math.ceil(_BURST_SHARE * len(rates)))]
    while len(part) >= 2 * _LEAST_HALF_BINS:
        halves = part[: len(part) // 2], part[len(part) // 2 :]
        slow, fast = sorted(halves, key=lambda half: float(np.median(half)))
        if np.median(slow) >= KEPT_RATIO * np.median(fast):
            break
        part = fast
    first = rates[:_LEAST_BURST_BINS]
    if KEPT_RATIO * np.median(first) > np.median(part):
        part = first
    return float(np.median(part)), len(part)


def throttled_from_ns(found: Curve, burst: float) -> int | None:
    """Return from which moment on the mean rate since then never again comes up to KEPT_RATIO of the burst.

    So a dip that passes is none, and a rate that saws up and down from some moment on is. What lasts one or two bins,
    and what begins within the last twentieth, is passed over. None: there is no such moment.
    """
    known = np.flatnonzero(np.isfinite(found.rates))
    calm = _calmed(found.rates[known])
    lacking = np.cumsum(KEPT_RATIO * burst - calm)
    # The mean from bin i on stays below as long as what lacks since then is above nothing, for every end.
    least_after = np.minimum.accumulate(lacking[::-1])[::-1]
    before = np.concatenate(([0.0], lacking[:-1]))
    held = np.flatnonzero(least_after > before)
    least_bins = max(_CALM_BINS, math.ceil(_LEAST_HELD_SHARE * len(known)))
    if not len(held) or len(known) - held[0] < least_bins:
        return None
    return found.t0_ns + int(known[held[0]]) * found.width_ns


def _calmed(rates: Values) -> Values:
    """Return the running median: it keeps steps where they are."""
    half = _CALM_BINS // 2
    padded = np.concatenate((np.full(half, rates[0]), rates, np.full(half, rates[-1])))
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, _CALM_BINS), axis=1))


def steady(found: Curve) -> Steady:
    """Measure the last quarter of a curve that is long enough."""
    known = np.flatnonzero(np.isfinite(found.rates))
    kept = known[-math.ceil(_STEADY_SHARE * len(known)) :]
    first, rates = int(kept[0]), found.rates[kept]
    rate = found.mean_tps(first, len(found.rates))
    found_trend = trend([float(value) for value in rates])
    slope = 0.0 if found_trend is None else found_trend.slope
    return Steady(
        rate_tps=rate,
        spread_ratio=float(rates.std(ddof=1)) / rate,
        change_ratio=slope * (len(rates) - 1) / rate,
        from_ns=found.t0_ns + first * found.width_ns,
        lasts_s=(len(found.rates) - first) * found.width_ns / _S,
    )
