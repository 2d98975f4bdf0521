"""What the file that names a meter says of it: options out of YAML, each checked, complaints with their place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from melt.errors import UsageError


class Options:
    """The keys below `meter:` that belong to one kind of meter. Each complaint is a UsageError with file and place."""

    def __init__(self, where: str, given: Mapping[str, object], known: Sequence[str]) -> None:
        self._where, self._given = where, given
        for key in given:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
                raise UsageError(f"{where}: unknown key {key!r}: {hint}")

    def wrong(self, problem: str) -> UsageError:
        """Return the complaint on what was given."""
        return UsageError(f"{self._where}: {problem}")

    def has(self, key: str) -> bool:
        """Whether the key was given."""
        return self._given.get(key) is not None

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text, or a number as it is written."""
        value = self._given.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value:
            raise self.wrong(f"{key}: expected text, found {value!r}" if self.has(key) else f"{key} is missing")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number above 0."""
        value = self._given.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            missing = f"{key} is missing: it is a number above 0"
            raise self.wrong(f"{key}: expected a number above 0, found {value!r}" if self.has(key) else missing)
        return float(value)

    def share(self, key: str) -> float | None:
        """Return a share between 0 and 1, None where none was given."""
        if not self.has(key):
            return None
        value = self.number(key)
        if value >= 1:
            raise self.wrong(f"{key}: expected a share below 1, such as 0.01 for 1 %, found {value:g}")
        return value

    def flag(self, key: str) -> bool:
        """Return yes or no; no where it was not given."""
        value = self._given.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(f"{key}: expected yes or no, found {value!r}")
        return value

    def words(self, key: str) -> tuple[str, ...]:
        """Return a list of texts with at least one."""
        value = self._given.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(word, str | int | float) for word in value):
            raise self.wrong(f"{key}: expected a list of words" if self.has(key) else f"{key} is missing")
        return tuple(str(word) for word in value)
