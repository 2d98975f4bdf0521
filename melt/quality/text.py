"""The texts that models are scored on: the one that travels with melt, or a file of the user's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from melt.errors import UsageError

_SHIPPED = Path(__file__).parent / "data" / "evaluation.txt"
_SHIPPED_NAME = "melt-evaluation-1"


@dataclass(frozen=True, slots=True)
class Text:
    """A text, known by what is in it. `data` is all of it: its file may be a pipe, or change before it is scored."""

    name: str
    sha256: str
    data: bytes = field(repr=False)


def shipped_text() -> Text:
    """Return the text that travels with melt; melt/quality/data/README.md says what it is."""
    return _read(_SHIPPED_NAME, _SHIPPED)


def find_text(path: str | Path) -> Text:
    """Return a file of UTF-8 text as it will be scored. Raises UsageError."""
    file = Path(path).expanduser().absolute()
    return _read(file.name, file)


def _read(name: str, path: Path) -> Text:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the text {path}: {error.strerror or error}") from error
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None
    return Text(name, hashlib.sha256(data).hexdigest(), data)
