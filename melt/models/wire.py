"""Walk over a file in protobuf's wire format, a field at a time, never loading what is not asked for.

Encoding: https://protobuf.dev/programming-guides/encoding/. Every length is checked against the message that it lies in
before it is used, so that a damaged file costs one sentence and never memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from melt.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_WINDOW_BYTES = 1 << 16
_MAX_TEXT_BYTES = 1 << 16
_MAX_VARINT_BYTES = 10


class Wire:
    """A cursor over a file. `damaged` makes the error of a problem in words."""

    def __init__(self, file: BinaryIO, damaged: Callable[[str], ModelError]) -> None:
        self._file = file
        self._damaged = damaged
        self.size_bytes = os.fstat(file.fileno()).st_size
        self._pos = 0
        self._window = b""
        self._window_at = 0

    def fields(self, end: int) -> Iterator[tuple[int, int, int]]:
        """Give number, kind and value of each field up to `end`: the number itself, or the length where kind is BYTES.

        Of a field of BYTES the caller may read the content, by the methods below; the rest is passed over.
        """
        while self._pos < end:
            key = self._varint(end)
            number, kind = key >> 3, key & 7
            if kind == BYTES:
                length = self._varint(end)
                after = self._pos + length
                if after > end:
                    raise self._damaged(f"a field of {length} bytes at byte {self._pos} reaches beyond what holds it")
                yield number, kind, length
                self._pos = after
            elif kind == VARINT:
                yield number, kind, self._varint(end)
            elif kind in (FIXED32, FIXED64):
                yield number, kind, int.from_bytes(self._take(4 if kind == FIXED32 else 8, end), "little")
            else:
                raise self._damaged(f"there is no field of kind {kind} at byte {self._pos}")

    def message(self, length: int) -> Iterator[tuple[int, int, int]]:
        """Give the fields of the message of `length` bytes that begins here."""
        return self.fields(self._pos + length)

    def text(self, length: int, what: str) -> str:
        """Read a short text that begins here."""
        if length > _MAX_TEXT_BYTES:
            raise self._damaged(f"{what} has {length} bytes")
        return self._take(length, self._pos + length).decode("utf-8", "replace")

    def integers(self, length: int, most: int, what: str) -> list[int]:
        """Read packed signed integers that begin here, at most `most` of them."""
        end = self._pos + length
        found: list[int] = []
        while self._pos < end:
            if len(found) == most:
                raise self._damaged(f"{what} has more than {most} numbers")
            found.append(signed(self._varint(end)))
        return found

    def _varint(self, end: int) -> int:
        value = shift = 0
        for _ in range(_MAX_VARINT_BYTES):
            at = self._pos - self._window_at
            if not 0 <= at < len(self._window) or self._pos >= end:
                byte = self._take(1, end)[0]
            else:
                byte = self._window[at]
                self._pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (1 << 64) - 1
            shift += 7
        raise self._damaged(f"a number before byte {self._pos} does not end")

    def _take(self, length: int, end: int) -> bytes:
        if self._pos + length > end:
            raise self._damaged(f"it ends within a field at byte {self._pos}")
        at = self._pos - self._window_at
        if at < 0 or at + length > len(self._window):
            self._file.seek(self._pos)
            self._window, self._window_at, at = self._file.read(max(length, _WINDOW_BYTES)), self._pos, 0
            if len(self._window) < length:
                raise self._damaged("it shrank while it was read")
        self._pos += length
        return self._window[at : at + length]


def signed(value: int) -> int:
    """Read a varint as the signed number of 64 bits that it stands for."""
    return value - (1 << 64) if value >> 63 else value
