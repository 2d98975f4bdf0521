"""Melt is killed after one of its steps, and the next melt after another: the last ends the sweep, each run once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from faults.invariants import check
from melt_rig import Melt

from melt.fleet.sweep import load

pytestmark = pytest.mark.slow

DYING = Path(__file__).with_name("dying_melt.py")
CELLS = ("--model", "tiny-pydoc", "--quant", "q8_0", "-p", "8", "-n", "8", "-r", "1", "--warmup", "0", "-t", "1")
STEPS = (
    # What a melt does that measures.
    "after melt.fleet.lease:Lease.begin",
    "after melt.session.prepare:write_site",
    "after melt.session.execute:prepare",
    "before melt.fleet.station:assemble",
    # The next one finds a run that is all here, and publishes it; so on with what it finds after each of its own steps.
    "after melt.store.store:Store.publish",
    "after melt.fleet.recover:clean_up",
    "after melt.store.spool:Spool.discard",
    "after melt.fleet.station:clean_up",
    "after melt.store.spool:Spool.discard",
)


def _die(melt: Melt, step: str, *words: str) -> None:
    argv = (sys.executable, str(DYING), *step.split(), *words, "--store", str(melt.store))
    died = subprocess.run(argv, env=melt.env, capture_output=True, text=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, f"{step}: {died.stderr}"


def _spooled(melt: Melt) -> list[str]:
    return [path.name for path in (melt.store / "spool").iterdir()]


def test_killed_after_one_step_and_after_the_next(melt: Melt) -> None:
    _die(melt, STEPS[0], "run", *CELLS, "--sessions", "3")
    asked = load(melt.store, None)
    for step in STEPS[1:]:
        _die(melt, step, "resume")
    melt("resume")
    assert check(melt.store, asked.sweep_id, asked.specs, {}, ()) == []
    assert {run["outcome"] for run in melt.runs()} == {"ok"}
    assert (melt.job_dirs(), _spooled(melt)) == ([], [])


def test_a_run_that_came_home_whole_needs_its_device_no_more(melt: Melt) -> None:
    _die(melt, "before melt.fleet.station:assemble", "run", *CELLS)
    (site,) = melt.store.glob("spool/*/site.json")
    whole = site.read_text()
    site.write_text(whole.replace('"local"', '"ssh:nobody@127.0.0.1:1"'))
    assert "is removed by the next melt that finds it" in melt("resume").stderr
    assert [run["outcome"] for run in melt.runs()] == ["ok", "ok"]
    assert len(melt.job_dirs()) == len(_spooled(melt)) == 1
    site.write_text(whole)
    melt("resume")
    assert (melt.job_dirs(), _spooled(melt)) == ([], [])
    assert len(melt.runs()) == 2
