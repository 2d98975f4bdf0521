"""melt's own engines, held against what melt.testing asks of every one, and against the events of agents/PROTOCOL.md.

golden/runner/ holds what agents/runners/llama_cpp.py said with the embedded model, and in `infer3` what onnx_runtime.py
said with a model of two nodes; `torn` was cut short.
expected.json has, per transcript, the windows as [phase, warmup, repetition, n_tokens, depth, nanoseconds].
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.engines import registry
from melt.engines.base import Engine
from melt.testing.cases import EngineCase
from melt.testing.test_engines import TestEngine

_GOLDEN = Path(__file__).parent / "golden" / "runner"
_TRANSCRIPTS = {path.stem: path.read_bytes() for path in sorted(_GOLDEN.glob("*.jsonl"))}
_EXPECTED = json.loads((_GOLDEN / "expected.json").read_bytes())
_WHOLE = {name: text for name, text in _TRANSCRIPTS.items() if _EXPECTED[name]["complete"]}
_BENCH = Path(__file__).parents[1] / "data" / "llama_bench"

__all__ = ["TestEngine"]


@pytest.fixture(params=[*registry.names(), "llama-bench"])
def engine_case(request: pytest.FixtureRequest, tmp_path: Path) -> EngineCase:
    if request.param != "llama-bench":
        return EngineCase(name=request.param, said=_WHOLE)
    (tmp_path / "llama-bench").touch()
    said = {path.stem: path.read_bytes() for path in sorted(_BENCH.glob("20*.json"))}
    return EngineCase(name=f"llama-bench:{tmp_path / 'llama-bench'}", said=said)


@pytest.fixture(params=registry.names())
def engine(request: pytest.FixtureRequest) -> Engine:
    return registry.get(request.param)


def test_every_transcript_has_an_expectation():
    assert sorted(_TRANSCRIPTS) == sorted(_EXPECTED)


@pytest.mark.parametrize("name", _TRANSCRIPTS)
def test_transcripts_parse_to_the_expected_windows(engine, name):
    report = engine.parse(_TRANSCRIPTS[name].splitlines())
    windows = [[w.phase, w.warmup, w.repetition, w.n_tokens, w.depth, w.t1_ns - w.t0_ns] for w in report.windows]
    assert windows == _EXPECTED[name]["windows"]
    assert [g.stop for g in report.generations] == _EXPECTED[name]["stops"]
    assert (report.failure and report.failure.code) == _EXPECTED[name]["failure"]
    assert report.complete == _EXPECTED[name]["complete"]


def test_settings_in_force_and_memory_are_kept(engine):
    report = engine.parse(_TRANSCRIPTS["pp32-tg4"].splitlines())
    assert report.used["engine_version"] == "llama-cpp-python 0.3.36"
    assert (report.used["threads"], report.used["n_ctx"], report.used["n_batch"]) == (1, 256, 24)
    assert report.used["page_cache"] == {"asked": "warm", "resident_before": 1.0}
    # 256 cells of 4 layers, K and V of 2 heads of 64 in two bytes each.
    assert report.memory["kv_cache_bytes"] == 256 * 4 * 2 * (2 * 64) * 2
    assert report.memory["peak_rss_bytes"] > report.memory["model_bytes"] == 6824960


@pytest.mark.parametrize("name", _TRANSCRIPTS)
def test_line_by_line_is_the_same_as_at_once(engine, name):
    """A live display parses what has come so far, one line at a time."""
    lines = _TRANSCRIPTS[name].splitlines()
    whole = engine.parse(lines)
    single = [engine.parse([line]) for line in lines]
    assert tuple(w for r in single for w in r.windows) == whole.windows
    assert tuple(g for r in single for g in r.generations) == whole.generations


def _generation(**changed: object) -> bytes:
    event = {
        "event": "generation",
        "repetition": 0,
        "warmup": False,
        "depth": 0,
        "submit_ns": 100,
        "n_prompt": 4,
        "prefill": {"t0_ns": 110, "t1_ns": 200, "batches": [[4, 200]]},
        "token_ns": [210, 220, 230],
        "token_ids": [1, 2, 3],
        "stop": "length",
        "text": None,
    }
    return json.dumps({**event, **changed}).encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"token_ns": [210, 220, 215]},
        {"submit_ns": 120},
        {"prefill": {"t0_ns": 110, "t1_ns": 105}},
        {"prefill": {"t0_ns": 110, "t1_ns": 215}},
        {"prefill": {"t0_ns": 110}},
        {"token_ns": None},
        {"token_ns": [210, "220"]},
        {"submit_ns": None},
        {"n_prompt": -1},
    ],
)
def test_times_that_contradict_each_other_are_a_failure_and_no_number(engine, changed):
    good = _generation(repetition=1)
    report = engine.parse([_generation(**changed), good])
    assert report.failure is not None
    assert report.failure.code == "contradictory_event"
    assert "line 1" in report.failure.message
    assert [g.repetition for g in report.generations] == [1]
    assert {w.repetition for w in report.windows} == {1}


def _inferences(**changed: object) -> bytes:
    event = {
        "event": "inferences",
        "repetition": 0,
        "warmup": False,
        "batch": 2,
        "t0_ns": [100, 210],
        "t1_ns": [200, 300],
    }
    return json.dumps({**event, **changed}).encode()


def test_single_shot_requests_are_one_window_and_keep_every_time(engine):
    report = engine.parse([_inferences(), _inferences(repetition=1, t0_ns=[], t1_ns=[])])
    (window,) = report.windows
    assert (window.phase, window.t0_ns, window.t1_ns, window.n_tokens) == ("inference", 100, 300, None)
    first, nothing = report.inferences
    assert (first.repetition, first.warmup, first.batch) == (0, False, 2)
    assert (first.t0_ns, first.t1_ns) == ((100, 210), (200, 300))
    assert nothing.t0_ns == ()
    assert report.failure is None


@pytest.mark.parametrize(
    "changed",
    [
        {"t1_ns": [200]},
        {"t1_ns": [220, 300]},
        {"t0_ns": [250, 210]},
        {"t1_ns": [90, 300]},
        {"batch": 0},
        {"t0_ns": None},
    ],
)
def test_single_shot_times_that_contradict_each_other_are_a_failure_and_no_number(engine, changed):
    report = engine.parse([_inferences(**changed)])
    assert report.failure is not None
    assert report.failure.code == "contradictory_event"
    assert (report.inferences, report.windows) == ((), ())


def test_decode_only_begins_at_submission_and_counts_every_token(engine):
    report = engine.parse([_generation(prefill=None, n_prompt=0, depth=7)])
    (window,) = report.windows
    assert (window.phase, window.t0_ns, window.t1_ns) == ("decode", 100, 230)
    assert (window.n_tokens, window.depth) == (3, 7)


def test_a_named_failure_is_kept_before_what_follows_from_it(engine):
    lines = [b'{"event":"error","code":"out_of_memory","message":"no room"}', _generation(submit_ns=None)]
    failure = engine.parse(lines).failure
    assert failure is not None
    assert (failure.code, failure.message) == ("out_of_memory", "no room")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_KEYS = sorted({key for line in _TRANSCRIPTS["pp32-tg4"].splitlines() for key in json.loads(line)})
_EVENTS = ["hello", "load", "tokenize", "generation", "inferences", "error", "finish", "new_in_a_later_version"]


@given(event=st.sampled_from(_EVENTS), fields=st.dictionaries(st.sampled_from(_KEYS), _json, max_size=8))
def test_no_event_raises_whatever_is_in_it(event, fields):
    line = json.dumps({**fields, "event": event}).encode()
    for name in registry.names():
        registry.get(name).parse([line])


@given(name=st.sampled_from(sorted(_TRANSCRIPTS)), at=st.integers(0, 2000), junk=st.binary(max_size=20))
def test_no_damaged_transcript_raises(name, at, junk):
    text = _TRANSCRIPTS[name]
    for engine_name in registry.names():
        report = registry.get(engine_name).parse((text[:at] + junk + text[at:]).splitlines())
        for window in report.windows:
            assert window.t1_ns >= window.t0_ns
