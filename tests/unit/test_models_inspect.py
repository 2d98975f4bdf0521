"""What is said of a model file: types, bits, memory, and the notes that a label hides."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from melt.errors import ModelError
from melt.models.catalog import DATA_DIR
from melt.models.digest import cached_sha256, sha256_of
from melt.models.ggml import find_level
from melt.models.inspect import expected_memory, inspect

TINY = DATA_DIR / "tiny-pydoc-f16.gguf"
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def models_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "models"
    monkeypatch.setenv("MELT_MODELS", str(root))
    return root


def write_model(
    path: Path,
    tensors: Mapping[str, tuple[tuple[int, ...], gguf.GGMLQuantizationType]],
    keys: Mapping[str, object] | None = None,
    file_type: int = gguf.LlamaFileType.MOSTLY_Q4_K_M,
) -> Path:
    """Write a model of zeros; shapes are rows x columns as numpy has them."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(file_type)
    defaults = {"block_count": 2, "embedding_length": 256, "attention.head_count": 4, "context_length": 512}
    for key, value in {**defaults, **(keys or {})}.items():
        if isinstance(value, list):
            writer.add_array(f"llama.{key}", value)
        else:
            writer.add_uint32(f"llama.{key}" if not key.startswith("split.") else key, int(str(value)))
    for name, (shape, kind) in tensors.items():
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        rows = np.zeros((*shape[:-1], shape[-1] // block * block_bytes), dtype=np.uint8)
        writer.add_tensor(name, rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


Q4_K, Q5_0, Q6_K, F16, F32 = (gguf.GGMLQuantizationType[n] for n in ("Q4_K", "Q5_0", "Q6_K", "F16", "F32"))


def test_the_embedded_model_is_described_whole() -> None:
    found = inspect(TINY)
    assert found.name == "tiny-pydoc-f16"
    assert (found.quant, found.format, found.architecture) == ("F16", "gguf", "llama")
    assert found.sha256 == hashlib.sha256(TINY.read_bytes()).hexdigest()
    assert found.size_bytes == TINY.stat().st_size
    assert found.tensor_types == {"F16": 6815744, "F32": 9216}
    assert found.weight_bytes == 6815744 + 9216
    assert found.n_params == 3410176
    assert found.bits_per_weight == pytest.approx(8 * 6824960 / 3410176)
    assert (found.n_layers, found.n_ctx_train, found.n_vocab, found.n_embd) == (4, 1024, 1024, 256)
    # 4 layers * 2 key/value heads * (64 + 64) * 2 bytes; 4 layers * 4 heads * (64 + 64)
    assert (found.kv_bytes_per_token, found.attention_width) == (2048, 2048)
    assert found.embedding_bytes == 0
    assert found.notes == ()


def test_labels_and_names_can_be_given() -> None:
    found = inspect(TINY, quant="q4_k", name="mine")
    assert (found.name, found.quant) == ("mine", "Q4_K_M")
    with pytest.raises(ModelError, match=r"unknown quantization 'q4_k_n': did you mean .*Q4_K_M.* Known are F32, "):
        inspect(TINY, quant="q4_k_n")


def test_an_embedding_beside_output_weights_is_only_looked_up(tmp_path: Path) -> None:
    tensors = {"token_embd.weight": ((64, 256), Q4_K), "output.weight": ((64, 256), Q6_K)}
    found = inspect(write_model(tmp_path / "m.gguf", tensors))
    assert found.embedding_bytes == 64 * 144
    assert found.n_vocab == 64


def test_what_a_k_quant_fell_back_to_is_noted(tmp_path: Path) -> None:
    tensors = {
        "token_embd.weight": ((64, 256), Q4_K),
        "blk.0.attn_q.weight": ((64, 288), Q5_0),
        "blk.0.attn_norm.weight": ((288,), F32),
        "blk.0.ffn_gate_inp.weight": ((8, 256), F32),
    }
    found = inspect(write_model(tmp_path / "m.gguf", tensors))
    assert (found.fallbacks, found.n_matrices) == ({"Q5_0": 1}, 2)
    (note,) = found.notes
    share = 64 * 288 // 32 * 22 / (64 * 144 + 64 * 288 // 32 * 22)
    assert note == (
        f"labelled Q4_K_M, but {share:.0%} of it is in other types (Q5_0 {share:.0%}): "
        "its rows of 288 weights are no multiple of 256, so 1 of 2 matrices fell back"
    ).replace("%", " %")


def test_a_label_without_any_weight_of_its_type_is_noted(tmp_path: Path) -> None:
    (note,) = inspect(write_model(tmp_path / "m.gguf", {"token_embd.weight": ((64, 288), Q5_0)})).notes
    assert "and none in Q4_K" in note


def test_a_mixture_of_experts_is_noted(tmp_path: Path) -> None:
    keys = {"expert_count": 64, "expert_used_count": 8}
    found = inspect(write_model(tmp_path / "m.gguf", {"token_embd.weight": ((8, 256), Q4_K)}, keys))
    assert found.notes == ("mixture of experts: decoding a token reads 8 of 64 experts, not all weights",)


@pytest.mark.parametrize(
    ("keys", "expected", "width"),
    [
        ({}, 2 * 4 * (64 + 64) * 2, 2 * 4 * (64 + 64)),
        ({"attention.head_count_kv": 1}, 2 * 1 * (64 + 64) * 2, 2 * 4 * (64 + 64)),
        ({"attention.key_length": 32, "attention.value_length": 96}, 2 * 4 * (32 + 96) * 2, 2 * 4 * (32 + 96)),
        # A layer without keys and values attends to nothing.
        ({"attention.head_count_kv": [2, 0]}, 2 * (64 + 64) * 2, 4 * (64 + 64)),
        ({"attention.head_count_kv": [2, 0, 1]}, None, None),
        ({"attention.head_count": 0}, None, None),
        ({"block_count": 4_000_000_000}, None, None),
    ],
)
def test_attention_follows_heads_and_layers(
    tmp_path: Path, keys: dict[str, object], expected: int | None, width: int | None
) -> None:
    found = inspect(write_model(tmp_path / "m.gguf", {"token_embd.weight": ((8, 256), Q4_K)}, keys))
    assert (found.kv_bytes_per_token, found.attention_width) == (expected, width)


def test_expected_memory_is_the_sum_of_its_formula() -> None:
    tiny = inspect(TINY)
    weights, compute = 6824960, 512 * (4 * (1024 + 8 * 256) + 2 * 1024)
    assert expected_memory(tiny, 1024) == weights + 1024 * 2048 + compute
    # 1001 tokens take as much as 1024; a q8_0 cache has 8.5 bits where f16 has 16.
    assert expected_memory(tiny, 1001, "q8_0", "q8_0") == weights + 1024 * 2048 * 8.5 / 16 + compute
    assert expected_memory(tiny, 1024, "f16", "q8_0") == weights + 1024 * 1024 * (1 + 8.5 / 16) + compute
    with pytest.raises(ModelError, match="unknown type 'q7' of the KV cache"):
        expected_memory(tiny, 1024, "q7")


@pytest.mark.parametrize(("n_ctx", "reported_mib"), [(512, 98.25), (2048, 102.51), (8192, 98.25)])
def test_expected_memory_is_near_what_llama_cpp_reports(n_ctx: int, reported_mib: float) -> None:
    """The compute buffers that llama.cpp 0.5 reports for SmolLM2-135M with 512 tokens a batch."""
    smol = replace(inspect(TINY), n_vocab=49152, n_embd=576, weight_bytes=0, size_bytes=0, kv_bytes_per_token=0)
    assert expected_memory(smol, n_ctx) / MIB == pytest.approx(reported_mib, rel=0.16)


def test_parts_and_vocabularies_are_refused(tmp_path: Path) -> None:
    part = write_model(tmp_path / "p.gguf", {"t": ((8, 256), F16)}, {"split.count": 3, "split.no": 1})
    with pytest.raises(ModelError, match="part 2 of a model split into 3 files"):
        inspect(part)
    with pytest.raises(ModelError, match="a vocabulary, not a model"):
        inspect(write_model(tmp_path / "v.gguf", {}))


def settled_copy(path: Path) -> Path:
    """Copy the model and make it look as if it had lain there for a while."""
    path.write_bytes(TINY.read_bytes())
    long_ago_ns = time.time_ns() - 3_600_000_000_000
    os.utime(path, ns=(long_ago_ns, long_ago_ns))
    return path


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settled_copy(tmp_path / "m.gguf")
    first = sha256_of(path)
    assert cached_sha256(path) is None, "a file that changed just now may change again unseen"
    monkeypatch.setattr("melt.models.digest._SETTLED_NS", -1)
    assert sha256_of(path) == first
    assert cached_sha256(path) == first
    times = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cached_sha256(path) is None, "same size and modification time, other content"
    assert sha256_of(path) != first


def test_a_damaged_or_unwritable_digest_cache_does_no_harm(models_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models_root.mkdir()
    (models_root / "sha256.json").write_text('{"half')
    expected = hashlib.sha256(TINY.read_bytes()).hexdigest()
    assert sha256_of(TINY) == expected
    monkeypatch.setenv("MELT_MODELS", "/proc/nowhere")
    assert sha256_of(TINY) == expected


@pytest.mark.parametrize(
    ("name", "level"), [("q8_0", "Q8_0"), ("Q4_K_M", "Q4_K_M"), ("f16", "F16"), ("q4-k-m", "Q4_K_M")]
)
def test_levels_are_found_in_any_case(name: str, level: str) -> None:
    assert find_level(name).name == level
