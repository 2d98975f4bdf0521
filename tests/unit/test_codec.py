"""Records survive the way to JSON and back, and odd documents get a sentence."""

from __future__ import annotations

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt import units
from melt.codec import dumps, from_dict, loads
from melt.errors import StoreError
from melt.records import (
    FORMAT_VERSION,
    Metric,
    Outcome,
    Reason,
    Repeat,
    RunSpec,
    RunStop,
    Sampling,
    Settings,
    Verdict,
    Workload,
)

_TEXT = st.text(max_size=20)
_SPECS = st.builds(
    RunSpec,
    run_id=_TEXT,
    sweep_id=_TEXT,
    plan=_TEXT,
    block=st.integers(0, 10),
    position=st.integers(0, 10),
    device=_TEXT,
    model=_TEXT,
    quant=st.none() | _TEXT,
    engine=_TEXT,
    workload=st.builds(
        Workload, n_prompt=st.integers(0, 1 << 40), prompts=st.lists(_TEXT, max_size=3).map(tuple), duration_s=st.none()
    ),
    settings=st.builds(Settings, threads=st.none() | st.integers(1, 256), timeout_s=st.floats(0, 1e6)),
    repeat=st.builds(Repeat),
    sampling=st.builds(Sampling),
)


@given(_SPECS)
def test_a_spec_comes_back_equal(spec: RunSpec) -> None:
    assert loads(RunSpec, dumps(spec)) == spec


def test_a_stop_keeps_its_enums_and_maps() -> None:
    stop = RunStop(
        run_id="a",
        ended_utc_ns=1,
        outcome=Outcome.OOM,
        verdict=Verdict.INVALID,
        reasons=(Reason(code="c", message="m", figures={"needed_bytes": 1.5}),),
        used={"threads": 2, "devices": ["CPU"]},
        evidence={"stderr": "killed"},
    )
    assert loads(RunStop, dumps(stop)) == stop


def test_not_measured_is_null_and_nan_is_refused() -> None:
    assert json.loads(dumps(Metric(name="power_mean_w", value=None, unit="w")))["value"] is None
    with pytest.raises(ValueError, match="JSON"):
        dumps(Metric(name="power_mean_w", value=float("nan"), unit="w"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run_id": 1}', "null", '{"run_id": true, "ended_utc_ns": "x"}'])
def test_odd_documents_get_a_sentence(text: str) -> None:
    with pytest.raises(StoreError, match="not a valid RunStop"):
        loads(RunStop, text)


def test_a_newer_format_is_refused_and_unknown_keys_are_passed_over() -> None:
    stop = RunStop(run_id="a", ended_utc_ns=1, outcome=Outcome.OK, verdict=Verdict.VALID)
    data = {**json.loads(dumps(stop)), "of_the_future": 1}
    assert from_dict(RunStop, data) == stop
    with pytest.raises(StoreError, match="update melt"):
        from_dict(RunStop, {**data, "version": FORMAT_VERSION + 1})


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "w", "-"),
        (float("nan"), "w", "-"),
        (0.0, "w", "0 W"),
        (0.000_35, "j", "350 µJ"),
        (1536.0, "bytes", "1.50 KiB"),
        (41.26, "c", "41.3 °C"),
        (123.456, "tok/s", "123 tok/s"),
        (2.4e9, "hz", "2.40 GHz"),
        (0.5, "ratio", "50.0 %"),
        (7.0, "1", "7.00"),
        (-0.25, "s", "-250 ms"),
    ],
)
def test_values_are_written_for_people(value: float | None, unit: str, text: str) -> None:
    assert units.human(value, unit) == text


def test_the_examples_of_the_units_hold() -> None:
    assert doctest.testmod(units).failed == 0
