"""Whatever is done to a GGUF file, reading it gives a header or one ModelError, in little time and memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from melt.errors import ModelError
from melt.models.catalog import DATA_DIR
from melt.models.gguf import read_header
from melt.models.inspect import describe, expected_memory

HEADER_BYTES = 29952
with (DATA_DIR / "tiny-pydoc-f16.gguf").open("rb") as model:
    TINY = model.read(HEADER_BYTES)
    TINY_BYTES = model.seek(0, 2)
EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "model.gguf"


def survives(path: Path, content: bytes, size_bytes: int = TINY_BYTES) -> bool:
    """Read a file as melt does, its weights being holes; whether it was accepted. No error but ModelError may come."""
    path.write_bytes(content)
    os.truncate(path, size_bytes)
    try:
        artifact = describe(path, read_header(path), sha256="0" * 64, quant=None, name=None)
    except ModelError:
        return False
    assert 0 < expected_memory(artifact, 4096) < 2**63
    assert all(size > 0 for size in artifact.tensor_types.values())
    assert artifact.kv_bytes_per_token is None or artifact.kv_bytes_per_token < 2**63
    return True


def patched(position: int, patch: bytes) -> bytes:
    return TINY[:position] + patch + TINY[position + len(patch) :]


@quick
@given(position=st.integers(0, HEADER_BYTES), patch=st.binary(min_size=1, max_size=16))
def test_bytes_overwritten(victim: Path, position: int, patch: bytes) -> None:
    survives(victim, patched(position, patch))


@quick
@given(position=st.integers(0, 800), value=st.sampled_from(EXTREMES), width=st.sampled_from((4, 8)))
@example(position=8, value=2**63, width=8)
@example(position=16, value=2**64 - 1, width=8)
def test_numbers_made_extreme(victim: Path, position: int, value: int, width: int) -> None:
    survives(victim, patched(position, (value % 2 ** (8 * width)).to_bytes(width, "little")))


@quick
@given(position=st.integers(27_000, HEADER_BYTES), value=st.sampled_from(EXTREMES), width=st.sampled_from((4, 8)))
def test_numbers_of_the_tensor_table_made_extreme(victim: Path, position: int, value: int, width: int) -> None:
    survives(victim, patched(position, (value % 2 ** (8 * width)).to_bytes(width, "little")))


@quick
@given(position=st.integers(4, HEADER_BYTES), removed=st.integers(0, 64), added=st.binary(max_size=64))
def test_bytes_cut_out_and_put_in(victim: Path, position: int, removed: int, added: bytes) -> None:
    survives(victim, TINY[:position] + added + TINY[position + removed :])


@quick
@given(st.binary(max_size=512).map(b"GGUF\x03\0\0\0".__add__))
def test_noise_behind_a_right_beginning(victim: Path, content: bytes) -> None:
    survives(victim, content, len(content))


def test_the_file_itself_is_accepted(victim: Path) -> None:
    assert survives(victim, TINY)


def test_truncated_anywhere(victim: Path) -> None:
    ends = {*range(64), *range(64, 2048, 7), *range(2048, HEADER_BYTES + 64, 331), TINY_BYTES - 1}
    accepted = [end for end in ends if survives(victim, TINY[:end], end)]
    assert accepted == []


def test_a_lie_about_lengths_costs_no_memory(victim: Path) -> None:
    victim.write_bytes(patched(24, (2**40).to_bytes(8, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            read_header(victim)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * 1024 * 1024
