"""What is told of a run that did not end well: in words, cut to the run, and only what was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from store_samples import make_bundle, make_stream

from melt.analysis.kernel_log import NOTHING, since
from melt.analysis.last_samples import last_samples
from melt.records import Outcome
from melt.report.evidence import exit_sentence
from melt.report.run import render_run
from melt.traces import Trace

SECOND_NS = 1_000_000_000


def _trace(name: str, quantity: str, unit: str, seconds: list[float], values: list[float]) -> Trace:
    t_ns = (np.array(seconds) * SECOND_NS).astype(np.int64)
    stream = make_stream(name, quantity, unit)
    return Trace(collector=name, t_ns=t_ns, columns={name: np.array(values)}, streams=(stream,))


MEMORY = _trace("available_bytes", "memory", "bytes", [93, 97.5, 98.2, 98.9, 99.9], [9e9, 4e9, 3e9, 2e9, 1e9])
HEAT = _trace("zone0_c", "temperature", "c", [95.5, 96.5, 97.5, 98.5, 100], [40, 50, 60, 70, float("nan")])


def test_the_last_seconds_end_with_the_last_sample() -> None:
    memory, heat = last_samples([HEAT, MEMORY])
    assert (memory.title, heat.title) == ("memory available", "hottest")
    assert memory.values[2:] == (4e9, 2e9, 1e9)
    assert np.isnan(memory.values[:2]).all(), "where nothing was sampled nothing is told"
    assert heat.values[1:4] == (50, 60, 70)
    assert last_samples([]) == []


LOG = """\
[   99.100000] a page of somebody else
[  103.000000] Memory cgroup out of memory: Killed process 680
 of which the second line has no time
[  104.000000] melt's own
"""


@pytest.mark.parametrize(
    ("began_s", "first"),
    [(50, "[   99.1"), (103, "[  103.0"), (104.5, "[  104.0"), (200, NOTHING)],
)
def test_a_log_is_cut_to_the_run(began_s: float, first: str) -> None:
    assert since(LOG, int(began_s * SECOND_NS)).startswith(first)


def test_a_log_without_times_is_kept_whole() -> None:
    assert since("killed\nfor memory", SECOND_NS) == "killed\nfor memory"
    assert "has no time\n[  104" in since(LOG, 103 * SECOND_NS)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"reason": "completed", "exit_code": 3, "signal": None}, "the runner ended; exit code 3"),
        (
            {"reason": "completed", "exit_code": None, "signal": 9, "oom_kill": True},
            "the runner ended; signal 9 (SIGKILL); the kernel killed for want of memory meanwhile",
        ),
        ({"reason": "timeout", "exit_code": 143}, "the agent ended the runner at the run's timeout; exit code 143"),
        (
            {"reason": "recovered", "rebooted": True},
            "the agent was gone; what it had left was ended later; the device started anew",
        ),
        ({"state": "absent"}, "nothing of the run was left on the device"),
        ({"state": "of another melt"}, '{"state": "of another melt"}'),
    ],
)
def test_an_end_is_told_in_words(document: dict[str, object], sentence: str) -> None:
    assert exit_sentence(json.dumps(document)) == sentence


@pytest.mark.parametrize("fmt", ["table", "md"])
def test_evidence_is_shown_with_what_matters_first(fmt: str) -> None:
    bundle = make_bundle(outcome=Outcome.OOM)
    kept = {"dmesg": "oom-kill", "exit": '{"reason": "completed", "signal": 9}', "hub": "its words", "stderr": "alas"}
    bundle = replace(bundle, stop=replace(bundle.stop, evidence=kept), traces=(MEMORY,), metrics=())
    told = render_run(bundle, fmt, evidence=True)
    places = [told.index(text) for text in ("SIGKILL", "memory available", "alas", "oom-kill", "its words")]
    assert places == sorted(places)
    assert "Metrics" not in told, "a table of nothing is left out"
    hint = render_run(bundle, fmt)
    assert "--evidence" in hint
    assert "SIGKILL" not in hint


def test_a_run_that_was_not_started_says_so() -> None:
    bundle = make_bundle(outcome=Outcome.SKIPPED)
    bundle = replace(bundle, stop=replace(bundle.stop, evidence={}))
    assert "nothing was started on the device" in render_run(bundle, "table", evidence=True)
