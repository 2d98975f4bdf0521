"""`melt query`: what SQL finds is what the store has, in every form; it reads nothing else and changes nothing."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from store_samples import make_bundle, make_trace

from melt.cli.main import main
from melt.records import Outcome, Verdict
from melt.store import schema
from melt.store.store import Store

DOC = Path(__file__).parents[2] / "docs" / "store.md"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("it's a") / "store"
    with Store.open(root) as store:
        for i, (quant, tps) in enumerate([("q8_0", 20.0), ("q8_0", 22.0), ("q4_0", 30.0), ("q4_0", None)]):
            bad = tps is None
            store.publish(
                make_bundle(
                    f"r{i}",
                    sweep_id=f"s{i // 2}",
                    block=i % 2,
                    position=i,
                    quant=quant,
                    decode_tps=tps,
                    outcome=Outcome.OOM if bad else Outcome.OK,
                    verdict=Verdict.INVALID if bad else Verdict.VALID,
                    traces=(make_trace(50, seed=i), make_trace(10, seed=i, collector='odd "one"'))[: 2 - bool(i)],
                )
            )
        store.tag("r0", ["nightly"])
    return root


Ask = Callable[..., str]


@pytest.fixture
def ask(root: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*words: str, status: int = 0) -> str:
        found = main(["query", *words, "--store", str(root)])
        said = capsys.readouterr()
        assert found == status, said.err
        return said.err if status else said.out

    return run


def rows(ask: Ask, sql: str, *words: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(ask(sql, "-f", "json", *words))
    return found


def test_records(ask: Ask) -> None:
    medians = (
        "SELECT quant, median(value) AS tps, count(value) AS n FROM figures"
        " WHERE metric = 'decode_tps' AND repetition IS NULL GROUP BY quant ORDER BY quant"
    )
    assert rows(ask, medians) == [{"quant": "q4_0", "tps": 30.0, "n": 1}, {"quant": "q8_0", "tps": 21.0, "n": 2}]
    assert rows(ask, medians, "--sweep", "s0") == [{"quant": "q8_0", "tps": 21.0, "n": 2}]
    assert rows(ask, "SELECT run_id, tag FROM runs JOIN tags USING (run_id)") == [{"run_id": "r0", "tag": "nightly"}]
    reason = "SELECT code, json_extract(figures_json, '$.rss_bytes')::DOUBLE AS rss_bytes FROM reasons"
    assert rows(ask, reason) == [{"code": "killed_by_oom", "rss_bytes": 9e9}]
    seed = "SELECT DISTINCT start_json->>'$.spec.device' AS device FROM runs"
    assert rows(ask, seed) == [{"device": "local"}]


def test_traces(ask: Ask, root: Path) -> None:
    with Store.open(root) as store:
        zones = [store.trace(f"r{i}", "sensors").columns["zone0_c"] for i in range(4)]
    expected = [{"run_id": f"r{i}", "hottest": float(np.nanmax(zone)), "n": 48} for i, zone in enumerate(zones)]
    wide = (
        "SELECT run_id, max(zone0_c)::DOUBLE AS hottest, count(zone0_c) AS n FROM trace_sensors GROUP BY 1 ORDER BY 1"
    )
    assert rows(ask, wide) == expected
    long = (
        "SELECT run_id, max(value) AS hottest, count(*) AS n FROM samples"
        " WHERE channel = 'zone0_c' AND collector = 'sensors' GROUP BY 1 ORDER BY 1"
    )
    assert rows(ask, long) == expected
    assert rows(ask, long, "--sweep", "s1") == expected[2:]
    assert rows(ask, 'SELECT count(*) AS n FROM "trace_odd ""one"""') == [{"n": 10}]


def test_every_table_is_listed_and_described(ask: Ask) -> None:
    listed = list(csv.DictReader(io.StringIO(ask("--tables", "-f", "csv"))))
    found = {(row["table"], row["column"]) for row in listed}
    assert {(table.name, column.name) for table in schema.metadata.tables.values() for column in table.columns} <= found
    assert {("figures", "metric"), ("samples", "value"), ("trace_sensors", "zone0_c")} <= found
    page = DOC.read_text(encoding="utf-8")
    assert [t for t, _ in found if not t.startswith("trace_") and f"**{t}**" not in page] == []


