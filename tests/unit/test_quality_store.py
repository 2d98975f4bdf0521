"""Evaluations in the store, the journal of one that goes on, and the tables."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from quality_samples import choices_quality, text_quality
from store_samples import make_bundle

from melt.errors import StoreError
from melt.quality.evaluate import _groups
from melt.quality.journal import Journal, journals
from melt.report.quality import render_quality
from melt.store.mirror import write_mirror
from melt.store.quality import find_qualities, keep_quality, qualities_of
from melt.store.selection import Selection
from melt.store.store import Store
from melt.store.upkeep import verify


def test_an_evaluation_comes_back_as_it_was(tmp_path: Path) -> None:
    text, choices = text_quality("q8_0", 0.1, kl=0.01), choices_quality("q8_0", [True, False, True])
    with Store.open(tmp_path) as store:
        keep_quality(store, text)
        keep_quality(store, choices)
        keep_quality(store, replace(text, evaluated_utc_ns=1))
        assert find_qualities(store, [text.quality_id, "another"]) == {text.quality_id: text}
        assert qualities_of(store, text.artifact.sha256) == [choices, text]
        assert list(verify(store)) == []


def test_it_joins_with_the_runs_of_its_file(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.publish(make_bundle("r1", quant="q8_0"))
        keep_quality(store, text_quality("q8_0", 0.1))
        query = "SELECT run_id, round(perplexity) FROM runs JOIN quality USING (artifact_sha256)"
        with store.database.read() as connection:
            assert len(connection.exec_driver_sql(query).all()) == 1


def test_what_was_changed_behind_melts_back_is_found(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        keep_quality(store, text_quality("q8_0", 0.1))
        with store.database.write() as connection:
            connection.exec_driver_sql("UPDATE quality SET perplexity = 1")
        (finding,) = verify(store)
        assert "say different things" in finding.what
        with store.database.write() as connection:
            connection.exec_driver_sql("UPDATE quality SET document_json = '{'")
        (finding,) = verify(store)
        assert "not a valid Quality" in finding.what


def test_the_mirror_has_them(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        keep_quality(store, text_quality("q8_0", 0.1, kl=0.01))
        write_mirror(store, tmp_path / "all", Selection())
        assert pq.read_table(tmp_path / "all" / "quality.parquet").num_rows == 1
        write_mirror(store, tmp_path / "some", Selection(model="another"))
        assert pq.read_table(tmp_path / "some" / "quality.parquet").num_rows == 0


def test_a_journal_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    first.add({"index": 0, "nll": [1.0]})
    first.add({"index": 1, "nll": [2.0]})
    first.close()
    path.write_bytes(path.read_bytes() + b'{"index":2,"nll":[3.')
    second = Journal(path)
    assert [entry["index"] for entry in second.entries] == [0, 1]
    second.add({"index": 2, "nll": [3.0]})
    second.close()
    assert [json.loads(line)["nll"] for line in path.read_text().splitlines()] == [[1.0], [2.0], [3.0]]


def test_a_journal_with_a_gap_goes_on_before_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"index":0}\n{"index":2}\n')
    journal = Journal(path)
    assert [entry["index"] for entry in journal.entries] == [0]
    journal.close()
    assert path.read_text() == '{"index":0}\n'


def test_a_journal_on_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "a.jsonl"

    def fill() -> None:
        with journals([path]) as (journal,):
            full = os.open("/dev/full", os.O_RDWR)
            os.dup2(full, journal._file.fileno())
            os.close(full)
            journal.add({"index": 0, "nll": [1.0]})

    with pytest.raises(StoreError, match="no room left"):
        fill()


def test_the_table_says_who_can_be_told_apart() -> None:
    levels = [text_quality("Q8_0", 0.0, kl=0.001), text_quality("Q4_K_M", 0.02, kl=0.01)]
    table = render_quality(
        [levels, [choices_quality("Q8_0", [True] * 4), choices_quality("Q4_K_M", [True] * 4)]], (), "md"
    )
    assert re.search(r"\| worse by 0\.0\d+ ±0\.0\d+ \| worse by 0\.0\d+ ±0\.0\d+ \|", table), "both with intervals"
    assert "no difference seen" in table
    assert "cannot be told apart" in table
    assert "51.0 to 100.0 %" in table


def test_a_level_that_is_judged_on_its_own_calibration_text_is_named() -> None:
    level = text_quality("Q4_K_M", 0.02)
    calibrated = replace(level, artifact=replace(level.artifact, calibration_sha256=level.method.dataset_sha256))
    assert "Q4_K_M: its importance matrix was computed on this very text" in render_quality([[calibrated]], (), "table")
    assert "importance matrix" not in render_quality([[level]], (), "table")


def test_rows_for_programs() -> None:
    levels = [text_quality("Q8_0", 0.0), text_quality("Q4_K_M", 0.02)]
    first, second = json.loads(render_quality([levels], [levels[0].quality_id], "json"))
    assert (first["known"], second["known"]) == (True, False)
    assert first["compared_with"] is None
    assert first["nll_change_told"] is None
    assert (second["compared_with"], second["nll_change_told"]) == ("Q8_0", "worse")
    assert second["kl_mean"] is None, "not measured"
    assert first["accuracy"] is None


def test_files_that_do_not_fit_together_go_one_after_the_other() -> None:
    reference, *levels = (text_quality(name, 0.0).artifact for name in ("F16", "Q8_0", "Q4_0", "Q2_K"))
    reference, *levels = (
        replace(a, weight_bytes=2**30, sha256=f"{n}" * 64) for n, a in enumerate([reference, *levels])
    )
    for free_bytes, passes in ((None, 1), (8 * 2**30, 1), (6 * 2**30, 2), (2**20, 3)):
        groups = list(_groups(levels, reference, 512, free_bytes))
        assert len(groups) == passes
        assert all(group[0] is reference for group in groups)
        assert [artifact for group in groups for artifact in group[1:]] == levels
    assert list(_groups([reference], reference, 512, None)) == [[reference]]
