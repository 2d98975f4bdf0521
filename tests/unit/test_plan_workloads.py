"""The words for workloads go both ways, and prompt files are read line by line."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.errors import PlanError, UsageError
from melt.plan.prompts import parse_prompts
from melt.plan.values import MAX_TOKENS
from melt.plan.workloads import parse_workload, read_workload
from melt.records import Inputs, Workload

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


@given(
    asked=st.fixed_dictionaries({"n_infer": _TOKENS})
    | st.fixed_dictionaries({"duration_s": st.integers(1, 30 * 86_400_000).map(lambda ms: ms / 1000)}),
    dims=st.dictionaries(st.from_regex(r"[a-z_.+0-9=]{1,9}", fullmatch=True).filter(lambda d: "=" not in d), _TOKENS),
    file=st.sampled_from([None, "one.npz", "a b from c.npz", "batch=1.npz"]),
)
def test_the_name_of_a_single_shot_workload_reads_back(asked: Any, dims: dict[str, int], file: str | None) -> None:
    inputs = None if file is None else tensors(file)
    workload = Workload(kind="inference", dims=dims, inputs=inputs, **asked)
    read = read_workload(workload.name, None, tensors)
    assert read == workload
    assert list(read.dims) == list(dims)
    assert hash(read) == hash(workload)


def tensors(path: str) -> Inputs:
    return Inputs(name=path, sha256="a" * 64, size_bytes=3, path=path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("infer", "a single-shot model is asked either so many times, infer50, or for a time, infer for 10s"),
        ("infer5 for 10s", "a single-shot model is asked either so many times, infer50, or for a time, infer for 10s"),
        ("infer0", "expected a whole number from 1"),
        ("infer5 batch", "'infer5 batch' is not a workload such as pp512"),
        ("infer5 batch=", "expected a whole number, found ''"),
        ("infer5 batch=0", "expected a whole number from 1 to 2147483647, found '0'"),
        ("infer5 =3", "'infer5 =3' is not a workload such as"),
        ("infer5 batch=1 batch=2", "the dimension 'batch' is given twice"),
        ("infer5 from x.npz", "input tensors cannot be read here: 'x.npz'"),
        ("infer5 from x.npy", "'infer5 from x.npy' is not a workload such as"),
    ],
)
def test_a_wrong_single_shot_workload_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_workload(text, None)
    assert str(caught.value).startswith(sentence)


@given(st.text(alphabet="pgtdfornie@+=0159 .smhxz\n", max_size=24))
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
