"""The pytest plug-in as a team's own suite has it: a pytest process of its own that measures the tiny model."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from melt_rig import Melt

SUITE = """
import pytest

SMALL = ("--model", "tiny-pydoc", "-pg", "32,16", "-r", "2", "-t", "1")

def test_rate(melt_run):
    measured = melt_run(*SMALL, "--quant", "q8_0,q4_0")
    assert measured.status == 0
    assert measured.of(quant="q8_0")["decode_tps"] > 0
    assert measured.of(quant="q4_0", workload="pp32+tg16")["prefill_tps"] > 0
    assert measured.regressions() == []

def test_refused(melt_run):
    from melt.errors import UsageError
    with pytest.raises(UsageError, match="nonesuch"):
        melt_run("--model", "nonesuch")
"""

PLAIN = """
import sys

def test_plain():
    assert {name for name in sys.modules if name.startswith("melt.")} <= {"melt.testing", "melt.testing.plugin"}
"""


def _pytest(melt: Melt, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Installed, melt tells pytest of its plug-in by itself; in a checkout it must be named.
    installed = any(one.value == "melt.testing.plugin" for one in entry_points(group="pytest11"))
    named = () if installed else ("-p", "melt.testing.plugin")
    argv = [sys.executable, "-m", "pytest", *named, "-p", "no:cacheprovider", "-q", "-W", "error", *words]
    env = {**melt.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_a_suite_measures_and_keeps(melt: Melt, tmp_path: Path) -> None:
    (tmp_path / "test_phone.py").write_text(SUITE)
    done = _pytest(melt, tmp_path, "--melt-store", str(melt.store), "--junitxml", "suite.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'name="melt_sweep"' in (tmp_path / "suite.xml").read_text()
    assert {(run["quant"], run["outcome"]) for run in melt.runs()} == {("q8_0", "ok"), ("q4_0", "ok")}


@pytest.mark.slow
def test_who_does_not_measure_pays_nothing(melt: Melt, tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(PLAIN)
    done = _pytest(melt, tmp_path)
    assert done.returncode == 0, done.stdout
