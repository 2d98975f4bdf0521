"""The agent's journal: CRC-framed records, read whole or as they arrive. The format is in agents/PROTOCOL.md.

A reader stops for good at the first frame that does not hold; every record before it is whole and right.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple
from zlib import crc32

from melt.errors import JournalError

MAGIC = b"MELTJRN1"
HEADER_BYTES = 16
MAX_PAYLOAD_BYTES = 4 << 20

_UNREADABLE = 0xFFFF
_SAME = 0xFFFE
_FRAME = struct.Struct("<II")
_SEQUENCE = struct.Struct("<I")
_TICK = struct.Struct("<BHQIH")
_LINE = struct.Struct("<BHQB")
_U16 = struct.Struct("<H")
_NO_ERRNOS: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Meta:
    """The journal's first record: run, agent, clocks, machine."""

    data: dict[str, object]


class Tick(NamedTuple):
    """One reading of a group's files, in the order of the job's `file` lines.

    `t_ns` is before the first read, on the device's monotonic clock. `contents` has the raw bytes per file, None where
    a file could not be read; `errnos` then says why, by index. A content that did not change is the same object.
    """

    gid: int
    t_ns: int
    duration_ns: int
    contents: tuple[bytes | None, ...]
    errnos: Mapping[int, int] = _NO_ERRNOS


class Line(NamedTuple):
    """A line of a program: `source` 0 is the runner's stdout, 1 its stderr, from 2 a stream or a poll.

    Of a poll it is all that one run printed, newlines kept, and `t_ns` is when that run was started.
    `cut`: the line goes on in the next record of the same source; of a poll the rest was dropped.
    """

    source: int
    t_ns: int
    cut: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `data` has the further fields."""

    name: str
    t_ns: int
    data: dict[str, object]


Record = Meta | Tick | Line | Event


class _BadRecordError(Exception):
    """A frame holds, its content does not: the journal ends before it."""


class JournalReader:
    """Decode a journal in pieces of any size, as when it is tailed.

    `stopped` is final: a frame did not hold. `torn` is true while bytes lie behind the last whole frame; while tailing
    that can be a frame on its way.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.valid_bytes = 0
        self._pending = bytearray()
        self._needed = HEADER_BYTES
        self._nonce_crc: int | None = None
        self._sequence = 0
        self._last: dict[int, list[bytes | None]] = {}

    @property
    def torn(self) -> bool:
        """Whether bytes lie behind the last whole frame."""
        return self.stopped or bool(self._pending)

    def feed(self, data: bytes) -> list[Record]:
        """Take the next bytes and return the records they complete. Raises JournalError when it is no journal."""
        if self.stopped:
            return []
        self._pending += data
        if len(self._pending) < self._needed:
            return []
        buffer = bytes(self._pending)
        start = 0
        if self._nonce_crc is None:
            if not buffer.startswith(MAGIC):
                raise JournalError(f"not a journal: it begins with {buffer[:8]!r} instead of {MAGIC!r}")
            self._nonce_crc = crc32(buffer[len(MAGIC) : HEADER_BYTES])
            start = HEADER_BYTES
        records, end = self._frames(buffer, start, self._nonce_crc)
        self.valid_bytes += end
        del self._pending[:end]
        return records

    def _frames(self, buffer: bytes, position: int, nonce_crc: int) -> tuple[list[Record], int]:
        records: list[Record] = []
        size = len(buffer)
        self._needed = _FRAME.size
        while size - position >= _FRAME.size:
            length, crc = _FRAME.unpack_from(buffer, position)
            if not 1 <= length <= MAX_PAYLOAD_BYTES:
                self.stopped = True
                break
            end = position + _FRAME.size + length
            if end > size:
                self._needed = end - position
                break
            payload = buffer[position + _FRAME.size : end]
            if crc32(payload, crc32(_SEQUENCE.pack(self._sequence), nonce_crc)) != crc:
                self.stopped = True
                break
            try:
                record = self._decode(payload)
            except _BadRecordError:
                self.stopped = True
                break
            if record is not None:
                records.append(record)
            self._sequence += 1
            position = end
        return records, position

    def _decode(self, payload: bytes) -> Record | None:
        kind = payload[0]
        try:
            if kind == 0x54:
                return self._tick(payload)
            if kind == 0x4C:
                _, source, t_ns, flags = _LINE.unpack_from(payload)
                return Line(source, t_ns, bool(flags & 1), payload[_LINE.size :])
            if kind == 0x45:
                data = _json_object(payload)
                name, t_ns = data.pop("event"), data.pop("t_ns")
                if not isinstance(name, str) or not isinstance(t_ns, int):
                    raise _BadRecordError
                return Event(name, t_ns, data)
            return Meta(_json_object(payload)) if kind == 0x4D else None
        except (struct.error, ValueError, KeyError, IndexError) as error:
            raise _BadRecordError from error

    def _tick(self, payload: bytes) -> Tick:
        _, gid, t_ns, duration_ns, count = _TICK.unpack_from(payload)
        last = self._last.get(gid)
        if last is None or len(last) != count:
            last = self._last[gid] = [None] * count
        errnos: dict[int, int] = {}
        position = _TICK.size
        for index in range(count):
            length = payload[position] | payload[position + 1] << 8
            position += 2
            if length == _SAME:
                if last[index] is None:
                    raise _BadRecordError
            elif length == _UNREADABLE:
                errnos[index] = _U16.unpack_from(payload, position)[0]
                position += 2
            else:
                last[index] = payload[position : position + length]
                position += length
        if position != len(payload):
            raise _BadRecordError
        if not errnos:
            return Tick(gid, t_ns, duration_ns, tuple(last))
        contents = tuple(None if index in errnos else content for index, content in enumerate(last))
        return Tick(gid, t_ns, duration_ns, contents, errnos)


