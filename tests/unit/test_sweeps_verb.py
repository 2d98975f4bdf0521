"""`melt sweeps` against a store on disk: what a lab sees in the morning."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from store_samples import make_bundle

from melt.cli.main import main
from melt.errors import UsageError
from melt.fleet.sweep import Move, Sweep, held, is_held, load, save
from melt.records import Outcome, RunSpec, Verdict
from melt.store.store import Store

NIGHT, OLD = "20261121-220000-aaaaaaaa", "20261120-220000-bbbbbbbb"
_BUNDLE = make_bundle()


def _spec(run_id: str, sweep_id: str, device: str, block: int = 0) -> RunSpec:
    return replace(_BUNDLE.start.spec, run_id=run_id, sweep_id=sweep_id, device=device, block=block, plan="nightly")


def _publish(store: Store, spec: RunSpec, outcome: Outcome = Outcome.OK, verdict: Verdict = Verdict.VALID) -> None:
    name = {"adb:A": "Pixel 8"}.get(spec.device, "Orin")
    start = replace(_BUNDLE.start, spec=spec, device=replace(_BUNDLE.start.device, name=name, device_id=spec.device))
    stop = replace(_BUNDLE.stop, run_id=spec.run_id, outcome=outcome, verdict=verdict)
    store.publish(replace(_BUNDLE, start=start, stop=stop))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of which one device failed and one run lies in the spool, a whole one, and runs without a document."""
    root = tmp_path_factory.mktemp("published") / "results"
    phone = [_spec(f"p{n}", NIGHT, "adb:A", n) for n in range(4)]
    board = [_spec(f"b{n}", NIGHT, "ssh:orin", n) for n in range(3)]
    with Store.open(root) as store:
        _publish(store, phone[0])
        _publish(store, phone[1], Outcome.DEVICE_LOST, Verdict.INVALID)
        _publish(store, board[0], verdict=Verdict.SUSPECT)
        _publish(store, board[1], Outcome.OOM, Verdict.INVALID)
        _publish(store, board[2])
        _publish(store, _spec("superseded", NIGHT, "ssh:orin"), Outcome.FAILED, Verdict.INVALID)
        (store.layout.spool / "p2").mkdir()
        whole = _spec("o0", OLD, "local")
        _publish(store, whole)
        _publish(store, _spec("x0", "imported", "local"))
    why = "adb:A is set aside, it failed 3 times in a row: its cable"
    moves = (
        Move(device="ssh:old", to="ssh:orin", why="ssh:old is gone", run_ids=("b0", "b1")),
        Move(device="adb:A", to=None, why=why, run_ids=("p1", "p2", "p3")),
    )
    save(root, Sweep(NIGHT, (*phone, *board), (), moves))
    save(root, Sweep(OLD, (whole,)))
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """The published store, for one test alone."""
    return Path(shutil.copytree(published, tmp_path / "results"))


def _sweeps(root: Path, capsys: pytest.CaptureFixture[str], *words: str, exit_code: int = 0) -> tuple[str, str]:
    assert main(["sweeps", *words, "--store", str(root)]) == exit_code
    seen = capsys.readouterr()
    return seen.out, seen.err


def test_the_list_says_how_far_each_sweep_is_and_how_to_go_on(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = _sweeps(root, capsys, "-o", "md")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[2:]]
    assert rows == [
        [NIGHT, "nightly", "2", "4/7", "2 valid, 1 suspect, 1 oom", "to resume"],
        [OLD, "nightly", "1", "1/1", "1 valid", "complete"],
        ["imported", "nightly", "1", "1", "1 valid", "no document"],
    ]
    assert err == f"melt: {NIGHT} lacks 3 runs; go on with: melt resume {NIGHT}\n"
    out, err = _sweeps(root, capsys, "--limit", "1")
    assert NIGHT in out
    assert OLD not in out
    assert "the newest 1 of 3 sweeps; more with --limit 3" in err


