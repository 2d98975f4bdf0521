"""The tables of the MELT paper, on runs whose energy is known beforehand, and the plan that ships with them."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from analysis_samples import channel, make_start, run, runner_said
from quality_samples import text_quality
from store_samples import make_bundle

from melt._layout import checkout_root
from melt.analysis.paper import paper_table
from melt.records import Outcome, Verdict
from melt.report.paper import render_paper
from melt.traces import RunBundle

PLAN = Path(checkout_root() or ".") / "plans" / "melt-paper.yaml"


def bundle(
    run_id: str = "r0", *, block: int = 0, watts: float = 3.6, gaps_ms: tuple[float, ...] = (10, 10)
) -> RunBundle:
    """pp512+tg128 at a steady power: 1 s of prefill, then 127 gaps."""
    start = make_start()
    spec = replace(start.spec, run_id=run_id, block=block)
    start = replace(start, device=replace(start.device, name="phone"), spec=spec)
    power = channel("package_w", "power", lambda t: watts + 0 * t, site="package", unit="w")
    found = run(runner_said(gaps_ms=gaps_ms), start=start, traces=(power,))
    stop = replace(make_bundle().stop, run_id=run_id, outcome=Outcome.OK, verdict=Verdict.VALID, reasons=())
    return RunBundle(start=start, stop=stop, windows=found.windows, metrics=found.metrics)


def test_a_response_of_known_energy_in_the_papers_units() -> None:
    (row,) = paper_table([bundle(), bundle("r1", block=1)], []).rows
    # 1.02 s to the first token and 127 gaps of 10 ms, at 3.6 W: 2.29 s are 2.29 mWh.
    assert row.energy_mwh is not None
    assert row.energy_mwh.mean == pytest.approx(2.29, rel=1e-3)
    assert row.energy_mwh.n == 4
    assert row.energy_per_token_mwh is not None
    assert row.energy_per_token_mwh.mean == pytest.approx(2.29 / 128, rel=1e-3)
    assert row.power_w is not None
    assert row.power_w.mean == pytest.approx(3.6, rel=1e-3)
    assert row.decode_tps is not None
    assert row.decode_tps.mean == pytest.approx(100)
    assert (row.sessions, row.workload) == (2, "pp512+tg128")


def test_repetitions_of_all_sessions_are_pooled() -> None:
    (row,) = paper_table([bundle(gaps_ms=(10, 20)), bundle("r1", block=1, gaps_ms=(10, 20))], []).rows
    assert row.decode_tps is not None
    assert (row.decode_tps.mean, row.decode_tps.n) == (pytest.approx(75), 4)
    assert row.decode_tps.std == pytest.approx((4 * 25**2 / 3) ** 0.5)


def test_rows_stand_in_the_order_of_the_plan() -> None:
    def at(cell: int, position: int, words: str) -> RunBundle:
        one = bundle(words)
        spec = replace(
            one.start.spec, cell=cell, position=position, workload=replace(one.start.spec.workload, n_gen=cell)
        )
        return replace(one, start=replace(one.start, spec=spec))

    ran = [at(2, 0, "first"), at(1, 1, "second"), at(3, 2, "third")]
    assert [row.workload for row in paper_table(ran, []).rows] == ["pp512+tg1", "pp512+tg2", "pp512+tg3"]


def test_what_may_not_be_believed_is_left_out_and_counted() -> None:
    good, bad = bundle(), bundle("r1")
    invalid = replace(bad, stop=replace(bad.stop, verdict=Verdict.INVALID))
    died = replace(bad, stop=replace(bad.stop, outcome=Outcome.OOM))
    table = paper_table([good, invalid, died], [])
    assert (len(table.rows), table.rows[0].sessions, table.left_out) == (1, 1, 2)
    assert "Left out, for they failed or are invalid: 2" in render_paper(table, "table")


def test_what_was_not_measured_has_no_column_and_no_zero() -> None:
    one = bundle()
    bare = replace(one, metrics=tuple(m for m in one.metrics if "energy" not in m.name and "charge" not in m.name))
    table = paper_table([bare], [])
    assert "mWh" not in render_paper(table, "md").partition("\n\n1.")[0]
    (row,) = csv.DictReader(io.StringIO(render_paper(table, "csv")))
    assert row["energy_mwh"] == ""
    assert "no meter" in render_paper(table, "md")


def test_quality_stands_beside_the_very_file_alone() -> None:
    one = bundle()
    same, other = text_quality("q8_0", 0.0), text_quality("q2_k", 0.5)
    same = replace(same, artifact=one.start.artifact)
    (row,) = paper_table([one], [same, other]).rows
    assert same.text is not None
    assert row.perplexity == {"prose, 8 chunks of 512, on local": same.text.perplexity}
    assert "perplexity, prose" in render_paper(paper_table([one], [same]), "table")


@pytest.mark.parametrize("fmt", ["table", "md", "csv", "json", "jsonl"])
def test_every_form_has_the_level_and_the_energy(fmt: str) -> None:
    text = render_paper(paper_table([bundle()], []), fmt)
    assert "pp512+tg128" in text
    assert "2.29" in text


@pytest.mark.slow
def test_the_shipped_plan_is_whole_without_a_network(tmp_path: Path) -> None:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(tmp_path), "MELT_STORE": str(tmp_path / "store")}
    command = [sys.executable, "-m", "melt", "run", str(PLAN), "--dry-run", "-o", "csv"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    cells = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(cells) == 5 * 3 * 4
    assert {cell["quant"] for cell in cells} == {"q3_k_m", "q4_k_m", "q4_0"}
    assert {cell["runs"] for cell in cells} == {"3"}