@dataclass(slots=True)
class Journal:
    """A journal that was read to its end. `records` holds everything in order, `meta` included."""

    meta: Meta | None = None
    records: list[Record] = field(default_factory=list)
    valid_bytes: int = 0
    torn: bool = False


def read_journal(source: str | os.PathLike[str] | bytes) -> Journal:
    """Read a journal file, or its bytes. Raises JournalError only when its 16-byte header is not there."""
    name = "these bytes" if isinstance(source, bytes) else os.fspath(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise JournalError(f"{name}: cannot be read as a journal: {error.strerror}") from error
    if len(data) < HEADER_BYTES:
        raise JournalError(f"{name}: not a journal: {len(data)} bytes, its header alone has {HEADER_BYTES}")
    reader = JournalReader()
    try:
        records = reader.feed(data)
    except JournalError as error:
        raise JournalError(f"{name}: {error}") from error
    meta = records[0] if records and isinstance(records[0], Meta) else None
    return Journal(meta, records, reader.valid_bytes, reader.torn)


class JournalWriter:
    """Write the same format: for tests, goldens and recorded runs. Equal contents are written as "same as before"."""

    def __init__(self, file: BinaryIO, nonce: bytes | None = None) -> None:
        nonce = os.urandom(8) if nonce is None else nonce
        self._file = file
        self._nonce_crc = crc32(nonce)
        self._sequence = 0
        self._last: dict[tuple[int, int], bytes] = {}
        file.write(MAGIC + nonce)

    def frame(self, payload: bytes) -> None:
        """Write one payload as it is."""
        crc = crc32(payload, crc32(_SEQUENCE.pack(self._sequence), self._nonce_crc))
        self._file.write(_FRAME.pack(len(payload), crc) + payload)
        self._sequence += 1

    def meta(self, data: Mapping[str, object]) -> None:
        """Write the first record."""
        self.frame(b"M" + json.dumps(data, separators=(",", ":")).encode())

    def tick(self, gid: int, t_ns: int, duration_ns: int, contents: Sequence[bytes | int]) -> None:
        """Write one tick; an int among `contents` is the errno of a file that could not be read."""
        parts = [_TICK.pack(0x54, gid, t_ns, duration_ns, len(contents))]
        for index, content in enumerate(contents):
            if isinstance(content, int):
                parts.append(_U16.pack(_UNREADABLE) + _U16.pack(content))
            elif self._last.get((gid, index)) == content:
                parts.append(_U16.pack(_SAME))
            else:
                self._last[gid, index] = content
                parts.append(_U16.pack(len(content)) + content)
        self.frame(b"".join(parts))

    def line(self, source: int, t_ns: int, data: bytes, *, cut: bool = False) -> None:
        """Write one line of a program."""
        self.frame(_LINE.pack(0x4C, source, t_ns, int(cut)) + data)

    def event(self, name: str, t_ns: int, **data: object) -> None:
        """Write one event."""
        self.frame(b"E" + json.dumps({"event": name, "t_ns": t_ns, **data}, separators=(",", ":")).encode())


def _json_object(payload: bytes) -> dict[str, object]:
    data = json.loads(payload[1:])
    if not isinstance(data, dict):
        raise _BadRecordError
    return data
