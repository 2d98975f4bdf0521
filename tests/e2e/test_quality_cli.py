"""`melt quality` as a user has it: killed and gone on with, known from before, and wrong in every way."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("needs_llama_cpp")]

ASKED = ("quality", "tiny-pydoc", "-q", "q8_0,q2_k", "--ctx", "128", "--threads", "1", "-o", "json")
FIGURES = ("perplexity", "perplexity_se", "kl_mean", "kl_p99", "top1_agreement", "nll_change_mean", "kl_change_told")


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    words = ("the", "module", "returns", "an", "iterator", "over", "files", "and", "a", "ship", "sails")
    path = tmp_path / "prose.txt"
    path.write_text(" ".join(words[n * n % 11] + "." * (n % 7 == 0) for n in range(1000)))
    return path


def journalled(store: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(path.read_bytes().count(b"\n") for path in (store / "quality").glob("*.jsonl"))
    return 0


def test_killed_in_the_middle_it_goes_on_and_finds_the_same(melt: Any, prose: Path, tmp_path: Path) -> None:
    whole = json.loads(replace(melt, store=tmp_path / "whole")(*ASKED, "--text", str(prose)).stdout)

    process = melt.start(*ASKED, "--text", str(prose))
    deadline = time.monotonic() + 100
    while journalled(melt.store) < 9:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "nothing was journalled"
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = journalled(melt.store)

    done = melt(*ASKED, "--text", str(prose))
    found = json.loads(done.stdout)
    assert [[row[name] for name in FIGURES] for row in found] == [[row[name] for name in FIGURES] for row in whole]
    assert not any(row["known"] for row in found)
    first = next(line for line in done.stderr.splitlines() if "scoring" in line)
    percent = int(first.rpartition(": ")[2].split()[0])
    assert percent >= 100 * kept // (len(found) * found[0]["n_chunks"]), "it began anew"
    assert journalled(melt.store) == 0, "what is in the store needs no journal"

    again = melt(*ASKED, "--text", str(prose))
    assert all(row["known"] for row in json.loads(again.stdout))
    assert "Q2_K on prose.txt: known from before" in again.stderr
    assert "scoring" not in again.stderr
    assert melt.here("store", "verify").returncode == 0


def test_questions_and_a_reference_of_ones_own(melt: Any, tmp_path: Path) -> None:
    task = tmp_path / "sums.jsonl"
    item = {"query": "Return the", "choices": ["list of names", "xqzw"], "gold": 0}
    task.write_text("".join(json.dumps({**item, "query": f"{item['query']} {n}"}) + "\n" for n in range(8)))
    done = melt(*ASKED[:4], "--tasks", str(task), "--reference", "none", "-o", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["quant"] for row in rows] == ["Q8_0", "Q2_K"]
    assert all(row["accuracy"] == 1.0 for row in rows)
    assert rows[1]["accuracy_change_told"] == "cannot be told apart"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-q", "q9_9"), "unknown quantization 'q9_9'"),
        (("--reference", "q9_9"), "unknown quantization 'q9_9'"),
        (("--text", "/nonexistent/text"), "cannot read the text /nonexistent/text"),
        (("--tasks", "/nonexistent/task"), "cannot read the task /nonexistent/task"),
        (("--ctx", "4"), "expected a whole number from 8 on"),
        (("--ctx", "4096"), "longer than the 1024 that"),
    ],
)
def test_what_cannot_be_is_one_sentence(melt: Any, words: tuple[str, ...], said: str) -> None:
    done = melt.here("quality", "tiny-pydoc", *words, check=2)
    assert said in done.stderr
    assert done.stdout == ""


def test_a_text_that_is_too_short(melt: Any, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a few words only")
    done = melt("quality", "tiny-pydoc", "--text", str(tmp_path / "short.txt"), check=2)
    assert "with chunks of 512 at least 1024 are needed" in done.stderr


def test_an_item_that_is_too_long_is_named_with_its_line(melt: Any, tmp_path: Path) -> None:
    task = tmp_path / "long.jsonl"
    task.write_text(json.dumps({"query": "word " * 3000, "choices": ["a", "b"], "gold": 0}))
    done = melt("quality", "tiny-pydoc", "--tasks", str(task), check=2)
    assert f"{task}:1: an item of" in done.stderr


def test_a_level_that_cannot_be_made_has_a_row_with_its_reason(melt: Any, prose: Path, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow.gguf"
    writer = gguf.GGUFWriter(str(narrow), "llama")
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((96, 96), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    asked = ("quality", str(narrow), "-q", "q1_0", "--reference", "none", "--text", str(prose))
    (row,) = json.loads(melt(*asked, "-o", "json", check=1).stdout)
    assert (row["quant"], row["perplexity"]) == ("Q1_0", None)
    assert "rows of 96 are no multiple" in row["error"]
    assert "rows of 96 are no multiple" in melt(*asked, check=1).stdout


def test_a_worker_that_dies_leaves_a_sentence(melt: Any, prose: Path) -> None:
    process = melt.start(*ASKED[:2], "--reference", "none", *ASKED[4:], "--text", str(prose))
    deadline = time.monotonic() + 100
    while journalled(melt.store) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), 9)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    (row,) = json.loads(stdout)
    assert "the evaluation was killed, most likely because memory ran out; what was done is kept" in row["error"]
    assert "Traceback" not in stderr
