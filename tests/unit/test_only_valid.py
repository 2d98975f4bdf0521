"""Runs that are in doubt: none that is invalid is in a figure, `--only-valid` leaves all out, and both are told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from compare_samples import bundles, cells
from store_samples import make_bundle

from melt.analysis.compare import compare
from melt.cli.main import main
from melt.records import Outcome, Reason, Thresholds, Verdict
from melt.report.comparison import render
from melt.report.left_out import left_out
from melt.report.run import render_run
from melt.store.store import Store


def doubted(bundle, verdict, *codes):
    reasons = tuple(Reason(code=code, message=f"it was {code}") for code in codes)
    return replace(bundle, stop=replace(bundle.stop, verdict=verdict, reasons=reasons))


def judged(bundle, **thresholds):
    return replace(
        bundle, start=replace(bundle.start, spec=replace(bundle.start.spec, thresholds=Thresholds(**thresholds)))
    )


def test_no_median_holds_an_invalid_run_and_the_column_says_so():
    made = bundles({"q8_0": [10, 11, 90], "q4_0": [20, 21, 22]})
    made = [doubted(b, Verdict.INVALID, "charging") if i == 4 else b for i, b in enumerate(made)]
    comparison = compare(made)
    assert [cell.summary.median for cell in cells(comparison)] == [10.5, 21]
    assert [cell.summary.n for cell in cells(comparison)] == [2, 3]
    (group,) = comparison.groups
    assert [column.n_believed for column in group.columns] == [2, 3]
    text = render(comparison, "table")
    assert "1 of 3 invalid" in text
    assert "Medians of 2 to 3 sessions" in " ".join(text.split())
    assert "90" not in text


def test_a_suspect_run_counts_and_is_told():
    made = [doubted(b, Verdict.SUSPECT, "charging") for b in bundles({"q8_0": [10, 11, 12]})]
    comparison = compare(made)
    assert cells(comparison)[0].summary.median == 11
    assert "suspect in 3 runs, for example it was charging" in render(comparison, "table")


def test_a_column_without_any_run_to_be_believed_is_neither_the_base_nor_silent():
    made = bundles({"q8_0": [10.0], "q4_0": [20.0], "q4_k_m": [30.0]})
    made[0] = doubted(made[0], Verdict.INVALID, "wrong_backend")
    comparison = compare(made)
    assert comparison.groups[0].base == 1
    assert cells(comparison)[0].summary is None
    assert cells(comparison)[2].difference == pytest.approx(0.5)
    assert any("decode" in line and "invalid" in line for line in render(comparison, "md").splitlines())


def test_with_nothing_to_be_believed_there_is_no_figure_at_all():
    made = [doubted(b, Verdict.INVALID, "charging") for b in bundles({"q8_0": [10, 11]})]
    comparison = compare(made)
    assert comparison.unmeasured["decode_tps"] == "invalid runs only"
    assert "No session is valid." in render(comparison, "table")


def test_a_session_is_as_doubtful_as_the_runs_that_its_figures_are_of():
    """Two runs of one session and column: the figure is that of the one that is believed, and so is the verdict."""
    made = bundles({"q8_0": [10.0]}) * 2
    made = [doubted(made[0], Verdict.INVALID, "charging"), doubted(made[1], Verdict.SUSPECT, "unstable")]
    (column,) = compare(made).groups[0].columns
    assert column.verdicts == {Verdict.SUSPECT: 1}


def test_verdicts_by_unlike_thresholds_are_told():
    made = bundles({"q8_0": [10, 11, 12]})
    assert not [note for note in compare(made).notes if "by" in note and "verdict" in note]
    lax = [judged(b, unstable_cv=0.2) for b in made]
    assert "All verdicts are by unstable_cv=0.2." in compare(lax).notes
    (note,) = [note for note in compare([*made[:1], *lax[1:]]).notes if "thresholds" in note]
    assert note == (
        "Runs were judged by unlike thresholds, so their verdicts do not compare: 1 by the defaults; "
        "2 by unstable_cv=0.2."
    )


def test_what_makes_a_run_invalid_may_be_named_in_any_order():
    one, other = bundles({"q8_0": [10, 11]})
    made = [judged(one, invalid=("throttled", "charging")), judged(other, invalid=("charging", "throttled"))]
    assert "All verdicts are by invalid=charging,throttled." in compare(made).notes


def test_what_is_left_out_is_counted_by_reason():
    runs = [
        ("ok", "suspect", ("unstable", "charging")),
        ("ok", "suspect", ("charging",)),
        ("ok", "invalid", ("wrong_backend",)),
        ("oom", "invalid", ("killed_by_oom",)),
    ]
    assert left_out(runs) == "2 suspect (charging 2, unstable 1), 1 invalid (wrong_backend 1), 1 oom"
    assert left_out([]) == ""


@pytest.fixture
def shelf(tmp_path):
    """A run that is valid, and later ones that are suspect, invalid, and out of memory."""
    root = tmp_path / "results"
    with Store.open(root) as store:
        for i, (name, outcome, verdict, codes) in enumerate(
            (
                ("good", Outcome.OK, Verdict.VALID, ()),
                ("warm", Outcome.OK, Verdict.SUSPECT, ("throttled",)),
                ("other", Outcome.OK, Verdict.INVALID, ("wrong_threads",)),
                ("large", Outcome.OOM, Verdict.INVALID, ("killed_by_oom",)),
            )
        ):
            made = make_bundle(name, sweep_id="s", position=i, block=i, outcome=outcome, decode_tps=10.0 + i)
            store.publish(doubted(made, verdict, *codes))
    return root


TOLD = "left out by --only-valid: 1 suspect (throttled 1), 1 invalid (wrong_threads 1), 1 oom"


def test_every_verb_leaves_out_what_is_in_doubt(shelf, capsys):
    assert main(["runs", "--only-valid", "-o", "json", "--store", str(shelf)]) == 0
    seen = capsys.readouterr()
    assert [run["run_id"] for run in json.loads(seen.out)] == ["good"]
    assert TOLD in seen.err
    assert main(["export", "--only-valid", "--store", str(shelf)]) == 0
    seen = capsys.readouterr()
    assert [run["stop"]["run_id"] for run in json.loads(seen.out)] == ["good"]
    assert TOLD in seen.err
    assert main(["compare", "--only-valid", "-o", "json", "--store", str(shelf)]) == 0
    seen = capsys.readouterr()
    assert json.loads(seen.out)["groups"][0]["columns"][0]["runs"] == ["good"]
    assert TOLD in seen.err
    assert main(["show", "--only-valid", "-o", "json", "--store", str(shelf)]) == 0
    assert json.loads(capsys.readouterr().out)["stop"]["run_id"] == "good"


def test_without_it_compare_says_whose_figures_are_missing(shelf, capsys):
    assert main(["compare", "-o", "json", "--store", str(shelf)]) == 0
    seen = capsys.readouterr()
    (row,) = [r for r in json.loads(seen.out)["groups"][0]["rows"] if r["metric"] == "decode_tps"]
    assert row["cells"][0]["median"] == pytest.approx(10.5)
    assert "without their figures, which are not to be believed: 1 invalid (wrong_threads 1)" in seen.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "warm", "--only-valid"), "run warm is not valid: without --only-valid `melt show` says what speaks"),
        (("runs", "--only-valid", "--verdict", "suspect"), "leave out --outcome and --verdict"),
        (("runs", "--only-valid", "--outcome", "oom"), "leave out --outcome and --verdict"),
    ],
)
def test_what_cannot_be_meant_is_refused(shelf, capsys, words, sentence):
    assert main([*words, "--store", str(shelf)]) == 2
    assert sentence in capsys.readouterr().err


def test_where_nothing_is_valid_nothing_is_compared(tmp_path, capsys):
    root = tmp_path / "results"
    with Store.open(root) as store:
        store.publish(doubted(make_bundle("warm", sweep_id="s"), Verdict.SUSPECT, "throttled"))
    assert main(["compare", "--only-valid", "--store", str(root)]) == 2
    assert "no valid run matches (left out: 1 suspect (throttled 1))" in capsys.readouterr().err
    assert main(["runs", "--only-valid", "--store", str(root)]) == 0
    assert "no such runs" in capsys.readouterr().err


def test_a_review_leaves_a_run_out_too(shelf, capsys):
    with Store.open(shelf) as store:
        store.review("order_effect", ["good"], {"good": Reason(code="order_effect", message="rates fell")})
    assert main(["runs", "--only-valid", "-o", "json", "--store", str(shelf)]) == 0
    seen = capsys.readouterr()
    assert json.loads(seen.out) == []
    assert "2 suspect (order_effect 1, throttled 1)" in seen.err


def test_a_run_says_by_what_it_was_judged_where_that_is_not_usual():
    assert "judged by" not in render_run(make_bundle(), "table")
    text = render_run(judged(make_bundle(), unstable_cv=0.2, invalid=("throttled",)), "table")
    assert "judged by         unstable_cv=0.2 invalid=throttled" in text
