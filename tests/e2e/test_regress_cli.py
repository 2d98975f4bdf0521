"""`melt regress` as a nightly job has it: a store that grows by a night, a process, its exit status and its files."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from melt_rig import Melt
from night_samples import Lab, publish, sweep_id

from melt.records import Outcome
from melt.store.store import Store

LAB = Lab(seed=4)
DROPS_AT = 24


def _fill(melt: Melt, nights: range, factor: float = 1.0, **how: object) -> None:
    with Store.open(melt.store) as store:
        publish(store, (LAB.night(index, factor, **how) for index in nights))


def _verdicts(melt: Melt, *words: str, check: int) -> dict[str, str | None]:
    found = json.loads(melt.here("regress", "-o", "json", *words, check=check).stdout)
    (series,) = found["series"]
    return {finding["metric"]: finding["change"] for finding in series["findings"]}


@pytest.mark.slow
def test_a_drop_is_told_on_its_night_until_it_is_accepted(melt: Melt, tmp_path: Path) -> None:
    _fill(melt, range(DROPS_AT))
    for index in (*range(0, DROPS_AT, 8), DROPS_AT - 1):
        found = _verdicts(melt, sweep_id(index), check=0)
        assert "regressed" not in found.values()
    _fill(melt, range(DROPS_AT, DROPS_AT + 1), 0.95)
    files = {name: tmp_path / f"night.{name}" for name in ("xml", "md", "json")}
    done = melt(
        "regress", "--junit", str(files["xml"]), "--markdown", str(files["md"]), "--json", str(files["json"]), check=1
    )
    assert "decode regressed" in done.stdout
    assert "learnt: 24 nights differ by" in done.stdout
    suite = ElementTree.parse(files["xml"]).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "| decode | tok/s |" in files["md"].read_text()
    (series,) = json.loads(files["json"].read_text())["series"]
    (change,) = series["changes"]
    assert (change["metric"], change["sweep_id"], change["open"]) == ("decode_tps", sweep_id(DROPS_AT), True)

    _fill(melt, range(DROPS_AT + 1, DROPS_AT + 4), 0.95)
    done = melt.here("regress", check=1)
    assert f"since {sweep_id(DROPS_AT)}, 3 nights ago" in done.stdout
    before = _documents(melt)
    assert "go together" in melt.here("regress", "--acknowledge", change["change_id"], check=2).stderr
    melt.here("regress", "--acknowledge", change["change_id"], "--acknowledge", "zz", "--because", "both", check=2)
    assert "accepted" not in melt.here("regress", "--list").stdout, "all of what was named, or nothing"
    melt.here("regress", "--acknowledge", change["change_id"], "--because", "slower on purpose, see #12")
    assert _documents(melt) == before, "runs never change"
    assert "regressed" not in _verdicts(melt, check=0).values()
    assert "accepted: slower on purpose" in melt.here("regress", "--list").stdout
    _fill(melt, range(DROPS_AT + 4, DROPS_AT + 5), 0.95 * 0.93)
    assert _verdicts(melt, check=1)["decode_tps"] == "regressed", (
        "the new level is what the next nights are held against"
    )
    melt.here("regress", "--withdraw", change["change_id"])
    melt.here("regress", sweep_id(DROPS_AT + 3), check=1)


@pytest.mark.slow
def test_what_was_not_measured_is_never_green(melt: Melt) -> None:
    _fill(melt, range(8))
    _fill(melt, range(8, 9), outcome=Outcome.FAILED)
    assert "no run whose figures may be believed: 6 failed" in melt.here("regress", check=1).stdout
    with Store.open(melt.store) as store:
        publish(store, [LAB.night(9, model="another")])
    assert "while the sweep of the plan 'demo' before had it" in melt.here("regress", check=1).stdout
    assert melt.here("regress", sweep_id(0)).stdout.count("no night before to hold it against") == 2


@pytest.mark.slow
def test_another_build_of_the_system_is_named_and_must_be_accepted(melt: Melt) -> None:
    _fill(melt, range(8))
    with Store.open(melt.store) as store:
        for index in (8, 9):
            night = [_with_build(bundle) for bundle in LAB.night(index)]
            publish(store, [night])
    done = melt.here("regress", "-o", "json", check=1)
    (series,) = json.loads(done.stdout)["series"]
    assert {finding["change"] for finding in series["findings"]} == {"incomparable"}
    (known,) = {finding["change_id"] for finding in series["findings"]}
    assert "OS build 'Debian 12' -> 'Debian 13'" in done.stdout
    assert "regressed" not in _verdicts(melt, "--allow-differing", "os_build", check=0).values()
    (listed,) = json.loads(melt.here("regress", "--list", "-o", "json").stdout)
    assert (listed["change_id"], listed["sweep_id"], listed["state"]) == (known, sweep_id(8), "open")
    assert f" {known} " in melt.here("regress", "--list").stdout
    done = melt.here("regress", "--acknowledge", known, "--because", "updated")
    assert f"later nights start from {sweep_id(8)}" in done.stderr, "from the first night with it, not the newest one"
    assert set(_verdicts(melt, check=0).values()) <= {"unchanged", "inconclusive"}


def test_a_wrong_command_line_is_told_in_one_sentence(melt: Melt) -> None:
    _fill(melt, range(2))
    for words, said in (
        (("--baseline", "no-such-tag"), "no run has this tag"),
        (("--baseline", "0-nights"), "no run has this tag"),
        (("--threshold", "decode_tsp=3%"), "did you mean 'decode_tps'?"),
        (("--threshold", "decode_tps"), "METRIC=SHARE"),
        (("--threshold", "temperature_max_c=3%"), "not judged"),
        (("--allow-differing", "os"), "no field 'os'"),
        (("night-9",), "has no sweep 'night-9'"),
        (("--device", "nobody"), "matches"),
        (("--acknowledge", "zz", "--because", "so"), "no open change has 'zz'"),
        (("--junit", "/nowhere/x.xml"), "cannot write /nowhere/x.xml"),
    ):
        assert said in melt.here("regress", *words, check=2).stderr, words


def test_a_tag_and_the_last_good_night_are_baselines(melt: Melt) -> None:
    _fill(melt, range(3))
    with Store.open(melt.store) as store:
        store.tag(f"{sweep_id(0)}-0", ["release"])
    assert "what is tagged 'release'" in melt.here("regress", "--baseline", "release").stdout
    found = json.loads(melt.here("regress", "--baseline", "last-good", "-o", "json").stdout)
    assert found["series"][0]["findings"][0]["against"] == [sweep_id(1)]


def _with_build(bundle):
    return replace(bundle, start=replace(bundle.start, device=replace(bundle.start.device, os_build="Debian 13")))


def _documents(melt: Melt) -> list[tuple[str, ...]]:
    with sqlite3.connect(melt.store / "runs.sqlite") as records:
        return records.execute("SELECT run_id, start_json, stop_json, content_sha256 FROM runs ORDER BY 1").fetchall()