def test_forms(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = (
        "SELECT a.run_id, b.run_id, 12345678901234567890 AS big, NULL AS no, 'a,\"b' AS txt, [1.5] AS l"
        " FROM runs AS a JOIN runs AS b USING (run_id) ORDER BY 1"
    )
    first = {"run_id": "r0", "run_id_2": "r0", "big": 12345678901234567890, "no": None, "txt": 'a,"b', "l": [1.5]}
    assert rows(ask, sql)[0] == first
    assert json.loads(ask(sql, "-f", "jsonl").splitlines()[0]) == first
    table = list(csv.reader(io.StringIO(ask(sql, "-f", "csv"))))
    assert table[:2] == [list(first), ["r0", "r0", "12345678901234567890", "", 'a,"b', "[1.5]"]]
    assert len(table) == 5
    nothing = "SELECT run_id FROM runs WHERE false"
    assert [ask(nothing, "-f", form) for form in ("csv", "jsonl", "json")] == ["run_id\n", "", "[]\n"]
    assert ask("SELECT 0.1 + 0.2 AS x, quant FROM runs LIMIT 1").split() == ["x", "quant", "───────────", "0.3", "q8_0"]
    monkeypatch.setattr("sys.stdin", io.StringIO("-- of all\nSELECT count(*) AS n FROM runs;\n"))
    assert rows(ask, "-") == [{"n": 4}]
    ask("SELECT run_id, started_utc_ns FROM runs ORDER BY 1", "-f", "parquet", "-o", str(tmp_path / "out.parquet"))
    assert pq.read_table(tmp_path / "out.parquet")["run_id"].to_pylist() == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT foo FROM runs", 'wrong at line 1, column 8: Referenced column "foo" not found'),
        (
            "SELECT *\n  FROM nope",
            "wrong at line 2, column 8: Table with name nope does not exist; `melt query --tables`",
        ),
        ("SELECT 'é', *, FROM WHERE", "wrong at line 1, column"),
        ("SELECT CAST(if(i = 60000, 'a', '1') AS INT) FROM range(70000) AS t(i)", "Could not convert string 'a'"),
        ("SELECT * FROM read_text('/etc/hostname')", "no other file: Cannot access file"),
        ("SELECT * FROM '/etc/hostname.csv'", "no other file"),
        ("COPY (SELECT 1) TO '{store}/traces/r0/sensors.parquet'", "SELECT, not COPY"),
        ("CREATE TABLE t AS SELECT 1", "SELECT, not CREATE"),
        ("SET enable_external_access = true", "SELECT, not SET"),
        ("ATTACH '{store}/runs.sqlite'", "SELECT, not ATTACH"),
        ("SELECT 1; SELECT 2", "one query at a time, and here are 2"),
        ("", "there is no query"),
    ],
)
def test_what_is_refused(ask: Ask, root: Path, tmp_path: Path, sql: str, said: str) -> None:
    before = (root / "traces" / "r0" / "sensors.parquet").read_bytes()
    told = ask(sql.replace("{store}", str(root).replace("'", "''")), "-o", str(tmp_path / "out"), status=2)
    assert said in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert (root / "traces" / "r0" / "sensors.parquet").read_bytes() == before


def test_usage(ask: Ask, root: Path) -> None:
    assert "give a query" in ask(status=2)
    assert "give a query" in ask("--tables", "SELECT 1", status=2)
    assert "name it with -o FILE" in ask("SELECT 1", "-f", "parquet", status=2)
    (root / "traces" / "r3" / "sensors.parquet").rename(root / "traces" / "r3" / "gone")
    try:
        assert "`melt store verify`" in ask("FROM trace_sensors", status=1)
    finally:
        (root / "traces" / "r3" / "gone").rename(root / "traces" / "r3" / "sensors.parquet")


@pytest.mark.slow
def test_as_a_program(root: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "melt", "query", "-", "-f", "jsonl", "--store", root]
    done = subprocess.run(
        argv, input="SELECT count(*) AS n FROM runs", capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ('{"n": 4}\n', "", [])