@pytest.mark.parametrize("named", [NIGHT, "20261121", "last"])
def test_one_sweep_says_what_it_lacks_and_why(root: Path, capsys: pytest.CaptureFixture[str], named: str) -> None:
    out, err = _sweeps(root, capsys, named)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith(f"Sweep {NIGHT} (nightly), begun 2026-11-2")
    assert lines[0].endswith(": to resume, 3 left")
    assert "adb:A Pixel 8 1/4 1 - - - 3" in lines
    assert "ssh:orin Orin 3/3 1 1 - 1 oom -" in lines
    assert [line for line in lines if line.startswith("adb:A tiny")] == [
        "adb:A tiny q8_0 pp512+tg128 2 device lost p1",
        "adb:A tiny q8_0 pp512+tg128 3 not collected p2",
        "adb:A tiny q8_0 pp512+tg128 4 not begun p3",
    ]
    assert lines[-2:] == [
        "- ssh:old is gone; 2 runs moved to ssh:orin",
        "- adb:A is set aside, it failed 3 times in a row: its cable; no equal device was there",
    ]
    assert err.endswith(f"go on with: melt resume {NIGHT}\n")


def test_data_formats_hold_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = _sweeps(root, capsys, "-o", "json")
    night, old, imported = json.loads(out)
    assert err == ""
    assert (night["planned"], night["done"], night["lacking"], night["state"]) == (7, 4, 3, "to resume")
    assert (night["valid"], night["suspect"], night["invalid"], night["other_ends"]) == (2, 1, 0, {"oom": 1})
    assert night["begun"] == "2026-11-21T22:00:00+00:00"
    assert [(one["device"], one["lacking"]) for one in night["devices"]] == [("adb:A", 3), ("ssh:orin", 0)]
    assert [move["to"] for move in night["moves"]] == ["ssh:orin", None]
    assert (old["state"], imported["planned"]) == ("complete", None)
    out, _ = _sweeps(root, capsys, "-o", "csv", "2026112", exit_code=2)
    out, _ = _sweeps(root, capsys, "-o", "csv")
    assert [row["sweep_id"] for row in csv.DictReader(io.StringIO(out))] == [NIGHT, OLD, "imported"]


def test_a_sweep_at_work_is_running_and_is_not_gone_on_with_twice(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not is_held(root, NIGHT)
    with held(root, NIGHT):
        assert json.loads(_sweeps(root, capsys, NIGHT, "-o", "json")[0])[0]["state"] == "running"
        with pytest.raises(UsageError, match=f"another melt is at work on the sweep {NIGHT}"), held(root, NIGHT):
            pass
        assert main(["resume", NIGHT, "--store", str(root)]) == 2
        assert "another melt is at work" in capsys.readouterr().err
    assert not is_held(root, NIGHT)
    assert load(root, None).sweep_id == load(root, "last").sweep_id == NIGHT, "its lock is no sweep"
    assert main(["resume", "nowhere", "--store", str(root)]) == 2
    assert "`melt sweeps` lists them" in capsys.readouterr().err


def test_who_waited_for_a_sweep_goes_on_from_where_the_other_left_it(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = load(root, OLD)
    save(root, replace(ended, specs=(*ended.specs, _spec("moved-away", OLD, "local"))))

    @contextmanager
    def waited_for(root: Path, sweep_id: str) -> Iterator[None]:
        save(root, ended)
        with held(root, sweep_id):
            yield

    monkeypatch.setattr("melt.fleet.sweep.held", waited_for)
    assert main(["resume", OLD, "--store", str(root)]) == 0
    assert "1 of 1 run kept, nothing is left to run" in capsys.readouterr().err
    assert load(root, OLD).specs == ended.specs


@pytest.mark.parametrize("verb", ["sweeps", "runs"])
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_limit_is_one_or_more(root: Path, capsys: pytest.CaptureFixture[str], verb: str, number: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([verb, "--limit", number, "--store", str(root)])
    assert f"'{number}' is not a number of {verb}: use 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [(("nowhere",), "no sweep 'nowhere'; `melt sweeps` lists them"), (("2026",), "is the beginning of 2 sweeps")],
)
def test_what_is_not_there_gets_one_sentence(
    root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    out, err = _sweeps(root, capsys, *words, exit_code=2)
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


def test_an_empty_store_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(tmp_path / "results"):
        pass
    assert _sweeps(tmp_path / "results", capsys) == ("", "melt: no sweeps yet\n")
