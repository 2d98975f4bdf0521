"""What the results store promises to those who publish and those who read."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import STARTED_UTC_NS, make_bundle, make_trace

from melt.errors import StoreError, UsageError
from melt.records import Metric, Outcome, Verdict
from melt.store.selection import Selection, since_utc_ns
from melt.store.store import Store
from melt.store.upkeep import collect_garbage, verify
from melt.traces import RunBundle


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def whole_run(tmp_path: Path) -> RunBundle:
    journal = tmp_path / "journal"
    journal.write_bytes(bytes(range(256)) * 5000)
    attachments = {"snapshot.json": '{"°C": 1}', "stderr.txt": "loading\n" * 100}
    return make_bundle(
        "r0", traces=(make_trace(), make_trace(7, collector="nvidia/smi")), journal=journal, attachments=attachments
    )


def test_a_run_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    store.publish(run)
    back = store.bundle("r0")
    assert (back.start, back.stop, back.windows, back.metrics) == (run.start, run.stop, run.windows, run.metrics)
    assert store.collectors("r0") == ["nvidia/smi", "sensors"]
    for trace in run.traces:
        again = store.trace("r0", trace.collector)
        assert again.collector == trace.collector
        assert [replace(s, collector="sensors") for s in again.streams] == list(trace.streams)
        np.testing.assert_array_equal(again.t_ns, trace.t_ns)
        for name, values in trace.columns.items():
            np.testing.assert_array_equal(again.columns[name], values)
    assert store.attachments("r0") == ["journal", "snapshot.json", "stderr.txt"]
    assert store.attachment("r0", "journal") == bytes(range(256)) * 5000
    assert store.attachment("r0", "snapshot.json").decode() == '{"°C": 1}'


def test_a_run_without_anything_is_a_run(store: Store) -> None:
    refused = make_bundle("r0", outcome=Outcome.OOM, verdict=Verdict.INVALID)
    store.publish(refused)
    back = store.bundle("r0")
    assert back.stop.reasons == refused.stop.reasons
    assert store.collectors("r0") == []


def test_the_same_run_twice_is_one_run(store: Store, tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    store.publish(run)
    before = sorted((p, p.stat().st_mtime_ns) for p in store.layout.traces.rglob("*"))
    store.publish(run)
    assert sorted((p, p.stat().st_mtime_ns) for p in store.layout.traces.rglob("*")) == before
    assert store.run_ids() == ["r0"]


@pytest.mark.parametrize(
    "change",
    [
        lambda run: replace(run, stop=replace(run.stop, ended_utc_ns=1)),
        lambda run: replace(run, metrics=run.metrics[1:]),
        lambda run: replace(run, traces=(make_trace(seed=9),)),
        lambda run: replace(run, attachments={}),
    ],
)
def test_a_published_run_never_changes(store: Store, tmp_path: Path, change) -> None:
    run = whole_run(tmp_path)
    store.publish(run)
    with pytest.raises(StoreError, match="r0 is in the store already, with another content"):
        store.publish(change(run))
    assert store.bundle("r0").stop == run.stop


def test_figures_that_are_no_numbers_are_null(store: Store) -> None:
    run = make_bundle("r0")
    odd = (
        Metric(name="ttft_s", value=float("nan"), unit="s"),
        Metric(name="x", value=float("inf"), unit="1", note="n"),
    )
    store.publish(replace(run, metrics=odd))
    assert [(m.value, m.note) for m in store.bundle("r0").metrics] == [(None, "not finite"), (None, "n")]


def test_documents_must_be_finite(store: Store) -> None:
    run = make_bundle("r0")
    with pytest.raises(StoreError, match="RunStop is not finite"):
        store.publish(replace(run, stop=replace(run.stop, used={"x": float("nan")})))
    assert store.run_ids() == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 300])
def test_names_that_cannot_be_folders(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="cannot name a file"):
        store.publish(make_bundle(name))
    with pytest.raises(StoreError, match="cannot name a file"):
        store.spool(name)


def test_a_stop_of_another_run(store: Store) -> None:
    run = make_bundle("r0")
    with pytest.raises(StoreError, match="its RunStop is of run r9"):
        store.publish(replace(run, stop=replace(run.stop, run_id="r9")))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps, two devices, three levels, one run out of memory; one position a minute."""
    root = tmp_path_factory.mktemp("measured") / "store"
    cells = itertools.product(("s1", "s2"), range(2), ("q8_0", "q4_0", None))
    with Store.open(root) as store:
        for position, (sweep_id, block, quant) in enumerate(cells):
            bad = sweep_id == "s2" and quant is None
            store.publish(
                make_bundle(
                    f"r{position:02d}",
                    sweep_id=sweep_id,
                    block=block,
                    position=position,
                    quant=quant,
                    device="phone" if sweep_id == "s2" else "local",
                    outcome=Outcome.OOM if bad else Outcome.OK,
                    verdict=Verdict.INVALID if bad else Verdict.VALID,
                    n_prompt=0 if block else 512,
                )
            )
    return root


