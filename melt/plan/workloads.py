"""The words for workloads, as llama-bench writes them: `pp512`, `tg128`, `pp512+tg128`, `tg128 @ d512`, `… for 60s`.

`parse_workload` is the inverse of `Workload.name`. A file of prompts has the word `questions.jsonl+tg64`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from melt.errors import UsageError
from melt.plan.prompts import parse_prompts
from melt.plan.values import MAX_TOKENS, duration, shown, whole
from melt.records import Workload

LoadPrompts = Callable[[str], str]
"""Gives the text of a prompt file, whose path is written as in the plan. Raises UsageError when it cannot."""

tokens = whole(1, MAX_TOKENS)
depth = whole(0, MAX_TOKENS)

_WORD = re.compile(
    r"(?:pp(?P<prompt>[0-9]+))?(?P<plus>\+)?(?:tg(?P<gen>[0-9]+))?"
    r"(?:\s+for\s+(?P<seconds>[0-9.]+\s?[a-z]*))?"
    r"(?:\s*@\s*d(?P<depth>[0-9]+))?",
    re.IGNORECASE,
)
_EXAMPLES = "pp512, tg128, pp512+tg128, tg128 @ d512, pp128+tg128 for 60s or questions.jsonl+tg64"
_PROMPTS_WORD = re.compile(r"(?P<path>.+\.jsonl?)\+tg(?P<gen>[0-9]+)(?:\s*@\s*d(?P<depth>[0-9]+))?", re.IGNORECASE)


def parse_workload(text: str) -> Workload:
    """Read a workload's word; lengths in tokens. Raises UsageError."""
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


def from_prompts(path: str, n_gen: int, n_depth: int, load: LoadPrompts | None) -> Workload:
    """Make a workload of the prompts in a JSONL file. Only the file's own name is kept, not its folders."""
    if load is None:
        raise UsageError(f"prompt files cannot be read here: {shown(path)}")
    prompts = parse_prompts(load(path), path)
    name = PurePath(path).name
    return Workload(kind="prompts", n_gen=n_gen, n_depth=n_depth, prompts=prompts, prompts_name=name)


def read_workload(text: str, load: LoadPrompts | None) -> Workload:
    """Read any workload's word, that of a prompt file too. Raises UsageError, PlanError for a wrong prompt file."""
    match = _PROMPTS_WORD.fullmatch(text.strip())
    if match is None:
        return parse_workload(text)
    return from_prompts(match["path"], tokens(match["gen"]), depth(match["depth"] or "0"), load)


def from_fields(fields: Mapping[str, Any], load: LoadPrompts | None) -> Workload:
    """Make a workload of the mapping form: prompt, gen, depth, sustained; or prompts, gen, depth. Raises UsageError."""
    if "prompts" not in fields:
        return synthetic(
            n_prompt=fields.get("prompt", 0),
            n_gen=fields.get("gen", 0),
            n_depth=fields.get("depth", 0),
            duration_s=fields.get("sustained"),
        )
    extra = sorted(fields.keys() - {"prompts", "gen", "depth"})
    if extra:
        raise UsageError(f"'{extra[0]}' does not go together with 'prompts'")
    if "gen" not in fields:
        raise UsageError("'prompts' needs 'gen', the most tokens to generate for each")
    return from_prompts(fields["prompts"], fields["gen"], fields.get("depth", 0), load)
