"""The agent for Macs, which nobody starts here: what macOS asks of a program before it lets it run."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from melt.targets.agent import AgentBinaries

LOAD_DYLIB, CODE_SIGNATURE, BUILD_VERSION = 0xC, 0x1D, 0x32
CODE_DIRECTORY, AD_HOC, SHA256 = 0xFADE0C02, 0x2, 2


@pytest.fixture(scope="module")
def binary() -> bytes:
    return Path(AgentBinaries.find().path("Darwin", "arm64")).read_bytes()


def load_commands(binary: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each load command of a 64-bit Mach-O file, after mach-o/loader.h."""
    magic, cpu, _, kind, count, *_ = struct.unpack_from("<IiiIIIII", binary)
    assert (magic, cpu, kind) == (0xFEEDFACF, 0x0100000C, 2), "an executable for arm64"
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", binary, at)
        yield command, binary[at : at + size]
        at += size


def test_it_is_for_every_macos_that_tells_kinds_of_cores_apart(binary: bytes) -> None:
    (command,) = (raw for number, raw in load_commands(binary) if number == BUILD_VERSION)
    platform, oldest = struct.unpack_from("<II", command, 8)
    assert (platform, oldest >> 16, oldest >> 8 & 0xFF) == (1, 12, 0)


def test_it_needs_nothing_but_the_systems_own_library(binary: bytes) -> None:
    libraries = [raw[24:].split(b"\0")[0] for number, raw in load_commands(binary) if number == LOAD_DYLIB]
    assert libraries == [b"/usr/lib/libSystem.B.dylib"]


def test_it_is_signed_and_the_signature_holds(binary: bytes) -> None:
    """Apple silicon kills a program without a signature; that of an unknown signer is enough (ad hoc)."""
    (command,) = (raw for number, raw in load_commands(binary) if number == CODE_SIGNATURE)
    offset, size = struct.unpack_from("<II", command, 8)
    signature = binary[offset : offset + size]
    magic, _, count = struct.unpack_from(">III", signature)
    assert magic == 0xFADE0CC0
    starts = [struct.unpack_from(">II", signature, 12 + 8 * index)[1] for index in range(count)]
    (start,) = (start for start in starts if struct.unpack_from(">I", signature, start)[0] == CODE_DIRECTORY)
    _, flags, hashes, _, _, n_hashes, limit = struct.unpack_from(">IIIIIII", signature, start + 8)
    hash_size, hash_type, _, page_bits = struct.unpack_from(">BBBB", signature, start + 36)
    assert flags & AD_HOC
    assert (hash_type, limit) == (SHA256, offset)
    for index in range(n_hashes):
        begin = index << page_bits
        page = binary[begin : min(begin + (1 << page_bits), limit)]
        at = start + hashes + index * hash_size
        assert signature[at : at + hash_size] == hashlib.sha256(page).digest(), f"page {index}"
