"""`melt compare` and `melt show` against a store on disk."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from store_samples import make_bundle

from melt.cli.main import main
from melt.store.store import Store


@pytest.fixture
def store(tmp_path):
    """Two sweeps: an older one of one level, a newer one of two."""
    root = tmp_path / "results"
    with Store.open(root) as opened:
        opened.publish(make_bundle("old", sweep_id="s-old", quant="f16", decode_tps=20.0))
        for i, (quant, rate) in enumerate((("q8_0", 30.0), ("q4_0", 45.0)), start=1):
            opened.publish(make_bundle(f"new{i}", sweep_id="s-new", quant=quant, position=i, decode_tps=rate))
    return root


def columns(text):
    return [column["label"] for group in json.loads(text)["groups"] for column in group["columns"]]


def test_compare_takes_the_newest_sweep_and_says_so(store, capsys):
    assert main(["compare", "--store", str(store), "-o", "json"]) == 0
    seen = capsys.readouterr()
    assert columns(seen.out) == ["q8_0", "q4_0"]
    assert "s-new" in seen.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--sweep", "s-old"), ["f16"]),
        (("--sweep", "last"), ["q8_0", "q4_0"]),
        (("--model", "tiny"), ["f16", "q8_0", "q4_0"]),
        (("--quant", "q4_0"), ["q4_0"]),
    ],
)
def test_filters(store, capsys, words, expected):
    assert main(["compare", "--store", str(store), "-o", "json", *words]) == 0
    assert columns(capsys.readouterr().out) == expected


@pytest.mark.parametrize("fmt", ["table", "md", "json", "jsonl", "csv"])
def test_every_form_holds_the_figures(store, capsys, fmt):
    assert main(["compare", "--store", str(store), "-o", fmt]) == 0
    out = capsys.readouterr().out
    assert "q4_0" in out
    assert "45.0" in out
    assert out.endswith("\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "--quant", "q9"), "no run matches"),
        (("compare", "--sweep", "nowhere"), "nowhere"),
        (("show", "nothing"), "nothing"),
    ],
)
def test_what_is_not_there_gets_one_sentence(store, capsys, words, said):
    assert main([*words, "--store", str(store)]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert said in seen.err
    assert len(seen.err.strip().splitlines()) == 1


def test_show_finds_a_run_by_the_beginning_of_its_id(store, capsys):
    assert main(["show", "new2", "--store", str(store)]) == 0
    assert capsys.readouterr().out.startswith("Run new2\n")
    assert main(["show", "old", "--store", str(store), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["start"]["spec"]["quant"] == "f16"


def test_show_takes_the_last_run_unless_told(store, capsys):
    assert main(["show", "--store", str(store), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["start"]["spec"]["run_id"] == "new2"


def test_the_verbs_import_nothing_heavy():
    code = (
        "import sys, melt.cli.compare, melt.cli.show; print(sorted({'numpy', 'rich', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
