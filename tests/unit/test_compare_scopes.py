"""What a meter covered: figures of unlike scopes are never set against each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compare_samples import bundles, cells

from melt.analysis import derived
from melt.analysis.compare import compare
from melt.records import Metric

TWO = {"q8_0": [30], "q4_0": [40]}


def measured_by(bundle, name, unit, value, source, note=None):
    metric = Metric(name=name, value=value, unit=unit, source=source, note=note)
    return replace(bundle, metrics=(*bundle.metrics, metric))


def test_the_power_of_a_board_is_not_compared_with_that_of_a_chip():
    board, chip, other = bundles({"q8_0": [30], "q4_0": [40], "q2_k": [50]})
    made = [
        measured_by(board, "power_mean_w", "w", 5.0, "whole device"),
        measured_by(chip, "power_mean_w", "w", 2.0, "CPU package"),
        measured_by(other, "power_mean_w", "w", 6.0, "whole device"),
    ]
    comparison = compare(made)
    shown = cells(comparison, "power_mean_w")
    assert [cell.summary.median for cell in shown] == [5.0, 2.0, 6.0]
    assert [cell.difference for cell in shown] == [None, None, pytest.approx(0.2)]
    (note,) = (note for note in comparison.notes if "scopes" in note)
    assert "whole device (q8_0, q2_k); CPU package (q4_0)" in note


def test_sums_of_other_rails_are_other_scopes():
    xavier, orin, another = bundles({"q8_0": [30], "q4_0": [40], "q2_k": [50]})
    few, many = "GPU, SOC; 90 samples inside", "GPU, SOC, SYS5V; 80 samples inside"
    made = [
        measured_by(xavier, "power_mean_w", "w", 5.0, "sum of power rails", few),
        measured_by(orin, "power_mean_w", "w", 7.0, "sum of power rails", many),
        measured_by(another, "power_mean_w", "w", 6.0, "sum of power rails", few.replace("90", "70")),
    ]
    comparison = compare(made)
    assert [c.difference for c in cells(comparison, "power_mean_w")] == [None, None, pytest.approx(0.2)]
    (note,) = (note for note in comparison.notes if "scopes" in note)
    assert "sum of power rails: GPU, SOC (q8_0, q2_k); sum of power rails: GPU, SOC, SYS5V (q4_0)" in note


def test_a_column_whose_sessions_were_measured_over_different_scopes_has_no_figure():
    made = bundles({"q8_0": [30, 31], "q4_0": [40, 41]})
    scopes = ("whole device", "whole device", "SoC model", "whole device")
    made = [measured_by(one, "power_mean_w", "w", 5.0 + i, scopes[i]) for i, one in enumerate(made)]
    mixed, alike = cells(compare(made), "power_mean_w")
    assert mixed.summary is None
    assert (alike.summary.median, alike.difference) == (7.0, None)


def test_a_temperature_is_no_share_of_another():
    warm, hot = bundles({"q8_0": [30], "q4_0": [40]})
    name = "temperature_max_c"
    shown = cells(
        compare([measured_by(warm, name, "c", 40.0, "sensor"), measured_by(hot, name, "c", 60.0, "sensor")]), name
    )
    assert [(cell.summary.median, cell.difference) for cell in shown] == [(40.0, None), (60.0, None)]


@pytest.mark.parametrize(
    ("name", "unit", "sources", "why"),
    [
        (
            "responses_per_battery",
            "responses",
            ("battery by measured capacity", "battery by design capacity"),
            "Responses of a battery are by different scopes or capacities",
        ),
        (
            "carbon_response_g",
            "gco2e",
            ("battery at 380 g/kWh", "battery at 95 g/kWh"),
            "CO2e are by different scopes or grid intensities",
        ),
        (
            "charge_response_coulomb",
            "c_coulomb",
            ("battery", "whole device"),
            "Power was measured over different scopes",
        ),
    ],
)
def test_what_was_reckoned_with_unlike_things_is_not_compared(name, unit, sources, why):
    made = [measured_by(one, name, unit, 5.0, source) for one, source in zip(bundles(TWO), sources, strict=True)]
    comparison = compare(made)
    assert [cell.difference for cell in cells(comparison, name)] == [None, None]
    (note,) = (note for note in comparison.notes if "scopes" in note)
    assert note.startswith(f"{why}, so ")
    assert f"{sources[0]} (q8_0); {sources[1]} (q4_0)" in note
    alike = [measured_by(one, name, unit, 5.0, sources[0]) for one in bundles(TWO)]
    assert [cell.difference for cell in cells(compare(alike), name)] == [None, pytest.approx(0.0)]


def test_figures_of_one_meter_that_are_reckoned_with_other_things_are_no_unlike_scopes():
    made = [
        measured_by(
            measured_by(one, "energy_response_j", "j", 5.0, "battery"),
            "responses_per_battery",
            "responses",
            900.0,
            "battery by measured capacity",
        )
        for one in bundles(TWO)
    ]
    assert not [note for note in compare(made).notes if "scopes" in note]


def test_rails_are_told_apart_in_what_follows_from_them_too():
    made = [
        measured_by(
            one, "carbon_response_g", "gco2e", 1.0, "sum of power rails at 380 g/kWh", f"{rails}; 380 g/kWh (given)"
        )
        for one, rails in zip(bundles(TWO), ("CPU, GPU", "CPU"), strict=True)
    ]
    assert [cell.difference for cell in cells(compare(made), "carbon_response_g")] == [None, None]


def test_what_follows_from_energy_is_not_missed_where_no_run_has_it():
    assert not set(compare(bundles(TWO)).unmeasured) & set(derived.NAMES)
