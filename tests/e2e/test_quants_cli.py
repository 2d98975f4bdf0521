"""`melt quants` as a user has it: here and on a phone, with limits that change what is recommended."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from melt_rig import Melt
from native_runners import BUILDS, build
from virtual.phone import VirtualPhone
from virtual.phone.testing import Adb, adb_server, playing

from melt.models.library import Library

pytestmark = [*BUILDS, pytest.mark.usefixtures("needs_llama_cpp")]

QUICK = ("-p", "32", "-n", "16", "-r", "1", "--sessions", "1", "-t", "1")
FEW = ("--ctx", "64", "--chunks", "8", "--quality-threads", "1")


@pytest.fixture
def quick(tmp_path: Path) -> tuple[str, ...]:
    """Flags for a short evaluation, on questions of the test's own."""
    item = {"query": "Return the", "choices": ["list of names", "xqzw"], "gold": 0}
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({**item, "query": f"{item['query']} {n}"}) + "\n" for n in range(6)))
    return (*QUICK, *FEW, "--tasks", str(path))


def levels_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {level["level"]: level for level in document["levels"]}


def loss_rises(document: dict[str, Any], *names: str) -> None:
    """The levels are in this order of quality, each told from the next by its interval and by the paired test."""
    levels = levels_of(document)
    losses = [levels[name]["figures"]["quality_loss"] for name in names]
    for better, worse in pairwise(losses):
        assert better["low"] <= better["value"] <= better["high"] < worse["low"] <= worse["value"]
    told = document["alike"]["quality_loss"]
    assert not any({a, b} <= set(names) for a, b in told)


def test_the_tiny_model_here(melt: Melt, quick: tuple[str, ...], tmp_path: Path) -> None:
    asked = ("quants", "tiny-pydoc", "-q", "q8_0,q4_k_m,q2_k", "--sustained", "5s", *quick)
    first = melt(*asked, "-o", "json", "--picture", str(tmp_path / "levels.svg"))
    document = json.loads(first.stdout)
    loss_rises(document, "Q8_0", "Q4_K_M", "Q2_K")
    levels = levels_of(document)
    sizes = {name: level["figures"]["file_bytes"]["value"] for name, level in levels.items()}
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert all(level["outcome"] == "ok" and level["fits"] == "yes" for level in levels.values())
    assert all(level["figures"][name]["value"] > 0 for level in levels.values() for name in ("decode_tps", "ttft_s"))
    steady = [level["figures"]["steady_tps"] for level in levels.values()]
    assert all(figure["value"] or figure["missing"] for figure in steady)
    assert levels["Q8_0"]["figures"]["energy_per_token_j"]["value"] is None or Path("/sys/class/powercap").is_dir()
    assert document["recommendation"]["level"] is None
    assert "No limit was given" in document["recommendation"]["reason"]
    assert ElementTree.parse(tmp_path / "levels.svg").getroot().tag.endswith("svg")

    # Nothing is run again: the runs and evaluations of before answer, and only the limits change.
    n_runs = len(melt.runs())
    small = f"{round(sizes['Q2_K']) + 1}"
    for limits, wanted in (
        (("--max-size", str(round(sizes["Q4_K_M"]) + 1)), "Q4_K_M"),
        (("--max-size", "1GB"), "Q8_0"),
        (("--max-size", small), "Q2_K"),
        (("--prefer", "size", "--max-quality-loss", "50%"), "Q2_K"),
        (("--min-tps", "1e9"), None),
        (("--max-energy", "0.4"), None),
    ):
        again = melt.here(*asked, *limits, "-o", "json", "--from-store")
        advice = json.loads(again.stdout)["recommendation"]
        assert advice["level"] == wanted, (limits, advice)
        assert (wanted or "No level meets") in advice["reason"]
    assert melt.here(*asked, "--min-tps", "1").stderr.count("runs are in the store; none left to run") == 1
    assert len(melt.runs()) == n_runs

    picture = tmp_path / "levels"
    melt.here(*asked, "--from-store", "--picture", f"{picture}.png")
    assert picture.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    melt.here(*asked, "--from-store", "--picture", f"{picture}.html")
    page = picture.with_suffix(".html").read_text()
    assert "Q4_K_M" in page
    assert "src=" not in page.partition("<script")[0]
    rows = list(csv.DictReader(io.StringIO(melt.here(*asked, "--from-store", "-o", "csv").stdout)))
    assert [row["level"] for row in rows] == ["Q8_0", "Q4_K_M", "Q2_K"]
    assert all(float(row["quality_loss_low"]) < float(row["quality_loss_high"]) for row in rows)

    # One level more: only that one is run.
    more = melt(*asked[:2], "-q", "q8_0,q6_k", *asked[4:], "-o", "md")
    assert "2 of 4 runs are in the store; 2 left to run" in more.stderr
    assert "| Q8_0 suspect |" in more.stdout.replace("<br>", " ") or "| Q8_0 |" in more.stdout
    assert len(melt.runs()) == n_runs + 2


def test_a_real_model_here(melt: Melt, quick: tuple[str, ...]) -> None:
    model = "smollm2-135m-instruct"
    if Library().peek(model, None) is None:
        pytest.skip(f"{model} is not on this machine: melt models pull {model}")
    del melt.env["MELT_MODELS"]
    asked = ("quants", model, "-q", "q8_0,q4_k_m,q1_0", "--sustained", "0", *quick, "-o", "json")
    document = json.loads(melt(*asked, "--max-quality-loss", "1%", timeout_s=300).stdout)
    loss_rises(document, "Q8_0", "Q4_K_M")
    assert document["recommendation"]["level"] == "Q8_0"
    assert levels_of(document)["Q4_K_M"]["n_fallbacks"] > 100, "its rows are no multiple of 256"
    assert levels_of(document)["Q1_0"]["outcome"] == "cannot be made"
    size = levels_of(document)["Q4_K_M"]["figures"]["file_bytes"]["value"]
    smaller = json.loads(melt.here(*asked, "--from-store", "--max-size", f"{size:.0f}").stdout)
    assert smaller["recommendation"]["level"] == "Q4_K_M"
    assert smaller["recommendation"]["reason"].count("Q8_0 misses --max-size") == 1


@pytest.fixture
def phone(melt: Melt) -> Iterator[VirtualPhone]:
    build("android-arm64")
    with adb_server("system") as server, playing() as phone:
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        Adb(server, phone)
        yield phone


def test_on_a_phone(melt: Melt, quick: tuple[str, ...], phone: VirtualPhone, tmp_path: Path) -> None:
    asked = ("quants", "tiny-pydoc", "-q", "q8_0,q2_k", "--device", phone.address, "--sustained", "4s", *quick)
    done = melt(*asked, "-o", "json", "--picture", str(tmp_path / "phone.html"), timeout_s=300)
    document = json.loads(done.stdout)
    assert document["device"]["name"] == "Google Pixel 8"
    loss_rises(document, "Q8_0", "Q2_K")
    for level in levels_of(document).values():
        assert level["outcome"] == "ok", level
        assert level["evaluated_on"] != "Google Pixel 8"
        assert level["figures"]["temperature_rise_c"]["value"] is not None
    assert (tmp_path / "phone.html").is_file()
    table = melt.here(*asked, "--from-store", "--max-quality-loss", "0.5%").stdout
    assert "Q8_0: the only level that meets your limit" in table
