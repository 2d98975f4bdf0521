"""How long a run is sampled before and after: long enough for its energy, and no longer."""

from __future__ import annotations

import pytest

from melt.records import Stream
from melt.session.prepare import linger_s
from melt.units import UNITS


def _stream(quantity: str, rate_hz: float) -> Stream:
    return Stream(
        collector="c", name="n", quantity=quantity, unit=UNITS[quantity], site="s", source="f", rate_hz=rate_hz
    )


@pytest.mark.parametrize(
    ("streams", "expected_s"),
    [
        ([], 0.0),
        ([("temperature", 10.0)], 0.0),
        ([("power", 10.0)], 0.2),
        ([("power", 10.0), ("energy", 1.0)], 2.0),
        ([("current", 1.0), ("state", 0.2)], 2.0),
    ],
)
def test_two_samples_of_the_slowest_meter_enclose_a_run(streams: list[tuple[str, float]], expected_s: float) -> None:
    assert linger_s(_stream(*stream) for stream in streams) == pytest.approx(expected_s)


@pytest.mark.parametrize(("streams", "expected_s"), [([("power", 10.0)], 5.0), ([("energy", 0.2)], 10.0), ([], 0.0)])
def test_the_device_is_seen_at_rest_where_its_power_is_measured(
    streams: list[tuple[str, float]], expected_s: float
) -> None:
    assert linger_s([_stream(*stream) for stream in streams], baseline_s=5.0) == pytest.approx(expected_s)


def test_a_device_that_only_a_meter_outside_watches_is_seen_at_rest_too() -> None:
    assert linger_s([], baseline_s=3.0, metered=True) == 3.0
    assert linger_s([], baseline_s=3.0) == 0.0
