"""`melt compare A B` against a store on disk: how runs are named, what is printed, and the exit status."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.cli.main import main
from melt.errors import UsageError
from melt.store.selection import Selection
from melt.store.selectors import resolve_selector
from melt.store.store import Store

NIGHTS = (("20261101-s", 1.0, "Debian 12"), ("20261102-s", 1.001, "Debian 12"), ("20261103-s", 0.9, "Debian 13"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three nights of two levels, six sessions each; decode falls by a tenth in the third, on another OS build."""
    folder = tmp_path_factory.mktemp("nights") / "results"
    with Store.open(folder) as store:
        for night, (sweep, factor, build) in enumerate(NIGHTS):
            for session in range(6):
                for place, quant in enumerate(("q8_0", "q4_0")):
                    run_id = f"{sweep[:8]}-{quant}-{session}"
                    rate = factor * (30, 40)[place] * (1 + 0.002 * session)
                    position = 100 * night + 2 * session + place
                    made = make_bundle(
                        run_id, sweep_id=sweep, block=session, position=position, quant=quant, decode_tps=rate
                    )
                    device = replace(made.start.device, os_build=build)
                    store.publish(replace(made, start=replace(made.start, device=device)))
                    if night == 0:
                        store.tag(run_id, ["baseline", "commit:abc123"])
    return folder


