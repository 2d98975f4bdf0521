"""Multiple-choice tasks from JSON lines, in two forms: what lm-evaluation-harness logs, and a plain one.

Logged (`lm_eval --log_samples`): `arguments` are the pairs of context and continuation that were asked, in order, as a
list or as {"gen_args_0": {"arg_0": context, "arg_1": continuation}}; `target` is the index of the right one, or its
text where that is no index. Plain: {"query": context, "choices": [text, ...], "gold": index or text}; a blank is put
between query and choice, as that harness does it (its `target_delimiter`).
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melt.errors import PlanError, UsageError

_DELIMITER = " "
_SHIPPED = Path(__file__).parent / "data" / "plain-facts.jsonl"


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `pairs` are context and continuation of each choice, `lengths` the characters of each choice.

    Blanks at a context's end stand in front of the continuation, for tokens begin with the blank before a word.
    `where` is `file:line`, `gold` the index of the right choice.
    """

    where: str
    pairs: tuple[tuple[str, str], ...]
    lengths: tuple[int, ...]
    gold: int


@dataclass(frozen=True, slots=True)
class Task:
    """A file of questions, known by what is in it."""

    name: str
    path: Path
    sha256: str
    items: tuple[Item, ...]


def shipped_task() -> Task:
    """Return the task that travels with melt: tiny, for trials; melt/quality/data/README.md says what it is."""
    return read_task(_SHIPPED)


def read_task(path: str | Path) -> Task:
    """Read a file of questions. Raises UsageError, PlanError with file:line."""
    file = Path(path).expanduser().absolute()
    try:
        data = file.read_bytes()
        lines = data.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read the task {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the task {file} is not UTF-8 text: byte {error.start}") from None
    items = tuple(_item(f"{path}:{n}", line) for n, line in enumerate(lines, 1) if line.strip())
    if not items:
        raise UsageError(f"the task {file} has no items")
    return Task(file.stem, file, hashlib.sha256(data).hexdigest(), items)


def _item(where: str, line: str) -> Item:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise PlanError(where, f"not JSON: {error}") from None
    except RecursionError:
        raise PlanError(where, "not an item: too many brackets within each other") from None
    if not isinstance(data, dict):
        raise PlanError(where, "an item is a JSON object, one a line")
    if "arguments" in data:
        return _logged(where, data)
    if "query" in data:
        return _plain(where, data)
    raise PlanError(where, "neither `arguments` (as lm-evaluation-harness logs samples) nor `query`, `choices`, `gold`")


def _plain(where: str, data: Mapping[str, Any]) -> Item:
    query, choices = data["query"], data.get("choices")
    if not isinstance(query, str):
        raise PlanError(where, f"`query` must be a text, found {reprlib.repr(query)}")
    if not isinstance(choices, list) or not all(isinstance(c, str) and c for c in choices):
        raise PlanError(where, "`choices` must be a list of texts that are not empty")
    pairs = tuple((query, _DELIMITER + choice) for choice in choices)
    return _checked(where, pairs, data.get("gold"), "gold")


def _logged(where: str, data: Mapping[str, Any]) -> Item:
    given = data["arguments"]
    asked = list(given.values()) if isinstance(given, dict) else given
    if not isinstance(asked, list):
        raise PlanError(where, "`arguments` must be a list or an object of requests")
    pairs = tuple(_pair(where, request) for request in asked)
    # Multiple-choice tasks with acc_mutual_info ask every continuation a second time, behind nothing.
    half = len(pairs) // 2
    if half and pairs[half:] == tuple(("", continuation) for _, continuation in pairs[:half]):
        pairs = pairs[:half]
    target = data.get("target")
    # All targets are logged as text, and the harness takes a number for a place before it looks at the choices.
    place = _place(target, len(pairs)) if isinstance(target, str) else None
    return _checked(where, pairs, target if place is None else place, "target")


def _pair(where: str, request: object) -> tuple[str, str]:
    words = list(request.values()) if isinstance(request, dict) else request
    if not isinstance(words, list) or len(words) != 2 or not all(isinstance(word, str) for word in words):
        raise PlanError(where, "each of `arguments` must be a context and a continuation: only tasks by log-likelihood")
    if not words[1]:
        raise PlanError(where, "a continuation of `arguments` is empty")
    return words[0], words[1]


def _checked(where: str, pairs: tuple[tuple[str, str], ...], gold: object, key: str) -> Item:
    if len(pairs) < 2:
        raise PlanError(where, f"{len(pairs)} choices: an item needs at least 2")
    try:
        "".join(map("".join, pairs)).encode()
    except UnicodeEncodeError:
        raise PlanError(where, "half of a character that UTF-16 writes in two: no text can hold it") from None
    choices = [continuation.removeprefix(_DELIMITER) for _, continuation in pairs]
    asked = tuple((bare := context.rstrip(), context[len(bare) :] + continuation) for context, continuation in pairs)
    return Item(where, asked, tuple(map(len, choices)), _gold(where, gold, key, choices))


def _place(text: str, count: int) -> int | None:
    """Read an index below `count`, None where the text is something else."""
    return next((place for place in range(count) if text == str(place)), None)


def _gold(where: str, gold: object, key: str, choices: list[str]) -> int:
    """Find the right choice: an index, an index as text (as lm-evaluation-harness logs it), or the choice itself."""
    said = reprlib.repr(gold)
    if isinstance(gold, str):
        matching = [index for index, choice in enumerate(choices) if choice.strip() == gold.strip()]
        if len(matching) == 1:
            return matching[0]
        if not matching:
            gold = _place(gold, len(choices))
    if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(choices):
        return gold
    raise PlanError(where, f"`{key}` must say which of the {len(choices)} choices is right, from 0, found {said}")
