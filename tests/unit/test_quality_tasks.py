"""Questions in the forms of lm-evaluation-harness, and what is said of those that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from melt.errors import PlanError, UsageError
from melt.models.catalog import DATA_DIR
from melt.quality.tasks import read_task, shipped_task
from melt.quality.text import find_text, shipped_text

LOGGED = {
    "doc_id": 0,
    "doc": {"question": "Which?", "choices": {"text": ["a cat", "dogs"], "label": ["A", "B"]}, "answerKey": "B"},
    "target": "1",
    "arguments": {
        "gen_args_0": {"arg_0": "Question: Which?\nAnswer:", "arg_1": " a cat"},
        "gen_args_1": {"arg_0": "Question: Which?\nAnswer:", "arg_1": " dogs"},
    },
    "resps": [[["-1.5", "False"]], [["-0.5", "False"]]],
    "acc": 1.0,
}
PLAIN = {"query": "The sky is", "choices": ["blue", "green"], "gold": 0}


def write(folder: Path, *items: object) -> Path:
    path = folder / "task.jsonl"
    path.write_text("".join(f"{item if isinstance(item, str) else json.dumps(item)}\n" for item in items))
    return path


def test_a_logged_sample(tmp_path: Path) -> None:
    item = read_task(write(tmp_path, LOGGED)).items[0]
    assert item.pairs == (("Question: Which?\nAnswer:", " a cat"), ("Question: Which?\nAnswer:", " dogs"))
    assert item.lengths == (5, 4), "without the blank in front, as acc_norm counts"
    assert item.gold == 1


def test_a_logged_sample_of_older_harnesses(tmp_path: Path) -> None:
    old = {**LOGGED, "arguments": [["Which?", " a cat"], ["Which?", " dogs"]], "target": " dogs"}
    assert read_task(write(tmp_path, old)).items[0].gold == 1


def test_continuations_that_are_asked_behind_nothing_too_are_no_choices(tmp_path: Path) -> None:
    mutual = {**LOGGED, "arguments": [["Which?", " a"], ["Which?", " b"], ["", " a"], ["", " b"]]}
    assert len(read_task(write(tmp_path, mutual)).items[0].pairs) == 2


def test_a_plain_item(tmp_path: Path) -> None:
    task = read_task(write(tmp_path, PLAIN, "", {**PLAIN, "gold": "green"}))
    assert task.items[0].pairs == (("The sky is", " blue"), ("The sky is", " green"))
    assert [item.gold for item in task.items] == [0, 1]
    assert task.items[1].where.endswith("task.jsonl:3")


def test_blanks_before_a_choice_are_scored_with_it(tmp_path: Path) -> None:
    item = read_task(write(tmp_path, {**LOGGED, "arguments": [["A:\n\u2003", "x"], [" ", " y"]]})).items[0]
    assert item.pairs == (("A:", "\n\u2003x"), ("", "  y"))
    assert item.lengths == (1, 1)


def test_numbers_are_choices_before_they_are_places(tmp_path: Path) -> None:
    sums = {"query": "1 + 1 =", "choices": ["1", "0", "2"], "gold": "2"}
    assert read_task(write(tmp_path, sums)).items[0].gold == 2
    assert read_task(write(tmp_path, {**sums, "gold": "0"})).items[0].gold == 1


def test_numbers_that_the_harness_logged_are_places(tmp_path: Path) -> None:
    sums = {"arguments": [["1 + 1 =", f" {choice}"] for choice in (1, 0, 2)], "target": "1"}
    assert read_task(write(tmp_path, sums)).items[0].gold == 1, "the harness logs the place 1 as a text"
    years = {**sums, "arguments": [["When?", " 1066"], ["When?", " 1815"]], "target": "1815"}
    assert read_task(write(tmp_path, years)).items[0].gold == 1, "no place: the text of a choice"


def test_a_mark_of_windows_in_front_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PLAIN).encode() + b"\r\n")
    assert read_task(path).items[0].gold == 0


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "an item is a JSON object"),
        ("[" * 100_000, "too many brackets"),
        ({**PLAIN, "query": "a \ud800"}, "half of a character"),
        ({**PLAIN, "gold": "9" * 5000}, "999...999"),
        ({**LOGGED, "target": "9" * 5000}, "999...999"),
        ({"doc": {}}, "neither `arguments`"),
        ({**PLAIN, "gold": 2}, "which of the 2 choices is right, from 0, found 2"),
        ({**PLAIN, "gold": True}, "found True"),
        ({**PLAIN, "gold": "red"}, "found 'red'"),
        ({**PLAIN, "choices": ["blue"]}, "1 choices: an item needs at least 2"),
        ({**PLAIN, "choices": ["blue", ""]}, "`choices` must be"),
        ({**PLAIN, "query": 3}, "`query` must be a text"),
        ({**LOGGED, "arguments": "x"}, "`arguments` must be"),
        ({**LOGGED, "arguments": [["x", {"until": ["\n"]}]]}, "only tasks by log-likelihood"),
        ({**LOGGED, "arguments": [["x", ""], ["x", " y"]]}, "a continuation of `arguments` is empty"),
        ({**LOGGED, "arguments": [["a", " same"], ["b", " same"]], "target": " same"}, "found ' same'"),
    ],
)
def test_what_is_no_item_is_named_with_its_line(tmp_path: Path, item: object, said: str) -> None:
    path = write(tmp_path, PLAIN, item)
    with pytest.raises(PlanError) as caught:
        read_task(path)
    assert caught.value.where == f"{path}:2"
    assert said in caught.value.problem


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the task"):
        read_task(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="has no items"):
        read_task(write(tmp_path))
    (tmp_path / "latin.txt").write_bytes(b"one\nna\xefve\n")
    with pytest.raises(UsageError, match=r"latin\.txt:2: not UTF-8 text"):
        find_text(tmp_path / "latin.txt")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_task(tmp_path / "latin.txt")


def test_what_travels_with_melt() -> None:
    task, text = shipped_task(), shipped_text()
    assert len(task.items) == 50
    assert {len(item.pairs) for item in task.items} == {4}
    assert sorted(sum(item.gold == place for item in task.items) for place in range(4)) == [12, 12, 13, 13]
    assert 100_000 < len(text.data) < 200_000
    calibration = DATA_DIR / "calibration.txt"
    if calibration.is_file():
        paragraphs = {p for p in text.data.decode().split("\n\n") if len(p) > 60}
        assert not [p for p in paragraphs if p in calibration.read_text(encoding="utf-8")], "they must not overlap"