def judge(root, capsys, *words):
    status = main(["compare", *words, "--store", str(root), "-o", "json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_quiet_night_passes_and_a_slower_one_is_status_1(root, capsys):
    status, quiet = judge(root, capsys, "last~2", "last~1")
    assert (status, quiet["verdict"]) == (0, "unchanged")
    status, slower = judge(root, capsys, "tag:baseline", "last", "--allow-differing", "os_build")
    assert (status, slower["verdict"]) == (1, "regressed")
    assert [cell["cell"] for cell in slower["cells"]] == ["pp512+tg128, q8_0", "pp512+tg128, q4_0"]
    decode = next(one for one in slower["cells"][0]["metrics"] if one["metric"] == "decode_tps")
    assert decode["ratio"] == pytest.approx(0.9)
    assert decode["low"] <= 0.9 <= decode["high"] < 1
    assert (decode["sessions_a"], decode["threshold"], decode["verdict"]) == (6, 0.03, "regressed")
    assert "Allowed to differ: the OS build, 'Debian 12' and 'Debian 13'." in slower["notes"]


@pytest.mark.parametrize(
    ("words", "status", "verdict"),
    [
        (["q8_0", "q4_0", "--sweep", "last"], 0, "improved"),
        (["quant:q4_0", "quant:q8_0", "--sweep", "last"], 1, "regressed"),
        (["os:Debian 12", "os:Debian 13"], 1, "regressed"),
        (["abc", "20261102-s"], 0, "unchanged"),
        (["tag:baseline,quant:q8_0", "sweep:20261102,quant:q8_0"], 0, "unchanged"),
        (["run:20261101-q8_0-0,20261101-q8_0-1", "run:20261102-q8_0-0"], 0, "inconclusive"),
        (["last~2", "last~1", "--threshold", "decode_tps=0.01%"], 0, "inconclusive"),
    ],
)
def test_ways_to_name_two_sides(root, capsys, words, status, verdict):
    found, document = judge(root, capsys, *words)
    assert (found, document["verdict"]) == (status, verdict)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["last~1", "last"], "the OS build is 'Debian 12' in run 20261102-q8_0-0 and 'Debian 13' in run"),
        (["last", "last"], "A and B share 12 runs, 20261103-q4_0-0 for one"),
        (["last"], "name two selections, found 1"),
        (["last~1", "last", "--by", "quant"], "--by sets columns side by side"),
        (["nothing", "last"], "nothing in the store"),
        (["2026", "last"], "'2026' is the beginning of several sweeps"),
        (["last~7", "last"], "has no sweep so far back: 'last~7'"),
        (["tag:", "last"], "give tag: a value"),
        (["sweep:last", "last~1", "--sweep", "last"], "the sweep is given twice, or also by --sweep"),
        (["last~2", "last~1", "--threshold", "decode_tps"], "write METRIC=SHARE"),
        (["last~2", "last~1", "--threshold", "decode_tp=3%"], "did you mean 'decode_tps'?"),
        (["last~2", "last~1", "--threshold", "temperature_max_c=3%"], "is not judged"),
        (["last~2", "last~1", "--allow-differing", "os"], "no field 'os'"),
        (["quant:q9", "last"], "no run matches quant:q9"),
        (["--threshold", "decode_tps=3%"], "name two selections"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_status_2(root, capsys, words, told):
    assert main(["compare", *words, "--store", str(root)]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_a_word_that_means_several_things_is_refused(tmp_path):
    with Store.open(tmp_path / "results") as store:
        store.publish(make_bundle("r0", quant="q4_0"))
        store.tag("r0", ["q4_0", "night:1"])
        with pytest.raises(UsageError, match="several things: write tag:q4_0 or quant:q4_0"):
            resolve_selector(store, "q4_0", Selection())
        assert resolve_selector(store, "quant:q4_0", Selection()).keys == {"quant": "q4_0"}
        assert resolve_selector(store, "night:1", Selection()).keys == {"tag": "night:1"}
        assert resolve_selector(store, "r", Selection()).selection.runs == ("r0",)


def test_all_runs_of_a_selection_are_tagged_at_once(tmp_path, capsys):
    with Store.open(tmp_path / "results") as store:
        for i, quant in enumerate(("q8_0", "q4_0")):
            store.publish(make_bundle(f"r{i}", quant=quant, position=i))
    tag = ["store", "tag", "--store", str(tmp_path / "results")]
    assert main([*tag, "sweep:last", "nightly", "commit:abc"]) == 0
    assert main([*tag, "commit:a,quant:q4_0", "nightly", "--remove"]) == 0
    assert main([*tag, "tag:none", "x"]) == 2
    assert "no run matches tag:none" in capsys.readouterr().err
    with Store.open(tmp_path / "results") as store:
        assert {line.run_id: line.tags for line in store.listing()} == {
            "r0": ("commit:abc", "nightly"),
            "r1": ("commit:abc",),
        }


def test_a_name_neither_steers_the_terminal_nor_breaks_a_line(tmp_path, capsys):
    with Store.open(tmp_path) as store:
        for i, run in enumerate("ab"):
            store.publish(make_bundle(run, sweep_id=run, model="m\x1b[2J\nverdict: improved", position=i))
    for form in ("table", "md"):
        main(["compare", "sweep:a", "sweep:b", "--store", str(tmp_path), "-o", form])
        told = capsys.readouterr().out
        assert "\x1b" not in told
        assert "m\ufffd[2J verdict: improved on local." in told


def test_every_form_says_the_same(root, capsys):
    words = ["compare", "last~2", "last~1", "--store", str(root), "-o"]
    assert main([*words, "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert main([*words, "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["verdict"] or None for row in rows] == [line["verdict"] for line in lines]
    assert {line["device_a"] for line in lines} == {"local"}
    assert main([*words, "md"]) == 0
    text = capsys.readouterr().out
    assert "| decode | tok/s | 30.1 | 30.2 | +0.1 %" in text
    assert text.rstrip().endswith("- Verdict: unchanged (4 unchanged).")


def test_the_table_ends_with_the_verdict(root, capsys):
    assert main(["compare", "last~1", "last", "--allow-differing", "os_build", "--store", str(root)]) == 1
    said = capsys.readouterr()
    flat = " ".join(said.out.split())
    assert "Verdict: regressed: pp512+tg128, q8_0: decode −10.1 %; pp512+tg128, q4_0: decode −10.1 %" in flat
    assert said.err == ""
