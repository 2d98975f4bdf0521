"""The words for workloads, as llama-bench writes them: `pp512`, `tg128`, `pp512+tg128`, `tg128 @ d512`, `… for 60s`.

Of single-shot models: `infer50`, `infer50 batch=1 seq=128`, `infer for 10s`. `parse_workload` is the inverse of
`Workload.name`. Files are read by `read_workload` alone: prompts by the word `questions.jsonl+tg64`, input tensors by
`infer50 from sample.npz`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from melt.errors import UsageError
from melt.plan.prompts import parse_prompts
from melt.plan.values import MAX_TOKENS, duration, shown, whole
from melt.records import Inputs, Workload

LoadPrompts = Callable[[str], str]
"""Gives the text of a prompt file, whose path is written as in the plan. Raises UsageError when it cannot."""

LoadInputs = Callable[[str], Inputs]
"""Finds a file of input tensors, whose path is written as in the plan. Raises UsageError when it is none."""

tokens = whole(1, MAX_TOKENS)
depth = whole(0, MAX_TOKENS)
requests = whole(1, MAX_TOKENS)
size = whole(1, 2**31 - 1)
"""Of a symbolic dimension."""

DEFAULT = (Workload(n_prompt=512), Workload(n_gen=128))
"""What is run when nothing is said: llama-bench's pp512 and tg128."""
DEFAULT_INFERENCE = Workload(kind="inference", n_infer=50)
"""The same of a single-shot model."""

_WORD = re.compile(
    r"(?:pp(?P<prompt>[0-9]+))?(?P<plus>\+)?(?:tg(?P<gen>[0-9]+))?"
    r"(?:\s+for\s+(?P<seconds>[0-9.]+\s?[a-z]*))?"
    r"(?:\s*@\s*d(?P<depth>[0-9]+))?",
    re.IGNORECASE,
)
_INFERENCE_WORD = re.compile(
    r"infer(?P<requests>[0-9]+)?(?:\s+for\s+(?P<seconds>[0-9.]+\s?[a-z]*))?(?:\s+from\s+(?P<path>.+?\.npz))?"
    r"(?P<dims>(?:\s+[^\s=]+=\S*)*)",
    re.IGNORECASE,
)
_EXAMPLES = "pp512, tg128, pp512+tg128, tg128 @ d512, pp128+tg128 for 60s, questions.jsonl+tg64 or infer50 batch=1"
_PROMPTS_WORD = re.compile(r"(?P<path>.+\.jsonl?)\+tg(?P<gen>[0-9]+)(?:\s*@\s*d(?P<depth>[0-9]+))?", re.IGNORECASE)


def parse_workload(text: str) -> Workload:
    """Read a workload's word; lengths in tokens. Raises UsageError."""
    inference = _INFERENCE_WORD.fullmatch(text.strip())
    if inference is not None:
        return _inference_of(inference, None)
    match = _WORD.fullmatch(text.strip())
    if match is None or bool(match["plus"]) != bool(match["prompt"] and match["gen"]):
        raise UsageError(f"{shown(text)} is not a workload such as {_EXAMPLES}")
    return synthetic(
        n_prompt=tokens(match["prompt"]) if match["prompt"] else 0,
        n_gen=tokens(match["gen"]) if match["gen"] else 0,
        n_depth=depth(match["depth"] or "0"),
        duration_s=duration(match["seconds"].lower()) if match["seconds"] else None,
    )


def synthetic(*, n_prompt: int = 0, n_gen: int = 0, n_depth: int = 0, duration_s: float | None = None) -> Workload:
    """Make a workload of made-up tokens; sustained when it has a duration. Raises UsageError when it does nothing."""
    if not n_prompt and not n_gen:
        raise UsageError("a workload needs a prompt to prefill or tokens to generate")
    kind = "synthetic" if duration_s is None else "sustained"
    return Workload(kind=kind, n_prompt=n_prompt, n_gen=n_gen, n_depth=n_depth, duration_s=duration_s)


def inference(
    *,
    n_infer: int = 0,
    duration_s: float | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: Inputs | None = None,
) -> Workload:
    """Make a workload of requests to a single-shot model, so many or for a time. Raises UsageError for both or none."""
    if bool(n_infer) == (duration_s is not None):
        raise UsageError("a single-shot model is asked either so many times, infer50, or for a time, infer for 10s")
    return Workload(kind="inference", n_infer=n_infer, duration_s=duration_s, dims=dict(dims or {}), inputs=inputs)


