"""Say what a model file really holds, and how much memory it will take to run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from melt.errors import ModelError
from melt.models.digest import sha256_of
from melt.models.files import explained
from melt.models.ggml import BY_NAME, MEANT_FOR, find_level, label_of
from melt.models.gguf import MAX_COUNT, Header, Tensor, read_header
from melt.models.mixture import fallback_note, fallbacks_of, matrices_of
from melt.models.onnx_describe import onnx_memory
from melt.records import Artifact

_EMBEDDING = "token_embd.weight"
_OUTPUT = "output.weight"
_F16_BYTES = 2
_F32_BYTES = 4
_KV_PADDING_TOKENS = 256
WEIGHED = "quantized with an importance matrix"
_MAX_LAYERS = 10_000
_HIDDEN_STATES = 8
"""Rows of n_embd floats alive at once per token while a layer is computed: fitted to llama.cpp's own reports."""
_VOCABULARY_ENTRY_BYTES = 256
_RUNNER_BYTES = 45 << 20
"""An interpreter with llama-cpp-python and its libraries; the two figures fit the table in docs/models.md."""


def inspect(path: Path | str, *, quant: str | None = None, name: str | None = None) -> Artifact:
    """Read a model file's header and hash the file. Raises ModelError.

    `quant` overrides the label that the file gives itself; `name` its file name.
    """
    path = Path(path).expanduser().absolute()
    header = read_header(path)
    return describe(path, header, sha256=sha256_of(path), quant=quant, name=name)


def describe(path: Path, header: Header, *, sha256: str, quant: str | None, name: str | None) -> Artifact:
    """Write down a file whose header was read and whose sha256 is known. Raises ModelError."""
    _refuse_incomplete(path, header)
    with explained("read", path):
        size_bytes = path.stat().st_size
    label = find_level(quant).name if quant is not None else label_of(header.count("general.file_type"))
    types: Counter[str] = Counter()
    for tensor in header.tensors:
        types[tensor.type.name] += tensor.size_bytes
    weight_bytes, n_params = types.total(), sum(t.n_weights for t in header.tensors)
    by_name = {t.name: t for t in header.tensors}
    architecture = header.text("general.architecture")
    attention = attention_of(header)
    return Artifact(
        name=name or path.stem,
        quant=label,
        format="gguf",
        sha256=sha256,
        size_bytes=size_bytes,
        path=str(path),
        architecture=architecture,
        n_params=n_params,
        bits_per_weight=8 * weight_bytes / n_params,
        tensor_types=dict(types.most_common()),
        n_matrices=len(matrices_of(header.tensors)),
        fallbacks=fallbacks_of(header.tensors, None if label is None else find_level(label)),
        weight_bytes=weight_bytes,
        embedding_bytes=_looked_up_bytes(by_name),
        n_layers=header.count(f"{architecture}.block_count"),
        n_ctx_train=header.count(f"{architecture}.context_length"),
        n_vocab=_n_vocab(by_name),
        n_embd=header.count(f"{architecture}.embedding_length"),
        kv_bytes_per_token=None if attention is None else attention.kv_values * _F16_BYTES,
        attention_width=None if attention is None else attention.width,
        license=header.text("general.license"),
        notes=tuple(_notes(header, label)),
    )


def is_lossy(artifact: Artifact) -> bool:
    """Whether weights were rounded to a quantization, in this file or in the one it was made from."""
    return bool(artifact.lossy_origin) or any(BY_NAME[name].is_quantized for name in artifact.tensor_types)


def expected_memory(
    artifact: Artifact, n_ctx: int, cache_type_k: str = "f16", cache_type_v: str = "f16", *, n_ubatch: int = 512
) -> int:
    """Estimate the bytes an engine needs to run a model with room for `n_ctx` tokens.

    weights + KV cache + compute buffers, where
    KV = n_ctx rounded up to 256 * kv_bytes_per_token / 2 * (bits of K + bits of V) / 16, and
    compute = n_ubatch * (4 * (n_vocab + 8 * n_embd) + 2 * n_ctx): logits, activations and the attention mask.
    Keys and values are taken to be of equal size. What a file does not say counts as nothing; a sliding window makes
    the cache smaller than this. Of an ONNX model it is `onnx_memory`. Raises ModelError for an unknown cache type.
    """
    if artifact.format == "onnx":
        return onnx_memory(artifact, n_ctx)
    logits = n_ubatch * _F32_BYTES * (artifact.n_vocab or 0)
    return _without_logits(artifact, n_ctx, cache_type_k, cache_type_v, n_ubatch) + logits


def resident_memory(
    artifact: Artifact, n_ctx: int, cache_type_k: str = "f16", cache_type_v: str = "f16", *, n_ubatch: int = 512
) -> int:
    """Estimate the bytes that a runner on the CPU really occupies, of what `expected_memory` says is reserved.

    The logits of a whole batch are reserved, but only those of its last token are computed; the runner itself and the
    vocabulary come on top. Copies of weights in another order (llama.cpp repacks Q4_0, for one) are left out, because
    the kernel can give up the mapped pages that they were made from. Of an ONNX model it is `onnx_memory`. Raises
    ModelError for an unknown cache type.
    """
    if artifact.format == "onnx":
        return onnx_memory(artifact, n_ctx)
    own = _RUNNER_BYTES + _VOCABULARY_ENTRY_BYTES * (artifact.n_vocab or 0)
    return _without_logits(artifact, n_ctx, cache_type_k, cache_type_v, n_ubatch) + own


