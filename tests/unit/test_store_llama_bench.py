"""What melt exports as llama-bench's JSON has the fields and types of what llama-bench itself printed."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from store_samples import make_bundle

from melt.records import Outcome, Verdict, Workload
from melt.store.llama_bench import llama_bench_tests

THEIRS = json.loads((Path(__file__).parent / "golden" / "llama_bench" / "tiny.json").read_text())
"""`llama-bench -p 32 -n 8 -d 16 -r 3 -o json` of the pinned revision."""


def test_fields_in_their_order_with_their_types() -> None:
    for ours in llama_bench_tests(make_bundle("r0")):
        theirs = THEIRS[0]
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            if value is not None:
                assert isinstance(value, type(theirs[key])), key


def test_figures_are_made_as_theirs_are() -> None:
    """Their averages follow from their samples in the way ours do."""
    for test in THEIRS:
        n_tokens = test["n_prompt"] + test["n_gen"]
        rates = [n_tokens * 1e9 / ns for ns in test["samples_ns"]]
        assert rates == pytest.approx(test["samples_ts"], rel=1e-4)
        assert statistics.stdev(rates) == pytest.approx(test["stddev_ts"], rel=1e-3)
        assert round(statistics.stdev(test["samples_ns"])) == pytest.approx(test["stddev_ns"], rel=1e-3)
    prefill, decode = llama_bench_tests(make_bundle("r0"))
    assert (prefill["n_prompt"], prefill["n_gen"], prefill["n_depth"]) == (512, 0, 0)
    assert (decode["n_prompt"], decode["n_gen"], decode["n_depth"]) == (0, 128, 512)
    assert decode["samples_ns"] == [500_000_000, 500_000_001, 500_000_002], "warm-ups are not among them"
    assert (decode["avg_ns"], decode["stddev_ns"]) == (500_000_001, 1)
    assert decode["avg_ts"] == pytest.approx(256.0)


def test_what_one_repetition_cannot_say_is_null() -> None:
    (only,) = llama_bench_tests(make_bundle("r0", repetitions=1, n_gen=0))
    assert (only["stddev_ns"], only["stddev_ts"]) == (None, None)
    assert len(only["samples_ns"]) == 1


def test_nothing_measured_nothing_said() -> None:
    assert llama_bench_tests(make_bundle("r0", outcome=Outcome.OOM, verdict=Verdict.INVALID)) == []
    run = make_bundle("r0")
    spec = replace(run.start.spec, workload=Workload(kind="prompts", n_gen=8, prompts=("a", "b")))
    assert llama_bench_tests(replace(run, start=replace(run.start, spec=spec))) == []