def dimensions(text: str) -> dict[str, int]:
    """Read the sizes of symbolic dimensions: `batch=1 seq=128`. Raises UsageError."""
    dims: dict[str, int] = {}
    for word in text.split():
        name, equals, number = word.rpartition("=")
        if not equals:
            raise UsageError(f"expected the size of a dimension such as batch=1, found {shown(word)}")
        if name in dims:
            raise UsageError(f"the dimension {shown(name)} is given twice")
        if number.lower().endswith(".npz"):
            raise UsageError(f"inputs are read from a file by 'infer50 from {number}', found {shown(word)}")
        dims[dimension(name)] = size(number)
    return dims


def is_dimension(text: str) -> bool:
    """Tell whether the name of a symbolic dimension can be written in a workload."""
    return text.isprintable() and re.fullmatch(r"[^\s=,]{1,200}", text) is not None


def dimension(text: str) -> str:
    """Read the name of a symbolic dimension, as a model has it: without blanks, so that it can stand in a word."""
    if not is_dimension(text):
        raise UsageError(f"expected the name of a dimension such as batch, found {shown(text)}")
    return text


def _inference_of(match: re.Match[str], load: LoadInputs | None) -> Workload:
    return inference(
        n_infer=requests(match["requests"]) if match["requests"] else 0,
        duration_s=duration(match["seconds"].lower()) if match["seconds"] else None,
        dims=dimensions(match["dims"]),
        inputs=None if match["path"] is None else _inputs(match["path"], load),
    )


def _inputs(path: str, load: LoadInputs | None) -> Inputs:
    if load is None:
        raise UsageError(f"input tensors cannot be read here: {shown(path)}")
    return load(path)


def from_prompts(path: str, n_gen: int, n_depth: int, load: LoadPrompts | None) -> Workload:
    """Make a workload of the prompts in a JSONL file. Only the file's own name is kept, not its folders."""
    if load is None:
        raise UsageError(f"prompt files cannot be read here: {shown(path)}")
    prompts = parse_prompts(load(path), path)
    name = PurePath(path).name
    return Workload(kind="prompts", n_gen=n_gen, n_depth=n_depth, prompts=prompts, prompts_name=name)


def read_workload(text: str, load: LoadPrompts | None, load_inputs: LoadInputs | None = None) -> Workload:
    """Read any workload's word, those that name a file too. Raises UsageError, PlanError for a wrong prompt file."""
    inference = _INFERENCE_WORD.fullmatch(text.strip())
    if inference is not None:
        return _inference_of(inference, load_inputs)
    match = _PROMPTS_WORD.fullmatch(text.strip())
    if match is None:
        return parse_workload(text)
    return from_prompts(match["path"], tokens(match["gen"]), depth(match["depth"] or "0"), load)


def from_fields(fields: Mapping[str, Any], load: LoadPrompts | None, load_inputs: LoadInputs | None = None) -> Workload:
    """Make a workload of the mapping form. Raises UsageError.

    Its keys are prompt, gen, depth, sustained; or prompts, gen, depth; or infer or sustained, with dims and inputs.
    """
    if not fields.keys().isdisjoint(("infer", "dims", "inputs")):
        _refuse_others(fields, "infer", ("infer", "sustained", "dims", "inputs"))
        return inference(
            n_infer=fields.get("infer", 0),
            duration_s=fields.get("sustained"),
            dims=fields.get("dims"),
            inputs=_inputs(fields["inputs"], load_inputs) if "inputs" in fields else None,
        )
    if "prompts" not in fields:
        return synthetic(
            n_prompt=fields.get("prompt", 0),
            n_gen=fields.get("gen", 0),
            n_depth=fields.get("depth", 0),
            duration_s=fields.get("sustained"),
        )
    _refuse_others(fields, "prompts", ("prompts", "gen", "depth"))
    if "gen" not in fields:
        raise UsageError("'prompts' needs 'gen', the most tokens to generate for each")
    return from_prompts(fields["prompts"], fields["gen"], fields.get("depth", 0), load)


def _refuse_others(fields: Mapping[str, Any], kind: str, known: tuple[str, ...]) -> None:
    extra = sorted(fields.keys() - set(known))
    if extra:
        raise UsageError(f"'{extra[0]}' does not go together with '{kind}'")
