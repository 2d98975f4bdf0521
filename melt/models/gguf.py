"""Read what a GGUF file says of itself: metadata and tensor table, without touching the weights.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every length and offset is checked against the file
before it is used, so that a damaged file costs one sentence and never memory. Stricter than the specification where
llama.cpp is: nested arrays, repeated names and more than four dimensions are refused.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO

from melt.errors import ModelError
from melt.models.ggml import TENSOR_TYPES, TensorType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_COUNT = 1 << 31
"""No model has more layers, heads, tokens or dimensions than this."""

_MAX_HEADER_BYTES = 256 * 1024 * 1024
_MAX_KEPT_ELEMENTS = 4096
_MAX_DIMS = 4
_MAX_NAME_BYTES = 63
_CHUNK_BYTES = 1 << 20
_LEAST_KEY_BYTES = 8 + 1 + 4 + 1
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class LongArray:
    """An array that was passed over: only its length is known. Vocabularies are hundreds of thousands of strings."""

    count: int


Value = Scalar | tuple[Scalar, ...] | LongArray


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the tensor table. `dims[0]` is the length of a row; `offset` counts from the start of the file."""

    name: str
    dims: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return prod(self.dims)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file, without the padding after it."""
        return self.n_weights // self.type.block * self.type.block_bytes


@dataclass(frozen=True, slots=True)
class Header:
    """Everything in front of the weights."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    alignment: int = 32
    data_offset: int = field(default=0)

    def text(self, key: str) -> str | None:
        """Return a string value, None when it is absent or something else."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def count(self, key: str) -> int | None:
        """Return a whole number, None when it is absent, something else, negative or beyond all models."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else None


def read_header(path: Path, *, keep_arrays: bool = False) -> Header:
    """Read the header of a GGUF file, version 2 or 3, little endian. Raises ModelError.

    Arrays of more than 4096 elements become `LongArray` unless `keep_arrays`.
    """
    try:
        # A pipe would block on open, a device never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path} is not a file: a model is one GGUF file")
        with path.open("rb") as file:
            return _Reader(path, file, keep_arrays).header()
    except FileNotFoundError:
        raise ModelError(f"there is no model file {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror or error}") from error


