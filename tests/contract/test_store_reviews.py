"""Sessions and reviews in a store: an old store moved on, doubts found later, and readers that agree on them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from store_samples import make_bundle

from melt.cli.main import main
from melt.errors import StoreError
from melt.records import Apart, Outcome, Reason, Session, Thresholds, Verdict
from melt.store.mirror import write_mirror
from melt.store.reviews import reviewed
from melt.store.selection import Selection
from melt.store.store import Store
from melt.store.upkeep import verify
from melt.traces import RunBundle

OLD = Path(__file__).parents[1] / "data" / "store" / "schema-0001.sql"
DOUBT = Reason(
    code="order_effect", message="rates fell by 9.0 % from the first run to the last", figures={"change": -0.09}
)


def in_session(bundle: RunBundle, number: int, **parts: object) -> RunBundle:
    spec = bundle.start.spec
    session = Session(
        uid=f"{spec.sweep_id}-{number}",
        sweep_id=spec.sweep_id,
        device_id=bundle.start.device.device_id,
        block=spec.block,
        number=number,
        apart=Apart.BLOCK if number else Apart.START,
        began_utc_ns=bundle.start.started_utc_ns,
        boot_id="b1",
    )
    return replace(bundle, start=replace(bundle.start, session=replace(session, **parts)))


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    """A store as the melt before sessions and reviews wrote it."""
    (tmp_path / "traces").mkdir()
    with sqlite3.connect(tmp_path / "runs.sqlite") as database:
        database.executescript(OLD.read_text(encoding="utf-8"))
    database.close()
    return tmp_path


def test_an_old_store_is_moved_on_when_it_is_opened(old_store: Path) -> None:
    with Store.open(old_store) as store:
        bundles = store.bundles()
        assert [b.start.spec.run_id for b in bundles] == ["r0", "r1", "r2", "r3", "r4"]
        assert [b.start.session for b in bundles] == [None] * 5
        assert [(line.session, line.apart) for line in store.listing()] == [(None, None)] * 5
        assert list(verify(store)) == []
        assert store.last_session("s0", "id-local") is None
        assert store.last_used_utc_ns("id-local") == bundles[-1].stop.ended_utc_ns
        store.publish(make_bundle("new", block=1, position=5))
        store.publish(in_session(make_bundle("told", block=1, position=6), 0))
        with store.database.read() as connection:
            rows = connection.exec_driver_sql("SELECT session_id, block, uid FROM sessions ORDER BY session_id").all()
            of_run = dict(connection.exec_driver_sql("SELECT run_id, session_id FROM runs").all())
    assert [tuple(row) for row in rows] == [(1, 0, None), (2, 1, None), (3, 1, "s0-0")]
    assert (of_run["new"], of_run["told"]) == (2, 3)


def test_sessions_come_back_and_the_last_one_is_that_with_the_highest_number(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        for i, number in enumerate((0, 0, 1, 2)):
            store.publish(
                in_session(make_bundle(f"r{i}", block=number, position=i), number, rested_s=1.5, temperature_c=41.0)
            )
        store.publish(in_session(make_bundle("other", sweep_id="s1", position=9), 7))
        assert store.last_session("s0", "id-local") == store.bundle("r3").start.session
        assert store.last_session("s0", "id-other") is None
        assert [(line.run_id, line.session, line.apart) for line in store.listing(Selection(sweep="s0"))] == [
            ("r3", 2, "block"),
            ("r2", 1, "block"),
            ("r1", 0, "start"),
            ("r0", 0, "start"),
        ]


def test_what_was_refused_is_no_use_of_a_device(tmp_path: Path) -> None:
    refused = make_bundle("r1", position=1, outcome=Outcome.SKIPPED)
    refused = replace(refused, stop=replace(refused.stop, ended_utc_ns=refused.start.started_utc_ns))
    with Store.open(tmp_path) as store:
        store.publish(make_bundle("r0"))
        store.publish(refused)
        assert store.last_used_utc_ns("id-local") == store.bundle("r0").stop.ended_utc_ns
        assert store.last_used_utc_ns("id-other") is None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        store.publish(make_bundle("good"))
        store.publish(make_bundle("bad", position=1, verdict=Verdict.INVALID))
        store.publish(make_bundle("other", position=2))
        yield store


def test_a_review_makes_a_run_no_better_and_leaves_its_documents_alone(store: Store) -> None:
    with store.database.read() as connection:
        before = connection.exec_driver_sql("SELECT run_id, stop_json, content_sha256 FROM runs").all()
    store.review("order_effect", ["good", "bad", "other"], {"good": DOUBT, "bad": DOUBT})
    verdicts = {b.start.spec.run_id: (b.stop.verdict, b.stop.reasons) for b in store.bundles()}
    assert verdicts == {
        "good": (Verdict.SUSPECT, (DOUBT,)),
        "bad": (Verdict.INVALID, (DOUBT,)),
        "other": (Verdict.VALID, ()),
    }
    assert {line.run_id: (line.verdict, line.reasons) for line in store.listing()} == {
        "good": ("suspect", ("order_effect",)),
        "bad": ("invalid", ("order_effect",)),
        "other": ("valid", ()),
    }
    assert store.run_ids(Selection(verdict="valid")) == ["other"]
    assert {row[0]: row[19] for row in store.figures()} == {"good": "suspect", "bad": "invalid", "other": "valid"}
    assert store.FIGURE_COLUMNS[19] == "verdict"
    assert list(verify(store)) == []
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT run_id, stop_json, content_sha256 FROM runs").all() == before
    store.publish(make_bundle("good"))
    assert store.bundle("good").stop.verdict is Verdict.SUSPECT


def test_a_review_replaces_what_one_of_its_code_said_before_and_no_other(store: Store) -> None:
    other = replace(DOUBT, code="something_else")
    store.review("order_effect", ["good"], {"good": DOUBT})
    store.review("something_else", ["good", "bad"], {"good": other, "bad": other})
    smaller = replace(DOUBT, figures={"change": -0.08})
    store.review("order_effect", ["good", "bad", "other"], {"good": smaller})
    assert store.bundle("good").stop.reasons == (smaller, other)
    store.review("order_effect", ["good", "bad", "other"], {"other": DOUBT})
    assert store.bundle("good").stop.reasons == (other,)
    assert store.bundle("other").stop.verdict is Verdict.SUSPECT
    store.review("something_else", ["good", "bad"], {})
    store.review("order_effect", ["good", "bad", "other"], {})
    assert [b.stop.verdict for b in store.bundles()] == [Verdict.VALID, Verdict.INVALID, Verdict.VALID]
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM reviews").scalar() == 0
    assert list(verify(store)) == []


def test_of_a_run_that_is_not_there_nothing_is_kept(store: Store) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.review("order_effect", ["good"], {"good": DOUBT, "gone": DOUBT})
    assert store.bundle("good").stop.verdict is Verdict.VALID


def test_verify_finds_a_verdict_that_no_review_explains(store: Store) -> None:
    store.review("order_effect", ["good"], {"good": DOUBT})
    with store.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM reviews")
    assert [finding.where for finding in verify(store)] == ["good"]


def test_the_mirror_says_the_same(store: Store, tmp_path: Path, duckdb: ModuleType) -> None:
    store.publish(in_session(make_bundle("told", position=3), 4, temperature_c=38.5))
    store.review("order_effect", ["good", "told"], {"good": DOUBT, "told": DOUBT})
    write_mirror(store, tmp_path / "mirror", Selection(sweep="s0"))
    query = f"""
        SELECT run_id, verdict, number, apart, temperature_c, v.code
        FROM '{tmp_path}/mirror/runs.parquet' JOIN '{tmp_path}/mirror/sessions.parquet' USING (session_id)
        LEFT JOIN '{tmp_path}/mirror/reviews.parquet' AS v USING (run_id) ORDER BY run_id
    """
    with duckdb.connect() as database:
        assert database.execute(query).fetchall() == [
            ("bad", "invalid", None, None, None, None),
            ("good", "suspect", None, None, None, "order_effect"),
            ("other", "valid", None, None, None, None),
            ("told", "suspect", 4, "block", 38.5, "order_effect"),
        ]


def test_the_verbs_tell_the_doubt_and_the_session(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.publish(in_session(make_bundle("told", position=3), 1, rested_s=2.0, temperature_c=38.5))
    store.review("order_effect", ["told"], {"told": DOUBT})
    root = ("--store", str(store.root))
    assert main(["show", "told", *root]) == 0
    shown = capsys.readouterr().out
    assert "ok, suspect" in shown
    assert "order_effect: rates fell by 9.0 %" in shown
    told = "number 2 on this device, right after the one before, device had rested for 2.00 s, 38.5 °C at its start"
    assert told in " ".join(shown.split())
    assert main(["runs", "-o", "json", *root]) == 0
    line = json.loads(capsys.readouterr().out)[0]
    assert (line["session"], line["apart"], line["verdict"], line["reasons"]) == (
        1,
        "block",
        "suspect",
        ["order_effect"],
    )
    assert main(["export", "told", "-f", "jsonl", *root]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["start"]["session"]["uid"] == "s0-1"
    assert document["stop"]["verdict"] == "suspect"
    assert main(["compare", *root]) == 0
    assert "suspect, rates fell by 9.0 %" in " ".join(capsys.readouterr().out.split())


def test_a_doubt_never_changes_what_is_worse() -> None:
    stop = make_bundle(outcome=Outcome.OOM, verdict=Verdict.INVALID).stop
    assert reviewed(stop, [DOUBT], Thresholds()).verdict is Verdict.INVALID
    assert reviewed(stop, [], Thresholds()) is stop
