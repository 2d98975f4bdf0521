"""Prompt files: JSON Lines, one prompt a line."""

from __future__ import annotations

import json

from melt.errors import PlanError

_KEYS = ("prompt", "text")


def parse_prompts(text: str, filename: str) -> tuple[str, ...]:
    """Read prompts, a JSON value a line: `{"prompt": "…"}`, `{"text": "…"}` or a string. Empty lines are passed over.

    Raises PlanError at the first line that is something else, and for a file without prompts.
    """
    prompts = []
    # Not splitlines(): JSON strings may hold U+2028 and U+0085 as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            prompts.append(_parse_line(line, f"{filename}:{number}"))
    if not prompts:
        raise PlanError(f"{filename}:1", 'the file has no prompts: write one a line, {"prompt": "…"}')
    return tuple(prompts)


def _parse_line(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or too large"
        raise PlanError(where, f'not JSON ({reason}): write {{"prompt": "…"}}') from error
    if isinstance(value, dict):
        given = [value[key] for key in _KEYS if key in value]
        if len(given) != 1:
            raise PlanError(where, "expected one of the keys 'prompt' and 'text'")
        value = given[0]
    if not isinstance(value, str) or not value.strip():
        raise PlanError(where, 'expected a prompt that is a text: {"prompt": "…"} or "…"')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PlanError(where, "the prompt has half of a surrogate pair (\\ud800 …), which is no character") from error
    return value
