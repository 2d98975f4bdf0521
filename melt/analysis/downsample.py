"""Fewer points that look the same: what lies between two pixels is told by its lowest and its highest value."""

from __future__ import annotations

import numpy as np

from melt.traces import Times, Values

_A_BUCKET = 3
"""Points that are kept of a bucket: the lowest, the highest, and one that was not measured."""


def downsample(t_ns: Times, values: Values, n: int) -> tuple[Times, Values]:
    """Return at most `n` (5 or more) of the points, shapes (m,): no peak is lost, and gaps (NaN) stay gaps
    unless they are shorter than a point of the result stands for.

    The first and the last point are kept, and of each of equal stretches of time the extremes, at their own times.
    """
    if len(t_ns) <= n:
        return t_ns, values
    buckets = max(1, (n - 2) // _A_BUCKET)
    span_ns = max(1, int(t_ns[-1] - t_ns[0]) + 1)
    bucket = ((t_ns - t_ns[0]) / span_ns * buckets).astype(np.int64)
    missing = np.isnan(values)
    # By bucket, then measured before missing, then by value: the ends of each part are what is looked for.
    order = np.lexsort((values, missing, bucket))
    part = 2 * bucket[order] + missing[order]
    begins = np.flatnonzero(np.concatenate(([True], np.diff(part) != 0)))
    ends = np.concatenate((begins[1:], [len(order)])) - 1
    measured = ~missing[order[begins]]
    kept = np.concatenate(([0, len(t_ns) - 1], order[begins], order[ends[measured]]))
    kept = np.unique(kept)
    return t_ns[kept], values[kept]


def broken(t_ns: Times, values: Values, gap_ns: int) -> tuple[Times, Values]:
    """Put a point that was not measured into every hole that is longer than `gap_ns`, so that no line bridges it."""
    holes = np.flatnonzero(np.diff(t_ns) > gap_ns)
    if not len(holes):
        return t_ns, values
    return np.insert(t_ns, holes + 1, t_ns[holes] + 1), np.insert(values, holes + 1, np.nan)
