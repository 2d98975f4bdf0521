"""The GGUF reader: right on sound files, one sentence on every damaged one."""

from __future__ import annotations

import ctypes
import importlib
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import gguf
import pytest

from melt.errors import ModelError
from melt.models.catalog import DATA_DIR
from melt.models.ggml import LEVELS, TENSOR_TYPES
from melt.models.gguf import LongArray, read_header

TINY = DATA_DIR / "tiny-pydoc-f16.gguf"

F32, Q4_0 = 0, 2
U32, STRING, ARRAY = 4, 8, 9


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def u32_key(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", U32, value)


def tensor(name: str = "t", dims: tuple[int, ...] = (32,), kind: int = F32, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def build(
    keys: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (tensor(),),
    data_bytes: int = 128,
    *,
    version: int = 3,
    n_keys: int | None = None,
    n_tensors: int | None = None,
) -> bytes:
    n_keys = len(keys) if n_keys is None else n_keys
    n_tensors = len(tensors) if n_tensors is None else n_tensors
    header = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + bytes(data_bytes)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return write


def test_agrees_with_the_reference_reader_on_the_embedded_model() -> None:
    assert_agrees_with_reference(TINY)


def assert_agrees_with_reference(path: Path) -> None:
    header, reference = read_header(path, keep_arrays=True), gguf.GGUFReader(path)
    expected = {key: f.contents() for key, f in reference.fields.items() if not key.startswith("GGUF.")}
    found = {key: list(v) if isinstance(v, tuple) else v for key, v in header.metadata.items()}
    assert found == expected
    assert [(t.name, list(t.dims), t.type.name, t.offset, t.size_bytes) for t in header.tensors] == [
        (t.name, t.shape.tolist(), t.tensor_type.name, t.data_offset, t.n_bytes) for t in reference.tensors
    ]
    assert header.data_offset == reference.data_offset


def test_block_sizes_are_those_of_ggml(llama_cpp: ModuleType) -> None:
    ggml = importlib.import_module("._ggml", llama_cpp.__name__).libggml
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_size.restype = ctypes.c_size_t
    ggml.ggml_type_name.restype = ctypes.c_char_p
    for number, ours in TENSOR_TYPES.items():
        name = ggml.ggml_type_name(number).decode().upper()
        assert (ours.name, ours.block, ours.block_bytes) == (
            name,
            ggml.ggml_blck_size(number),
            ggml.ggml_type_size(number),
        )


def test_levels_are_those_of_llama_cpp(llama_cpp: ModuleType) -> None:
    theirs = {
        name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_"): value
        for name, value in vars(llama_cpp).items()
        if name.startswith("LLAMA_FTYPE_")
    }
    # A guessed type is none; NVFP4 cannot be made by llama_model_quantize.
    assert {level.name: level.ftype for level in LEVELS.values()} == {
        name: value for name, value in theirs.items() if name not in ("GUESSED", "NVFP4")
    }


def test_every_type_of_metadata_is_read(tmp_path: Path) -> None:
    path = tmp_path / "all.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.u8", 255)
    writer.add_int8("a.i8", -128)
    writer.add_uint16("a.u16", 65535)
    writer.add_int16("a.i16", -32768)
    writer.add_int32("a.i32", -(2**31))
    writer.add_float32("a.f32", 0.5)
    writer.add_bool("a.yes", True)
    writer.add_uint64("a.u64", 2**64 - 1)
    writer.add_int64("a.i64", -(2**63))
    writer.add_float64("a.f64", 0.1)
    writer.add_string("a.text", "Zwölf\n")
    writer.add_array("a.list", [1, 2, 3])
    writer.add_array("a.names", ["x", "", "yz"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = read_header(path).metadata
    assert found == {
        "general.architecture": "llama",
        "a.u8": 255,
        "a.i8": -128,
        "a.u16": 65535,
        "a.i16": -32768,
        "a.i32": -(2**31),
        "a.f32": 0.5,
        "a.yes": True,
        "a.u64": 2**64 - 1,
        "a.i64": -(2**63),
        "a.f64": 0.1,
        "a.text": "Zwölf\n",
        "a.list": (1, 2, 3),
        "a.names": ("x", "", "yz"),
    }


def test_version_2_and_an_alignment_of_its_own_are_read(write: Callable[[bytes], Path]) -> None:
    assert read_header(write(build(version=2))).version == 2
    content = build((u32_key("general.alignment", 64),), data_bytes=256)
    header = read_header(write(content))
    assert header.alignment == 64
    assert header.data_offset % 64 == 0


def test_a_large_vocabulary_is_passed_over_quickly(write: Callable[[bytes], Path]) -> None:
    n = 100_000
    vocabulary = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, n) + text("token") * n
    path = write(build((vocabulary, u32_key("after", 7))))
    before_s = time.process_time()
    header = read_header(path)
    # 20 ms where this was written; keeping the strings takes five times as long.
    assert time.process_time() - before_s < 0.3
    assert header.metadata == {"tokenizer.ggml.tokens": LongArray(n), "after": 7}
    assert read_header(path, keep_arrays=True).metadata["tokenizer.ggml.tokens"] == ("token",) * n


OVERLAP = (tensor("first", offset=0), tensor("second", offset=96))
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "short": (b"GG", "begins with b'GG'"),
    "zip": (b"PK\x03\x04" + bytes(100), r"is not a GGUF file: it begins with b'PK"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "older format": (b"tjgg" + bytes(60), "older than GGUF"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "version 1": (build(version=1), "GGUF version 1: melt reads versions 2 and 3"),
    "version 9": (build(version=9), "GGUF version 9"),
    "too many tensors": (build(n_tensors=2**63), f"claims {2**63} tensors"),
    "too many keys": (build(n_keys=2**64 - 1), r"claims \d+ metadata keys"),
    "long key": (build((struct.pack("<Q", 2**62) + b"key",)), "text of 4611686018427387904 bytes"),
    "empty key": (build((u32_key("", 1),)), "metadata key 1 is empty"),
    "repeated key": (build((u32_key("a.b", 1), u32_key("a.b", 2))), "key 2 is repeated: 'a.b'"),
    "unknown value type": (build((text("a.b") + struct.pack("<IQ", 13, 0),)), "'a.b' has the unknown type 13"),
    "array of arrays": (build((text("a.b") + struct.pack("<IIQ", ARRAY, ARRAY, 1),)), "array of arrays"),
    "huge array": (build((text("a.b") + struct.pack("<IIQ", ARRAY, U32, 2**60),)), r"claims \d+ elements in the value"),
    "huge strings": (build((text("a.b") + struct.pack("<IIQ", ARRAY, STRING, 2**60),)), r"claims \d+ strings"),
    "alignment 0": (build((u32_key("general.alignment", 0),)), "alignment is 0, not a power of two"),
    "alignment 24": (build((u32_key("general.alignment", 24),)), "alignment is 24, not a power of two"),
    "alignment text": (
        build((text("general.alignment") + struct.pack("<I", STRING) + text("32"),)),
        "alignment is '32'",
    ),
    "dimensions": (build(tensors=(tensor(dims=(2, 2, 2, 2, 2)),)), "has 5 dimensions"),
    "zero rows": (build(tensors=(tensor(dims=(32, 0)),)), "of shape 32x0 cannot be F32"),
    "huge tensor": (build(tensors=(tensor(dims=(2**62, 2**62)),)), "cannot be F32 in"),
    "torn block": (build(tensors=(tensor(dims=(33,), kind=Q4_0),)), "of shape 33 cannot be Q4_0"),
    "unknown tensor type": (build(tensors=(tensor(kind=99),)), "'t' is of the unknown type 99"),
    "removed tensor type": (build(tensors=(tensor(kind=31),)), "unknown type 31"),
    "long tensor name": (build(tensors=(tensor("n" * 64),)), "text of 64 bytes"),
    "repeated tensor": (build(tensors=(tensor("t"), tensor("t", offset=128)), data_bytes=256), "name is repeated"),
    "overlap": (build(tensors=OVERLAP, data_bytes=512), "tensors 'first' and 'second' overlap"),
    "not aligned": (build(tensors=(tensor(offset=8),), data_bytes=256), "not aligned to 32 bytes"),
    "beyond the end": (build(tensors=(tensor(offset=1 << 40),)), "truncated"),
    "no data": (build(data_bytes=64), "truncated: it has"),
}


@pytest.mark.parametrize(("content", "sentence"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_named_with_its_file(content: bytes, sentence: str, write: Callable[[bytes], Path]) -> None:
    path = write(content)
    with pytest.raises(ModelError, match=sentence) as raised:
        read_header(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model file"):
        read_header(tmp_path / "absent.gguf")
    with pytest.raises(ModelError, match="is not a file"):
        read_header(tmp_path)
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    with pytest.raises(ModelError, match="is not a file"):
        read_header(pipe)


def test_names_that_are_not_text_are_shown_and_not_fatal(write: Callable[[bytes], Path]) -> None:
    key = struct.pack("<Q", 3) + b"\xff\n\x00" + struct.pack("<II", U32, 1)
    assert list(read_header(write(build((key,)))).metadata.values()) == [1]
