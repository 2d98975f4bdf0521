"""Protocol Buffers on the wire: as much of the encoding as a trace needs, one value or a million rows at a time.

Written out rather than left to the protobuf library, which takes 4 µs for each message: a trace has millions of equal
ones. https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_VARINT, _FIXED64, _LENGTH = 0, 1, 2


def varint(value: int) -> bytes:
    """Encode a whole number; a negative one takes ten bytes, as int32 and int64 have it."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """Encode a field of a whole number, a truth value or an enum."""
    return varint(field << 3 | _VARINT) + varint(value)


def double(field: int, value: float) -> bytes:
    """Encode a field of type double."""
    return varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def message(field: int, *parts: bytes) -> bytes:
    """Encode a field that holds a message with these fields."""
    data = b"".join(parts)
    return varint(field << 3 | _LENGTH) + varint(len(data)) + data


def text(field: int, value: str) -> bytes:
    """Encode a field of type string. What no UTF-8 can say, as half of a surrogate pair, becomes a question mark."""
    return message(field, value.encode(errors="replace"))


def varint_columns(values: NDArray[np.int64], width: int) -> Bytes:
    """Encode numbers from 0 up to 2 ** (7 * width), (n,) int64, in `width` bytes each: (n, width) uint8.

    A varint may be longer than it need be. So every row has the same length, and rows of a table are made at once.
    """
    shifts = np.arange(width, dtype=np.int64) * 7
    out = (values[:, None] >> shifts & 0x7F).astype(np.uint8)
    out[:, :-1] |= 0x80
    return out
