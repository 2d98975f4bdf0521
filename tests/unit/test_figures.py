"""A run's figure from those of its repetitions."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis.figures import Figure, median_figure

_SHARES = st.floats(-1, 1)


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0, 5), _SHARES), min_size=1, max_size=9))
def test_the_median_of_the_truths_lies_within_that_of_the_values(
    measured: list[tuple[float, float, float]],
) -> None:
    """Each truth lies within its own uncertainty; some are known well, some badly."""
    found = median_figure([Figure(value, uncertainty=u) for value, u, _ in measured])
    assert found.value is not None
    assert found.uncertainty is not None
    assert abs(median(value + share * u for value, u, share in measured) - found.value) <= found.uncertainty + 1e-9


def test_alike_repetitions_are_known_as_well_as_each_of_them() -> None:
    found = median_figure([Figure(value, uncertainty=0.1) for value in (1.0, 1.2, 0.9)])
    assert (found.value, found.uncertainty) == (1.0, pytest.approx(0.1))
    assert median_figure([Figure(1.0), Figure(2.0)]).uncertainty is None
