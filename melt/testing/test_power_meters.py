"""What every power meter must do, on the meter itself: `pytest --pyargs melt.testing --melt-meter KIND[:OPTIONS]`.

It is opened once and read for a few seconds. What it measures meanwhile is nobody's business here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest

from melt.errors import UsageError
from melt.telemetry.meters import make_meter
from melt.telemetry.meters.base import AMPS, JOULES, READ_S, VOLTS, WATTS, Batch, MeterError, MeterFacts, streams_of
from melt.testing.cases import MeterCase, parametrize
from melt.traces import Times, Values

_WATCHED_S = (1.0, 20.0)
"""How long a meter is read at least, and at most where it sends seldom."""
_SAMPLES = 20
_DRIFT = 1e-3
"""A crystal is off by a ten-thousandth at worst; a clock in a wrong unit is off by a factor of a thousand."""
_IMPLAUSIBLE = {VOLTS: 1e3, AMPS: 1e3, WATTS: 1e4, JOULES: 1e12}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with every meter that is asked for."""
    parametrize(metafunc, "meter_case", MeterCase)


@dataclass(frozen=True)
class Watched:
    """What a meter said while it was read. `slowest_s` is the longest that one `read` took."""

    facts: MeterFacts
    batches: tuple[Batch, ...]
    slowest_s: float

    @property
    def t_ns(self) -> Times:
        """The times of all samples."""
        return np.concatenate([batch.t_ns for batch in self.batches])

    @property
    def values(self) -> Values:
        """All samples."""
        return np.concatenate([batch.values for batch in self.batches])


def watch(case: MeterCase) -> Watched:
    """Read a meter for a while. Raises UsageError, MeterError."""
    meter = make_meter(case.name, case.options, "the contract")
    try:
        facts = meter.open()
        meter.start()
        batches: list[Batch] = []
        slowest_s, began = 0.0, time.monotonic()
        enough = began + _WATCHED_S[0]
        while (now := time.monotonic()) < began + _WATCHED_S[1] and (now < enough or _count(batches) < _SAMPLES):
            batch = meter.read()
            slowest_s = max(slowest_s, time.monotonic() - now)
            batches += [] if batch is None else [batch]
    finally:
        meter.close()
    return Watched(facts, tuple(batches), slowest_s)


def _count(batches: list[Batch]) -> int:
    return sum(len(batch.t_ns) for batch in batches)


@pytest.fixture(scope="module")
def watched(meter_case: MeterCase) -> Watched:
    """Return what a meter said, read once for all tests."""
    return watch(meter_case)


class TestPowerMeter:
    """What one meter says of itself, of its samples and of its clock."""

    def test_it_says_what_it_measures(self, watched: Watched) -> None:
        facts = watched.facts
        assert facts.name.strip()
        assert facts.rate_hz > 0
        assert facts.accuracy is None or 0 < facts.accuracy < 1, "the class is a share of the reading"
        assert set(facts.columns) <= {VOLTS, AMPS, WATTS, JOULES}
        assert len(set(facts.columns)) == len(facts.columns)
        power = {WATTS, JOULES} & {*facts.columns} or {VOLTS, AMPS} <= {*facts.columns}
        assert power, f"no power follows from {facts.columns}"
        assert streams_of(facts, "whole device")

    def test_samples_have_the_shape_that_was_promised(self, watched: Watched) -> None:
        assert watched.batches, f"nothing came within {_WATCHED_S[1]:g} s"
        for batch in watched.batches:
            assert batch.t_ns.dtype == np.int64
            assert batch.values.dtype == np.float64
            assert batch.values.shape == (len(batch.t_ns), len(watched.facts.columns))
            assert batch.lost >= 0
            assert batch.unread >= 0

    def test_its_clock_goes_forward(self, watched: Watched) -> None:
        backwards = np.flatnonzero(np.diff(watched.t_ns) <= 0)
        assert not len(backwards), f"sample {backwards[0] + 1} is not later than the one before it"

    def test_its_clock_is_in_nanoseconds(self, watched: Watched) -> None:
        readings = [batch.clock for batch in watched.batches if batch.clock is not None]
        assert len(readings) > 1, "without a moment of its clock now and then no sample can be brought to the device's"
        for clock in readings:
            assert clock.sent_ns <= clock.received_ns <= time.monotonic_ns(), "not times of time.monotonic_ns()"
        first, last = readings[0], readings[-1]
        there_s = (last.there_ns - first.there_ns) / 1e9
        shortest_s = (last.sent_ns - first.received_ns) / 1e9
        longest_s = (last.received_ns - first.sent_ns) / 1e9
        # Who only sends may be late by more than the fastest sample is.
        late_s = 1.0 if any(clock.one_way for clock in readings) else 0.0
        least_s, most_s = shortest_s * (1 - _DRIFT) - late_s, longest_s * (1 + _DRIFT) + late_s
        assert least_s <= there_s <= most_s, f"{there_s:.6f} s of its clock in {longest_s:.6f} s of this computer's"

    def test_samples_lie_where_its_clock_stands(self, watched: Watched) -> None:
        for batch in watched.batches:
            if batch.clock is not None and len(batch.t_ns):
                apart_s = abs(batch.clock.there_ns - int(batch.t_ns[-1])) / 1e9
                assert apart_s < 5.0, f"its clock stands {apart_s:.0f} s from the samples that came with it"

    def test_its_rate_is_the_one_that_it_names(self, watched: Watched) -> None:
        t_ns = watched.t_ns
        rate_hz = (len(t_ns) - 1) / ((t_ns[-1] - t_ns[0]) / 1e9)
        lost = sum(batch.lost for batch in watched.batches)
        assert lost or watched.facts.rate_hz / 2 < rate_hz < watched.facts.rate_hz * 2, f"{rate_hz:g} Hz"

    def test_values_are_in_si_units(self, watched: Watched) -> None:
        assert not np.isinf(watched.values).any(), "what was not measured is NaN"
        assert np.isfinite(watched.values).any(), "nothing was measured"
        for column, values in zip(watched.facts.columns, watched.values.T, strict=True):
            assert not (np.abs(values) > _IMPLAUSIBLE[column]).any(), f"{column} of more than {_IMPLAUSIBLE[column]:g}"

    def test_it_never_keeps_its_reader_waiting(self, watched: Watched) -> None:
        assert watched.slowest_s < READ_S + 1.0

    def test_it_can_be_closed_before_and_after_all_and_opened_again(self, meter_case: MeterCase) -> None:
        meter = make_meter(meter_case.name, meter_case.options, "the contract")
        meter.close()
        meter.close()
        again = make_meter(meter_case.name, meter_case.options, "the contract")
        try:
            assert again.open().columns
        finally:
            again.close()
            again.close()

    def test_an_option_that_it_does_not_know_is_named_with_its_place(self, meter_case: MeterCase) -> None:
        with pytest.raises((UsageError, MeterError), match=r"shelf\.yaml: meter.*no_such_option"):
            make_meter(meter_case.name, {**meter_case.options, "no_such_option": 1}, "shelf.yaml: meter").open()