@pytest.fixture
def full(measured: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of its own for each test."""
    with Store.open(shutil.copytree(measured, tmp_path / "full")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        (Selection(), range(12)),
        (Selection(sweep="s2"), range(6, 12)),
        (Selection(device="phone"), range(6, 12)),
        (Selection(device="id-phone"), range(6, 12)),
        (Selection(quant="q4_0"), (1, 4, 7, 10)),
        (Selection(quant="none"), (2, 5, 8, 11)),
        (Selection(outcome="oom"), (8, 11)),
        (Selection(verdict="valid", sweep="s2"), (6, 7, 9, 10)),
        (Selection(workload="tg128"), (3, 4, 5, 9, 10, 11)),
        (Selection(model="other"), ()),
        (Selection(engine="llama_cpp", limit=2), (10, 11)),
        (Selection(runs=("r03", "r07")), (3, 7)),
        (Selection(since_utc_ns=STARTED_UTC_NS + 9 * 60_000_000_000), (9, 10, 11)),
        (Selection(tag="night"), (4,)),
    ],
)
def test_selections(full: Store, asked: Selection, runs) -> None:
    full.tag("r04", ["night"])
    wanted = [f"r{i:02d}" for i in runs]
    assert [b.start.spec.run_id for b in full.bundles(asked)] == wanted
    assert full.run_ids(asked) == wanted[::-1]
    assert [line.run_id for line in full.listing(asked)] == wanted[::-1]
    assert full.count(asked) == len(wanted)
    assert {row[0] for row in full.figures(asked)} == set(wanted)


def test_lines_say_what_the_documents_say(full: Store) -> None:
    full.tag("r04", ["night", "b", "night"])
    full.untag("r04", ["b", "unknown"])
    lines = {line.run_id: line for line in full.listing()}
    assert (lines["r04"].decode_tps, lines["r04"].tags, lines["r04"].engine_revision) == (31.25, ("night",), "b9999")
    assert (lines["r08"].decode_tps, lines["r08"].reasons, lines["r08"].quant) == (None, ("killed_by_oom",), None)
    for bundle in full.bundles():
        line = lines[bundle.start.spec.run_id]
        assert (line.workload, line.outcome) == (bundle.start.spec.workload.name, bundle.stop.outcome)
    same = {lines[f"r{i:02d}"].cell_key for i in (0,)}
    assert same != {lines["r01"].cell_key}


def test_sessions_are_blocks_of_a_sweep_on_a_boot(full: Store) -> None:
    with full.database.read() as connection:
        sessions = connection.exec_driver_sql("SELECT sweep_id, device_id, block, boot_id FROM sessions").all()
        per_session = connection.exec_driver_sql("SELECT count(*) FROM runs GROUP BY session_id").scalars().all()
    assert len(sessions) == len(set(sessions)) == 4
    assert per_session == [3, 3, 3, 3]


def test_sweeps(full: Store) -> None:
    assert [(s.sweep_id, s.runs, s.ok) for s in full.sweeps()] == [("s2", 6, 4), ("s1", 6, 6)]
    assert full.resolve_sweep("last") == "s2"
    assert full.resolve_sweep("s1") == "s1"


@pytest.mark.parametrize(
    ("named", "said"),
    [("r0", "several runs: r00, r01, r02, …"), ("x", "no run 'x'"), ("r1%", "no run"), ("", "several")],
)
def test_names_that_mean_no_single_run(full: Store, named: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        full.bundle(named)


def test_names_of_runs(full: Store) -> None:
    assert full.resolve("last") == "r11"
    assert full.resolve("r11") == "r11"
    full.publish(make_bundle("r1", position=50))
    assert full.bundle("r1").start.spec.run_id == "r1", "a whole id wins over longer ones that begin with it"
    with pytest.raises(UsageError, match="has no 'gpu'; it has none"):
        full.trace("r1", "gpu")


def test_an_empty_store(store: Store) -> None:
    assert (store.run_ids(), store.bundles(), store.sweeps()) == ([], [], [])
    with pytest.raises(UsageError, match="has no runs yet"):
        store.bundle("last")


def test_moments() -> None:
    assert since_utc_ns("1970-01-02") == 86_400_000_000_000
    assert since_utc_ns("1970-01-01T01:00:00.5+01:00") == 500_000_000
    assert since_utc_ns("90m", now_utc_ns=10**13) == 10**13 - 5_400_000_000_000
    with pytest.raises(UsageError, match="'yesterday' is no time"):
        since_utc_ns("yesterday")


def test_spool_keeps_documents(store: Store) -> None:
    with store.spool("r0") as spool:
        spool.write_document("start.json", b"1")
        spool.write_document("start.json", b"2")
        assert spool.read_document("start.json") == b"2"
        assert spool.read_document("other") is None
        assert [p.name for p in spool.path.iterdir()] == ["start.json"]
        with pytest.raises(StoreError, match="is in the spool already"):
            store.spool("r0")
        assert store.leftovers() == []
    (left,) = store.leftovers()
    assert left.read_document("start.json") == b"2"
    left.discard()
    left.close()
    assert list(store.layout.spool.iterdir()) == []
    store.spool("r0").discard()


def test_a_published_run_left_in_the_spool_is_told_from_one_that_is_not(store: Store) -> None:
    """Killed between publishing and removing the job: it must not be recovered into a second, different result."""
    store.spool("r0").close()
    store.spool("r1").close()
    store.publish(make_bundle("r0"))
    held = store.leftovers()
    assert [(spool.run_id, store.is_published(spool.run_id)) for spool in held] == [("r0", True), ("r1", False)]
    assert collect_garbage(store) == [], "somebody sees to them"
    for spool in held:
        spool.close()
    assert [finding.where for finding in verify(store)] == ["spool/r0", "spool/r1"]
    assert [garbage.path.name for garbage in collect_garbage(store)] == ["r0"]
    assert [path.name for path in store.layout.spool.iterdir()] == ["r1"]