class _Reader:
    """Walks over the header, reading the file in growing pieces and never beyond its end."""

    def __init__(self, path: Path, file: BinaryIO, keep_arrays: bool) -> None:
        self._path = path
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._data = bytearray()
        self._pos = 0
        self._longest = _MAX_HEADER_BYTES if keep_arrays else _MAX_KEPT_ELEMENTS

    def header(self) -> Header:
        version = self._version()
        n_tensors, n_keys = self._u64("the header"), self._u64("the header")
        self._check_count(n_keys, _LEAST_KEY_BYTES, "metadata keys")
        self._check_count(n_tensors, _LEAST_TENSOR_BYTES, "tensors")
        metadata: dict[str, Value] = {}
        for index in range(n_keys):
            key = self._string(f"metadata key {index + 1} of {n_keys}")
            if not key or key in metadata:
                raise self._damaged(f"metadata key {index + 1} is {'repeated: ' + _shown(key) if key else 'empty'}")
            metadata[key] = self._value(key)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 20:
            raise self._damaged(f"general.alignment is {alignment!r}, not a power of two")
        table = [self._tensor(index, n_tensors) for index in range(n_tensors)]
        data_offset = (self._pos + alignment - 1) // alignment * alignment
        return Header(version, metadata, self._placed(table, data_offset, alignment), alignment, data_offset)

    def _version(self) -> int:
        magic = self._take(4, "the header") if self._size >= 4 else self._take(self._size, "the header")
        if magic != MAGIC:
            raise ModelError(f"{self._path} is not a GGUF file: {self._what_it_is(magic)}")
        version = self._u32("the header")
        if version in VERSIONS:
            return version
        if version & 0xFFFF == 0:
            raise ModelError(f"{self._path} is a big-endian GGUF file: melt reads little-endian ones, convert it")
        raise ModelError(f"{self._path} is GGUF version {version}: melt reads versions 2 and 3, convert it")

    def _what_it_is(self, magic: bytes) -> str:
        if self._size == 0:
            return "it is empty"
        if magic == b"vers":
            return "it is a Git LFS pointer, fetch the file itself (git lfs pull)"
        if magic in (b"lmgg", b"fmgg", b"tjgg", b"algg"):
            return "it is in a ggml format older than GGUF, convert it"
        return f"it begins with {bytes(magic)!r} and not with {MAGIC!r}"

    def _value(self, key: str) -> Value:
        what = f"the value of {_shown(key)}"
        kind = self._u32(what)
        if kind != _ARRAY:
            return self._scalar(kind, what)
        kind, count = self._u32(what), self._u64(what)
        if kind == _ARRAY:
            raise self._damaged(f"{what} is an array of arrays, which no engine reads")
        if kind == _STRING:
            return self._strings(count, what)
        code = self._code(kind, what)
        width = struct.calcsize("<" + code)
        self._check_count(count, width, f"elements in {what}")
        raw = self._take(count * width, what)
        return LongArray(count) if count > self._longest else struct.unpack(f"<{count}{code}", raw)

    def _scalar(self, kind: int, what: str) -> Scalar:
        if kind == _STRING:
            return self._string(what)
        code = "<" + self._code(kind, what)
        value: Scalar = struct.unpack(code, self._take(struct.calcsize(code), what))[0]
        return value

    def _code(self, kind: int, what: str) -> str:
        if kind not in _SCALARS:
            raise self._damaged(f"{what} has the unknown type {kind}")
        return _SCALARS[kind]

    def _strings(self, count: int, what: str) -> Value:
        self._check_count(count, 8, f"strings in {what}")
        if count <= self._longest:
            return tuple(self._string(what) for _ in range(count))
        # A tight loop over local names: a vocabulary is passed over in milliseconds.
        data, pos, loaded, length_at = self._data, self._pos, len(self._data), _U64.unpack_from
        for _ in range(count):
            if pos + 8 > loaded:
                self._load(pos + 8, what)
                loaded = len(data)
            pos += 8 + length_at(data, pos)[0]
        self._load(pos, what)
        self._pos = pos
        return LongArray(count)

    def _tensor(self, index: int, n_tensors: int) -> Tensor:
        what = f"tensor {index + 1} of {n_tensors}"
        name = self._string(what, _MAX_NAME_BYTES)
        what = f"tensor {_shown(name)}"
        n_dims = self._u32(what)
        if n_dims > _MAX_DIMS:
            raise self._damaged(f"{what} has {n_dims} dimensions, more than {_MAX_DIMS}")
        dims = tuple(self._u64(what) for _ in range(n_dims)) or (1,)
        number = self._u32(what)
        if number not in TENSOR_TYPES:
            raise self._damaged(f"{what} is of the unknown type {number}; it may need a newer melt")
        tensor = Tensor(name, dims, TENSOR_TYPES[number], self._u64(what))
        if 0 in dims or dims[0] % tensor.type.block or tensor.size_bytes > self._size:
            shape = "x".join(map(str, dims))
            raise self._damaged(f"{what} of shape {shape} cannot be {tensor.type.name} in {self._size} bytes")
        return tensor

    def _placed(self, table: list[Tensor], data_offset: int, alignment: int) -> tuple[Tensor, ...]:
        """Turn offsets within the data into offsets within the file; refuse overlaps and what lies outside."""
        names = {tensor.name for tensor in table}
        if len(names) < len(table):
            raise self._damaged("a tensor name is repeated")
        end, before = 0, ""
        for tensor in sorted(table, key=lambda t: t.offset):
            if tensor.offset % alignment:
                raise self._damaged(f"tensor {_shown(tensor.name)} is not aligned to {alignment} bytes")
            if tensor.offset < end:
                raise self._damaged(f"tensors {_shown(before)} and {_shown(tensor.name)} overlap")
            end, before = tensor.offset + tensor.size_bytes, tensor.name
        if data_offset + end > self._size and table:
            raise ModelError(
                f"{self._path} is truncated: it has {self._size} bytes, its weights reach to {data_offset + end}; "
                "fetch it again"
            )
        return tuple(Tensor(t.name, t.dims, t.type, t.offset + data_offset) for t in table)

    def _u32(self, what: str) -> int:
        return int(_U32.unpack(self._take(4, what))[0])

    def _u64(self, what: str) -> int:
        return int(_U64.unpack(self._take(8, what))[0])

    def _string(self, what: str, longest: int = _MAX_HEADER_BYTES) -> str:
        length = self._u64(what)
        if length > longest:
            raise self._damaged(f"{what} has a text of {length} bytes")
        return self._take(length, what).decode("utf-8", "replace")

    def _check_count(self, count: int, least_bytes: int, what: str) -> None:
        if count * least_bytes > self._size - self._pos:
            raise self._damaged(f"it claims {count} {what}, more than its {self._size} bytes can hold; fetch it again")

    def _take(self, length: int, what: str) -> bytes:
        end = self._pos + length
        if end > len(self._data):
            self._load(end, what)
        taken = bytes(memoryview(self._data)[self._pos : end])
        self._pos = end
        return taken

    def _load(self, end: int, what: str) -> None:
        """Have the first `end` bytes of the file in memory."""
        if end > self._size:
            raise ModelError(f"{self._path} is truncated: its {self._size} bytes end within {what}; fetch it again")
        if end > _MAX_HEADER_BYTES:
            raise self._damaged(f"its header is longer than {_MAX_HEADER_BYTES} bytes at {what}")
        if end > len(self._data):
            self._data += self._file.read(max(end - len(self._data), _CHUNK_BYTES, len(self._data)))
        if end > len(self._data):
            raise ModelError(f"{self._path} shrank while it was read: is it still being written?")

    def _damaged(self, problem: str) -> ModelError:
        return ModelError(f"{self._path} is not a sound GGUF file: {problem}")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 64 else name[:61] + "...")
