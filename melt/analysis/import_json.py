"""JSON of other programs: every object of a text with the line where it begins, and numbers that are numbers. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from melt.errors import UsageError

_BIG = 1e18
"""Beyond it nothing was counted or measured."""

_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


class NotImportableError(UsageError):
    """A file cannot be imported; the message says which, where in it, and what to do."""


def objects(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Give the objects of an array, of lines, or the only one, each with its line from 1 on.

    Raises NotImportableError, its message begins with the line, for anything else and for a text that is cut short.
    """
    within = text.lstrip().startswith("[")
    at = text.index("[") + 1 if within else 0
    while (at := _skipped(text, at)) < len(text) and not (within and text[at] == "]"):
        line = text.count("\n", 0, at) + 1
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise NotImportableError(f"{error.lineno}: not JSON, or cut short: {error.msg}") from error
        except RecursionError:
            raise NotImportableError(f"{line}: not JSON that anybody wrote: it is nested too deeply") from None
        except ValueError:
            raise NotImportableError(f"{line}: not JSON that anybody wrote: a number has thousands of digits") from None
        if not isinstance(value, dict):
            raise NotImportableError(f"{line}: a JSON object was expected, here is {json.dumps(value)[:40]}")
        yield line, value
    if within and at >= len(text):
        raise NotImportableError(f"{text.count(chr(10)) + 1}: the JSON array is cut short: its end is missing")


def finite(value: object) -> float | None:
    """Return a number as it is; None for what is none, beyond all measure, or a truth value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -_BIG < value < _BIG else None


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object; an empty one for what is none: a field that is lacking has no fields."""
    return value if isinstance(value, Mapping) else {}


def text_of(value: object) -> str | None:
    """Return a text that says something, else None."""
    return (value.strip() or None) if isinstance(value, str) else None


def _skipped(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return at if found is None else found.end()
