"""The verbs over a store, from the command line on: `melt runs`, `melt export`, `melt store`."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from store_samples import make_bundle, make_trace

from melt.cli.main import main
from melt.codec import from_dict
from melt.records import Outcome, RunStart, Verdict
from melt.store.store import Store


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled") / "store"
    with Store.open(root) as store:
        for i, quant in enumerate(["q8_0", "q4_0", "f16"]):
            bad = quant == "f16"
            store.publish(
                make_bundle(
                    f"run-{i}",
                    position=i,
                    quant=quant,
                    traces=(make_trace(20),),
                    outcome=Outcome.OOM if bad else Outcome.OK,
                    verdict=Verdict.INVALID if bad else Verdict.VALID,
                )
            )
    return root


Melt = Callable[..., tuple[str, str]]


@pytest.fixture
def melt(capsys: pytest.CaptureFixture[str]) -> Melt:
    """Run one command line in this process; returns its stdout and stderr."""

    def run(*words: str | Path, status: int = 0, store: Path | None = None) -> tuple[str, str]:
        where = () if store is None else ("--store", store)
        try:
            found = main([str(word) for word in (*words, *where)])
        except SystemExit as stopped:
            found = stopped.code
        said = capsys.readouterr()
        assert found == status, said.err
        return said.out, said.err

    return run


def test_runs(melt: Melt, filled: Path) -> None:
    table = melt("runs", store=filled)[0]
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["run-2", "run-1", "run-0"]
    assert "killed_by_oom" in table
    assert melt("runs", "-o", "md", "--quant", "q8_0", store=filled)[0].count("\n") == 3
    records = json.loads(melt("runs", "-o", "json", store=filled)[0])
    assert [(r["run_id"], r["decode_tps"], r["outcome"]) for r in records] == [
        ("run-2", None, "oom"),
        ("run-1", 31.25, "ok"),
        ("run-0", 31.25, "ok"),
    ]
    assert records[0]["started"] == "2025-11-21T04:42:00+00:00"
    lines = melt("runs", "-o", "jsonl", "--limit", "1", store=filled)[0].splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == ["run-2"]
    rows = list(csv.DictReader(io.StringIO(melt("runs", "-o", "csv", "--outcome", "ok", store=filled)[0])))
    assert [row["quant"] for row in rows] == ["q4_0", "q8_0"]


def test_nothing_selected_is_no_error(melt: Melt, filled: Path) -> None:
    assert melt("runs", "--model", "unknown", store=filled) == ("", "melt: no such runs\n")
    assert json.loads(melt("runs", "--model", "unknown", "-o", "json", store=filled)[0]) == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("runs", "--since", "yesterday"), 2, "'yesterday' is no time"),
        (("runs", "--sweep", "zzz"), 2, "no sweep 'zzz'"),
        (("runs", "--limit", "0"), 2, "use 1 or more"),
        (("export", "run"), 2, "beginning of several runs"),
        (("export", "-f", "parquet"), 2, "-o DIR"),
        (("export", "-o", "/proc/nothing/here"), 1, "/proc/nothing/here"),
        (("store", "tag", "nope", "x"), 2, "no run 'nope'"),
        (("store",), 2, "VERB"),
    ],
)
def test_wrong_usage_gets_a_sentence(melt: Melt, filled: Path, words: tuple[str, ...], status: int, said: str) -> None:
    out, err = melt(*words, status=status, store=None if words == ("store",) else filled)
    assert said in err
    assert out == ""


def test_no_store(melt: Melt, tmp_path: Path) -> None:
    for words in (("runs",), ("export",), ("store", "verify"), ("store", "gc")):
        assert "no results store" in melt(*words, status=1, store=tmp_path / "none")[1]


def test_export(melt: Melt, filled: Path, tmp_path: Path) -> None:
    documents = json.loads(melt("export", store=filled)[0])
    assert [from_dict(RunStart, d["start"]).spec.run_id for d in documents] == ["run-0", "run-1", "run-2"]
    lines = melt("export", "-f", "jsonl", "run-1", "last", store=filled)[0].splitlines()
    assert [json.loads(line) for line in lines] == documents[1:]
    out = tmp_path / "figures.csv"
    assert melt("export", "-f", "csv", "-o", out, store=filled)[0] == ""
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == sum(len(d["metrics"]) for d in documents)
    assert {r["value"] for r in rows if r["metric"] == "package_energy"} == {""}
    assert list(tmp_path.iterdir()) == [out]


def test_export_for_llama_bench(melt: Melt, filled: Path) -> None:
    out, err = melt("export", "-f", "llama-bench", store=filled)
    tests = json.loads(out)
    assert [(t["model_type"], t["n_prompt"], t["n_gen"]) for t in tests] == [
        ("llama q8_0", 512, 0),
        ("llama q8_0", 0, 128),
        ("llama q4_0", 512, 0),
        ("llama q4_0", 0, 128),
    ]
    assert "llama-bench knows: 1" in err


def test_export_parquet(melt: Melt, filled: Path, tmp_path: Path, polars: ModuleType) -> None:
    melt("export", "-f", "parquet", "-o", tmp_path / "mirror", "--outcome", "ok", store=filled)
    runs = polars.read_parquet(tmp_path / "mirror" / "runs.parquet")
    assert runs["run_id"].to_list() == ["run-0", "run-1"]
    assert runs["started_utc_ns"].dtype == polars.Int64
    assert polars.read_parquet(tmp_path / "mirror" / "reasons.parquet").height == 0
    for path in polars.read_parquet(tmp_path / "mirror" / "traces.parquet")["path"]:
        assert polars.read_parquet(path).height == 20


def test_store(melt: Melt, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "copy"
    shutil.copytree(filled, root)
    monkeypatch.setenv("MELT_STORE", str(root))
    assert melt("store", "path")[0] == f"{root}\n"
    assert melt("store", "path", store=filled)[0] == f"{filled}\n"
    assert melt("store", "verify") == ("", "melt: all whole; runs: 3\n")
    melt("store", "tag", "last", "night", "lab-2")
    assert json.loads(melt("runs", "--tag", "night", "-o", "json")[0])[0]["tags"] == ["lab-2", "night"]
    melt("store", "tag", "last", "night", "--remove")
    assert json.loads(melt("runs", "--tag", "night", "-o", "json")[0]) == []
    (root / "traces" / "orphan").mkdir()
    assert "traces/orphan" in melt("store", "verify")[1]
    assert melt("store", "gc", "--dry-run")[0] == melt("store", "gc")[0] != ""
    (root / "traces" / "run-1" / "sensors.parquet").unlink()
    out, err = melt("store", "verify", status=1)
    assert out == "traces/run-1/sensors.parquet: the file is missing\n"
    assert "problems found: 1" in err


@pytest.mark.slow
def test_a_reader_that_leaves(filled: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-m", "melt", "export", "--store", filled], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stderr is not None
    first.stdout.close()
    assert first.stderr.read() == b""
    first.stderr.close()
    assert first.wait() == 0
