"""A value with what it may be off by: one prefix, and no digits that mean nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.analysis.compare import compare
from melt.records import Metric
from melt.report.comparison import render
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


def test_a_comparison_of_single_sessions_shows_what_their_meters_may_be_off_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    energy = Metric(name="energy_per_token_j", value=0.1234, unit="j/tok", source="compute module", uncertainty=0.0061)
    rate = Metric(name="decode_tps", value=20.0, unit="tok/s")
    comparison = compare([replace(make_bundle(), metrics=(energy, rate))], metrics=("decode_tps", "energy_per_token_j"))
    cells = {row.metric: row.cells[0] for row in comparison.groups[0].rows}
    assert (cells["energy_per_token_j"].uncertainty, cells["decode_tps"].uncertainty) == (0.0061, None)
    shown = render(comparison, "table")
    assert "123 ±6" in shown
    assert "20.0 ±" not in shown
    assert "what their meter may be off by" in shown
    assert '"uncertainty": 0.0061' in render(comparison, "json")
