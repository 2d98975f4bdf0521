"""A run under the profiler from the command to the tables, and its absence wherever speeds are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from melt_rig import Melt

pytestmark = pytest.mark.slow

_REQUEST = ("--model", "tiny-pydoc", "-pg", "32,8", "-r", "2", "-t", "1")


def test_a_profile_is_shown_and_kept_out_of_comparisons(melt: Melt, tmp_path: Path) -> None:
    melt("run", *_REQUEST)
    done = melt("run", *_REQUEST, "--profile", "--sessions", "3", "-o", "json")
    (told,) = json.loads(done.stdout)
    assert {phase["phase"] for phase in told["phases"]} == {"prefill", "decode"}
    assert {cost["phase"] for cost in told["costs"]} == {"prefill", "decode"}
    newest, plain = melt.runs()
    assert newest["cell_key"] == f"profile-{plain['cell_key']}"
    assert {cost["run_id"] for cost in told["costs"]} == {plain["run_id"]}

    shown = melt.here("show", "last", "--profile", "--by", "node").stdout
    assert "ffn_up-3" in shown
    assert "MUL_MAT" in melt.here("show", "last", "--profile").stdout
    assert "pp32+tg8, profiled" in melt.here("runs").stdout
    refused = melt.here("show", str(plain["run_id"]), "--profile", check=2)
    assert "`melt run --profile` makes a run with it" in refused.stderr

    compared = melt.here("compare", "--model", "tiny-pydoc", "-o", "json")
    (group,) = json.loads(compared.stdout)["groups"]
    assert [column["runs"] for column in group["columns"]] == [[plain["run_id"]]]
    assert "left out, because the profiler slows what it looks at: 1 run" in compared.stderr
    assert "left out" in melt.here("compare", check=2).stderr
    # Prefill and decode of the one run that was measured.
    assert len(json.loads(melt.here("export", "-f", "llama-bench").stdout)) == 2

    trace = tmp_path / "run.pftrace"
    melt.here("export", "--perfetto", "last", "-o", str(trace))
    assert trace.read_bytes().count(b"RMS_NORM+MUL") > 0
    melt.here("store", "verify")


def test_who_cannot_profile_says_so_and_starts_nothing(melt: Melt) -> None:
    melt("run", *_REQUEST, "--profile", "--engine", "llama.cpp-native", check=1)
    (run,) = melt.runs()
    assert (run["outcome"], run["reasons"]) == ("unsupported", ["no_profiler"])
    assert "the native runner times no operators" in melt.here("show", "last").stdout
