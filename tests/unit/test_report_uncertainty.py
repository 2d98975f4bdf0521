"""A value with what it may be off by: one prefix, and no digits that mean nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.records import Metric
from melt.report.run import render_run
from melt.report.scale import with_uncertainty


@pytest.mark.parametrize(
    ("value", "uncertainty", "unit", "written"),
    [
        (12.34, 0.41, "j", "12.3 J ± 0.4"),
        (12.34, 0.147, "j", "12.34 J ± 0.15"),
        (0.01234, 0.0012, "j/tok", "12.3 mJ/tok ± 1.2"),
        (512.0, 34.0, "j", "512 J ± 34"),
        (5.3, 0.096, "w", "5.30 W ± 0.10"),
        (0.2, 3.0, "j", "0 J ± 3"),
        (-0.4, 0.5, "j", "-400 mJ ± 500"),
        (1e-7, 2e-8, "j", "0.10 µJ ± 0.02"),
        (0.0, 0.0, "w", "0 W ± 0"),
    ],
)
def test_a_value_and_its_uncertainty(value: float, uncertainty: float, unit: str, written: str) -> None:
    assert with_uncertainty(value, uncertainty, unit) == written


def test_a_run_shows_energy_with_its_uncertainty_and_rates_without() -> None:
    energy = Metric(name="energy_decode_j", value=12.34, unit="j", source="compute module", uncertainty=0.61)
    rate = Metric(name="decode_tps", value=20.0, unit="tok/s")
    shown = render_run(replace(make_bundle(), metrics=(energy, rate)), "md")
    assert "12.3 J ± 0.6" in shown
    assert shown.count("±") == 1
