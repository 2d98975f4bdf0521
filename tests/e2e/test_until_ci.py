"""As many sessions as a precision takes, with the real agent, runner and tiny model, also through a kill."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from statistics import fmean, stdev

import pytest
from melt_rig import TINY, Melt

pytestmark = pytest.mark.slow

CELL = (*TINY, "--quant", "q8_0", "-n", "32", "-r", "2", "-t", "1")
LEAST, MOST, GENEROUS = 3, 20, 0.4


def _rates(melt: Melt) -> list[float]:
    """The rates of the sessions, in their order."""
    runs = sorted(melt.runs(), key=lambda run: int(str(run["block"])))
    assert {run["outcome"] for run in runs} == {"ok"}
    assert [run["block"] for run in runs] == list(range(len(runs)))
    return [float(str(run["decode_tps"])) for run in runs]


def _is_known(rates: list[float]) -> bool:
    from scipy import stats  # it takes long to import: not while tests are collected

    logs = [math.log(rate) for rate in rates]
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * stdev(logs, fmean(logs)) / math.sqrt(len(logs))
    return math.expm1(half) <= GENEROUS


def _check_no_more_than_needed(melt: Melt) -> None:
    """However steady this machine is just now: it stopped at the first session that was enough."""
    rates = _rates(melt)
    assert LEAST <= len(rates) <= MOST
    assert [_is_known(rates[:n]) for n in range(LEAST, len(rates))] == [False] * (len(rates) - LEAST)
    assert len(rates) == MOST or _is_known(rates)


def _generous(*more: str) -> tuple[str, ...]:
    return ("run", *CELL, "--until-ci", f"{GENEROUS:.0%}", *more)


def test_a_cell_has_no_more_sessions_than_the_precision_takes(melt: Melt) -> None:
    done = melt(*_generous("--gate", "pause_s=100ms"), timeout_s=300)
    _check_no_more_than_needed(melt)
    n_runs = len(melt.runs())
    if n_runs < MOST:
        assert f"melt: ±40 % was reached in {n_runs} sessions for tiny-pydoc q8_0 tg32" in done.stderr
    (sweep,) = json.loads(melt.here("sweeps", "last", "-o", "json").stdout)
    assert (sweep["state"], sweep["planned"], sweep["lacking"]) == ("complete", n_runs, 0)
    again = melt("resume")
    assert len(melt.runs()) == n_runs
    assert "nothing is left to run" in again.stderr
    shown = json.loads(melt.here("show", "last", "-o", "json").stdout)
    assert shown["start"]["spec"]["repeat"] | {"warmup": 0, "repetitions": 0} == {
        "warmup": 0,
        "repetitions": 0,
        "sessions": MOST,
        "min_sessions": LEAST,
        "until_ci": GENEROUS,
    }
    assert shown["start"]["spec"]["gate"]["pause_s"] == 0.1


def test_what_cannot_be_known_so_well_ends_at_the_most_and_is_told(melt: Melt) -> None:
    done = melt("run", *CELL, "--until-ci", "0.01%", "--max-sessions", "4")
    assert len(_rates(melt)) == 4
    assert "melt: ±0.01 % was not reached for tiny-pydoc q8_0 tg32 (" in done.stderr
    assert "% after 4 sessions)" in done.stderr


def test_a_model_that_never_runs_is_given_up_after_the_least(melt: Melt) -> None:
    done = melt("run", *TINY, "--workload", "pp100000", "-r", "1", "--until-ci", "5%", check=1)
    assert [run["outcome"] for run in melt.runs()] == ["unsupported"] * LEAST
    assert "(no rate after 3 sessions)" in done.stderr


def test_after_a_kill_no_more_is_run_than_without_it(melt: Melt, wait_for: Callable[..., object]) -> None:
    process = melt.start(*_generous())
    wait_for("the first result", lambda: list(melt.store.glob("traces/**/*.parquet")), 60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert len(melt.runs()) < MOST
    melt("resume", timeout_s=300)
    _check_no_more_than_needed(melt)
    n_runs = len(melt.runs())
    melt("resume")
    assert len(melt.runs()) == n_runs
