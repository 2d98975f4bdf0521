"""`verify` finds every loss; `gc` removes what nobody needs, and only that."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_samples import make_bundle, make_trace

from melt.errors import StoreError
from melt.store.files import new_locked_folder
from melt.store.store import Store
from melt.store.upkeep import ABANDONED_S, collect_garbage, verify


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    journal = tmp_path / "journal"
    journal.write_bytes(b"raw" * 1000)
    with Store.open(tmp_path / "store") as opened:
        for i in range(3):
            traces = (make_trace(20), make_trace(5, collector="self"))
            opened.publish(make_bundle(f"r{i}", traces=traces, journal=journal, attachments={"stderr.txt": "x"}))
        yield opened


def harm(store: Store) -> dict[str, str]:
    return {finding.where: finding.what for finding in verify(store) if finding.harmful}


def test_a_whole_store(store: Store) -> None:
    assert list(verify(store)) == []
    assert collect_garbage(store) == []


def test_every_loss_is_found(store: Store) -> None:
    traces = store.layout.traces
    (traces / "r0" / "sensors.parquet").unlink()
    whole = (traces / "r1" / "self.parquet").read_bytes()
    (traces / "r1" / "self.parquet").write_bytes(whole[:-9] + b"?" + whole[-8:])
    (traces / "r2" / "journal.zst").write_bytes(b"short")
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET outcome = 'oom' WHERE run_id = 'r0'")
        connection.exec_driver_sql("UPDATE runs SET stop_json = '{}' WHERE run_id = 'r1'")
    found = harm(store)
    assert "missing" in found["traces/r0/sensors.parquet"]
    assert "sha256" in found["traces/r1/self.parquet"]
    assert "5 bytes instead of" in found["traces/r2/journal.zst"]
    assert "different things" in found["r0"]
    assert "RunStop" in found["r1"]
    assert len(found) == 5


def test_garbage_is_what_nothing_names_and_nobody_holds(store: Store) -> None:
    traces = store.layout.traces
    (traces / "orphan").mkdir()
    (traces / "orphan" / "sensors.parquet").write_bytes(bytes(100))
    (traces / "r0" / "stray").write_bytes(bytes(10))
    (traces / ".dead.tmp").mkdir()
    live, _ = new_locked_folder(traces, "live")
    (store.layout.spool / ".r9.discarded.tmp").mkdir()
    waiting = store.spool("waiting")
    waiting.close()
    notes = {f.where for f in verify(store) if not f.harmful}
    assert notes == {
        "traces/orphan",
        "traces/r0/stray",
        "traces/.dead.tmp",
        "spool/.r9.discarded.tmp",
        "spool/waiting",
    }
    listed = collect_garbage(store, dry_run=True)
    assert (traces / "orphan").is_dir()
    removed = collect_garbage(store)
    assert removed == listed
    assert {item.path.relative_to(store.root).as_posix() for item in removed} == notes - {"spool/waiting"}
    assert sum(item.size_bytes for item in removed) == 110
    assert live.is_dir()
    assert waiting.path.is_dir()
    assert {f.where for f in verify(store)} == {"spool/waiting"}


def test_journals_may_go(store: Store) -> None:
    assert {item.journal_of for item in collect_garbage(store, journals=True, dry_run=True)} == {"r0", "r1", "r2"}
    assert store.attachments("r0") == ["journal", "stderr.txt"]
    collect_garbage(store, journals=True)
    assert store.attachments("r0") == ["stderr.txt"]
    assert list(verify(store)) == []
    assert not list(store.layout.traces.rglob("journal*"))


def test_traces_without_their_records_are_kept(store: Store) -> None:
    """A lost database must not make garbage of everything that was ever measured."""
    root = store.root
    store.close()
    for file in root.glob("runs.sqlite*"):
        file.unlink()
    with Store.open(root) as empty:
        with pytest.raises(StoreError, match=r"files of 3 runs, but runs\.sqlite has no record"):
            collect_garbage(empty)
        assert (root / "traces" / "r0" / "sensors.parquet").is_file()


def test_evaluations_go_when_nobody_went_on_with_them_for_a_week(store: Store) -> None:
    store.layout.quality.mkdir()
    old, young = (store.layout.quality / f"{name}.jsonl" for name in ("old", "young"))
    for path, age_s in ((old, ABANDONED_S + 60), (young, ABANDONED_S - 60)):
        path.write_text('{"index": 0}\n')
        os.utime(path, (time.time() - age_s,) * 2)
    assert [finding.where for finding in verify(store)] == ["quality/old.jsonl"]
    assert [garbage.path for garbage in collect_garbage(store, dry_run=True)] == [old]
    collect_garbage(store)
    assert (old.exists(), young.exists()) == (False, True)
