"""Fewer points that look the same: what lies between two pixels is told by its lowest and its highest value.

Min-max and not LTTB (largest triangle three buckets): LTTB keeps one point of a bucket, the one that makes the best
looking line, and so drops one of two spikes that lie within a pixel; who looks for the highest power or the lowest
clock must find it. It also goes from bucket to bucket in a loop, and knows no gaps.
"""

from __future__ import annotations

import numpy as np

from melt.traces import Times, Values

_A_BUCKET = 5
"""Points that a bucket keeps at most: the lowest, the highest, and a hole before, between and after them."""


def downsample(t_ns: Times, values: Values, n: int) -> tuple[Times, Values]:
    """Return at most `n` (7 or more) of the points, shapes (m,): no peak is lost, and gaps (NaN) stay gaps.

    The first and the last point are kept, and of each of equal stretches of time the extremes, at their own times.
    Without gaps, two points of a stretch are kept and the stretches are so much the shorter.
    """
    if len(t_ns) <= n:
        return t_ns, values
    missing = np.isnan(values)
    buckets = max(1, (n - 2) // 2)
    kept = _kept(t_ns, values, missing, buckets)
    if len(kept) > n:
        # Gaps took room: as many stretches as would fit with those, and else as fit in any case.
        kept = _kept(t_ns, values, missing, max(1, buckets - (len(kept) - n)))
    if len(kept) > n:
        kept = _kept(t_ns, values, missing, max(1, (n - 4) // _A_BUCKET))
    return t_ns[kept], values[kept]


def _kept(t_ns: Times, values: Values, missing: np.ndarray, buckets: int) -> np.ndarray:
    """Return the indices that are kept, in order, when time is cut into so many stretches."""
    span_ns = max(1, int(t_ns[-1] - t_ns[0]) + 1)
    bucket = ((t_ns - t_ns[0]) / span_ns * buckets).astype(np.int64)
    # By bucket, then measured before missing, then by value: the ends of each part are what is looked for.
    order = np.lexsort((values, missing, bucket))
    part = 2 * bucket[order] + missing[order]
    begins = np.flatnonzero(np.concatenate(([True], np.diff(part) != 0)))
    ends = np.concatenate((begins[1:], [len(order)])) - 1
    measured = ~missing[order[begins]]
    extremes = np.unique(np.concatenate((order[begins[measured]], order[ends[measured]], [0, len(t_ns) - 1])))
    holes = np.flatnonzero(missing)
    # A hole is told by one point: the first after each extreme, and the first of each bucket.
    stretch = np.searchsorted(extremes, holes) + bucket[holes] * (len(extremes) + 1)
    first = np.unique(stretch, return_index=True)[1]
    return np.unique(np.concatenate((extremes, holes[first])))


def broken(t_ns: Times, values: Values, gap_ns: int) -> tuple[Times, Values]:
    """Put a point that was not measured into every hole that is longer than `gap_ns`, so that no line bridges it."""
    holes = np.flatnonzero(np.diff(t_ns) > gap_ns)
    if not len(holes):
        return t_ns, values
    return np.insert(t_ns, holes + 1, t_ns[holes] + 1), np.insert(values, holes + 1, np.nan)
