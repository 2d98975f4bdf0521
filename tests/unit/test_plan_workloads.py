"""The words for workloads go both ways, and prompt files are read line by line."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.errors import PlanError, UsageError
from melt.plan.prompts import parse_prompts
from melt.plan.values import MAX_TOKENS
from melt.plan.workloads import parse_workload, read_workload
from melt.records import Workload

_TOKENS = st.integers(1, MAX_TOKENS)
_MAYBE = st.just(0) | _TOKENS


@given(
    lengths=st.tuples(_TOKENS, _MAYBE) | st.tuples(_MAYBE, _TOKENS),
    depth=_MAYBE,
    duration_ms=st.none() | st.integers(1, 30 * 86_400_000),
)
def test_parsing_is_the_inverse_of_the_name(lengths: tuple[int, int], depth: int, duration_ms: int | None) -> None:
    workload = Workload(
        kind="synthetic" if duration_ms is None else "sustained",
        n_prompt=lengths[0],
        n_gen=lengths[1],
        n_depth=depth,
        duration_s=None if duration_ms is None else duration_ms / 1000,
    )
    assert parse_workload(workload.name) == workload


@given(st.text(alphabet="pgtdfor@+0159 .smh\n", max_size=24))
def test_any_word_is_a_workload_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_workload(parse_workload(text).name) == parse_workload(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("PP512", "pp512"),
        (" pp512+TG128@d64 ", "pp512+tg128 @ d64"),
        ("tg64 for 2m", "tg64 for 120s"),
        ("tg64 for 2 min @ d8", "tg64 for 120s @ d8"),
        ("tg64 @ d0", "tg64"),
    ],
)
def test_words_may_be_written_loosely(text: str, name: str) -> None:
    assert parse_workload(text).name == name


def test_a_prompt_file_has_a_word_too_and_keeps_its_own_name_only() -> None:
    asked = []
    workload = read_workload("sets/questions.jsonl+tg64", lambda path: asked.append(path) or '{"prompt": "Why?"}')
    assert asked == ["sets/questions.jsonl"]
    assert workload == Workload(kind="prompts", n_gen=64, prompts=("Why?",), prompts_name="questions.jsonl")
    assert workload.name == "questions.jsonl+tg64"
    assert read_workload("questions.jsonl+tg64@d8", lambda _: '"Why?"').name == "questions.jsonl+tg64 @ d8"


def test_prompts_come_in_three_forms_and_may_hold_odd_line_separators() -> None:
    text = '{"prompt": "one"}\r\n\n{"text": "two", "id": 2}\n"three\u2028still three"\n'
    assert parse_prompts(text, "q.jsonl") == ("one", "two", "three\u2028still three")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "q.jsonl:1: the file has no prompts"),
        ("\n\n", "q.jsonl:1: the file has no prompts"),
        ('"a"\n{"prompt": "b"', "q.jsonl:2: not JSON"),
        ("plain words", "q.jsonl:1: not JSON"),
        ('"a"\n\n7', "q.jsonl:3: expected a prompt that is a text"),
        ('{"prompt": null}', "q.jsonl:1: expected a prompt that is a text"),
        ('"  "', "q.jsonl:1: expected a prompt that is a text"),
        ('{"question": "a"}', "q.jsonl:1: expected one of the keys 'prompt' and 'text'"),
        ('{"prompt": "a", "text": "b"}', "q.jsonl:1: expected one of the keys 'prompt' and 'text'"),
        (r'"\ud800"', "q.jsonl:1: the prompt has half of a surrogate pair"),
        ("[" * 100_000, "q.jsonl:1: not JSON"),
        ("9" * 10_000, "q.jsonl:1: not JSON"),
    ],
)
def test_a_wrong_line_is_named(text: str, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_prompts(text, "q.jsonl")
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_prompts_written_down_read_back_equal(prompts: list[str]) -> None:
    text = "\n".join(json.dumps({"prompt": prompt}, ensure_ascii=False) for prompt in prompts)
    assert parse_prompts(text, "q.jsonl") == tuple(prompts)
