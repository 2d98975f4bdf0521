"""Lines of many points cut down: no peak is lost, no gap is bridged, no more points than asked for."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from melt.analysis.downsample import broken, downsample


@given(
    arrays(np.int64, st.integers(1, 400), elements=st.integers(0, 10**13)),
    st.integers(7, 60),
    st.integers(0, 2**32 - 1),
)
def test_extremes_and_ends_are_kept_within_the_number_of_points(times, n, seed):
    random = np.random.default_rng(seed)
    t_ns, values = np.sort(times), random.normal(size=len(times)).round(1)
    values[random.random(len(values)) < 0.1] = np.nan

    kept_ns, kept = downsample(t_ns, values, n)

    assert len(kept_ns) == len(kept) <= n
    assert (kept_ns[0], kept_ns[-1]) == (t_ns[0], t_ns[-1])
    assert np.all(np.diff(kept_ns) >= 0)
    if not np.isnan(values).all():
        assert np.nanmax(kept) == np.nanmax(values)
        assert np.nanmin(kept) == np.nanmin(values)


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, np.nan]), min_size=1, max_size=300), st.integers(7, 40))
def test_what_lay_on_two_sides_of_a_gap_is_never_joined(drawn, n):
    values = np.array(drawn)
    t_ns = np.arange(len(values), dtype=np.int64)

    kept_ns, kept = downsample(t_ns, values, n)

    assert len(kept) <= n
    assert np.array_equal(values[kept_ns], kept, equal_nan=True)
    for a, b in itertools.pairwise(kept_ns[np.isfinite(kept)]):
        gap = np.isnan(values[a:b]).any()
        assert gap == np.isnan(kept[(kept_ns > a) & (kept_ns < b)]).any()


def test_a_single_spike_among_ninety_thousand_points_and_a_gap_survive():
    t_ns = np.arange(90_000, dtype=np.int64) * 20_000_000
    values = np.zeros(90_000)
    values[45_678] = 7.0
    values[60_000:70_000] = np.nan

    kept_ns, kept = downsample(t_ns, values, 1500)

    assert kept_ns[np.nanargmax(kept)] == t_ns[45_678]
    inside = (kept_ns >= t_ns[60_100]) & (kept_ns < t_ns[69_900])
    assert inside.any()
    assert np.isnan(kept[inside]).all()


def test_a_hole_between_samples_is_broken_open():
    t_ns, values = broken(np.array([0, 10, 500, 510]), np.array([1.0, 2.0, 3.0, 4.0]), 100)

    assert np.isnan(values).sum() == 1
    assert 10 < t_ns[np.isnan(values)][0] < 500