def _without_logits(artifact: Artifact, n_ctx: int, cache_type_k: str, cache_type_v: str, n_ubatch: int) -> int:
    """Add up weights, KV cache, activations and the attention mask, in bytes."""
    tokens = -(-max(n_ctx, 1) // _KV_PADDING_TOKENS) * _KV_PADDING_TOKENS
    bits = _cache_bits(cache_type_k) + _cache_bits(cache_type_v)
    cache = tokens * (artifact.kv_bytes_per_token or 0) * bits / (2 * 8 * _F16_BYTES)
    per_token = _F32_BYTES * _HIDDEN_STATES * (artifact.n_embd or 0) + _F16_BYTES * tokens
    return round((artifact.weight_bytes or artifact.size_bytes or 0) + cache + n_ubatch * per_token)


def _cache_bits(cache_type: str) -> float:
    try:
        return BY_NAME[cache_type.upper()].bits
    except KeyError:
        raise ModelError(f"unknown type {cache_type!r} of the KV cache: choose f16, q8_0, q4_0 or f32") from None


def _refuse_incomplete(path: Path, header: Header) -> None:
    n_parts = header.count("split.count") or 1
    if n_parts > 1:
        part = (header.count("split.no") or 0) + 1
        raise ModelError(
            f"{path} is part {part} of a model split into {n_parts} files: merge them first (llama-gguf-split --merge)"
        )
    if not header.tensors:
        raise ModelError(f"{path} holds no weights: it is a vocabulary, not a model")


def _looked_up_bytes(by_name: dict[str, Tensor]) -> int | None:
    if _EMBEDDING not in by_name:
        return None
    return by_name[_EMBEDDING].size_bytes if _OUTPUT in by_name else 0


def _n_vocab(by_name: dict[str, Tensor]) -> int | None:
    """Count the tokens by the weights: the metadata's list of tokens may be padded or absent."""
    tensor = by_name.get(_EMBEDDING)
    return tensor.dims[1] if tensor is not None and len(tensor.dims) > 1 else None


class Attention(NamedTuple):
    """Numbers of all layers for a token: values that its keys and values have, multiply-adds with such a token."""

    kv_values: int
    width: int


def attention_of(header: Header) -> Attention | None:
    """Sum up the attention of one token over all layers, as llama.cpp sizes its cache. None: the file does not say."""
    prefix = header.text("general.architecture")
    n_layers = header.count(f"{prefix}.block_count")
    n_heads = header.metadata.get(f"{prefix}.attention.head_count")
    n_kv_heads = header.metadata.get(f"{prefix}.attention.head_count_kv", n_heads)
    n_embd = header.count(f"{prefix}.embedding_length")
    if n_layers is None or n_embd is None:
        return None
    heads, kv_heads = _per_layer(n_heads, n_layers), _per_layer(n_kv_heads, n_layers)
    if heads is None or kv_heads is None or not any(heads):
        return None
    width = n_embd // max(heads)
    key = header.count(f"{prefix}.attention.key_length")
    value = header.count(f"{prefix}.attention.value_length")
    row = (width if key is None else key) + (width if value is None else value)
    attending = sum(n for n, n_kv in zip(heads, kv_heads, strict=True) if n_kv)
    return Attention(sum(kv_heads) * row, attending * row)


def _per_layer(value: object, n_layers: int) -> list[int] | None:
    """Spread one number over all layers, or take one per layer: models that mix layer kinds write a list."""
    values = list(value) if isinstance(value, tuple) else [value] * min(n_layers, _MAX_LAYERS)
    numbers = [v for v in values if isinstance(v, int) and 0 <= v <= MAX_COUNT]
    return numbers if len(numbers) == n_layers else None


def _notes(header: Header, label: str | None) -> Iterable[str]:
    architecture = header.text("general.architecture")
    n_experts = header.count(f"{architecture}.expert_count")
    n_used = header.count(f"{architecture}.expert_used_count")
    if label is not None:
        level = find_level(label)
        yield from fallback_note(header.tensors, level)
        if level.main.name in MEANT_FOR:
            yield f"{level.name} is meant for {MEANT_FOR[level.main.name]}: it keeps too little of any other"
        if level.main.name == "MXFP4" and not n_experts:
            yield f"{level.name} stores the experts of a mixture in MXFP4: this model has none, all of it is in Q8_0"
    if header.count("quantize.imatrix.entries_count"):
        yield f"{WEIGHED} over {header.text('quantize.imatrix.dataset') or 'a text that the file does not name'}"
    if n_experts and n_used:
        yield f"mixture of experts: decoding a token reads {n_used} of {n_experts} experts, not all weights"
