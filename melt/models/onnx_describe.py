"""Write an ONNX model down as an artifact: what is in it, at which level it is, and how much memory it will take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from math import prod
from pathlib import Path

from melt.models.files import explained
from melt.models.onnx_file import OnnxModel, Weight
from melt.models.onnx_levels import find_onnx_level, level_of
from melt.records import Artifact
from melt.records.artifact import ModelTensor

_PAST_KEY = re.compile(r"past\w*\.\d+\.(?:\w+\.)?key")
_PRESENT_KEY = re.compile(r"present\w*\.\d+\.(?:\w+\.)?key")
_F16_BYTES = 2
_RUNNER_BYTES = 50 << 20
"""An interpreter with numpy and onnxruntime, before a model is there; this and the next are from docs/models.md."""

_COPIES = 1.3

_WEIGHTS = {"FP32", "FP64", "FP16", "BF16", "FP8", "FP4", "INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2"}
"""Types that weights are stored in; integers of more bits are shapes, indices and sums."""

_WHOLE = {"FP32", "FP64"}
"""What a level of fewer bits leaves a matrix in that it cannot take."""


def describe_onnx(path: Path, model: OnnxModel, *, sha256: str, quant: str | None, name: str | None) -> Artifact:
    """Write down a file that was read and whose sha256 is known. Raises ModelError for an unknown level."""
    with explained("read", path):
        size_bytes = path.stat().st_size
    label = level_of(model) if quant is None else find_onnx_level(quant).name
    types, weights = _types(model), [w for w in _stored(model) if w.type in _WEIGHTS and w.n_elements > 1]
    n_params, matrices = sum(w.n_elements for w in weights), [w for w in weights if w.is_matrix]
    keys = [one for one in model.inputs if _PAST_KEY.fullmatch(one.name)]
    generative = bool(keys) and any(_PRESENT_KEY.fullmatch(one.name) for one in model.outputs)
    return Artifact(
        name=name or path.stem,
        quant=label,
        format="onnx",
        sha256=sha256,
        size_bytes=size_bytes,
        path=str(path),
        n_params=n_params or None,
        bits_per_weight=8 * types.total() / n_params if n_params else None,
        tensor_types=dict(types.most_common()),
        n_matrices=len(matrices),
        fallbacks={} if label in (None, "fp32") else _left_alone(matrices),
        weight_bytes=types.total(),
        embedding_bytes=_looked_up_bytes(model, matrices) if generative else None,
        n_layers=len(keys) if generative else None,
        n_vocab=_n_vocab(model.outputs) if generative else None,
        kv_bytes_per_token=_kv_bytes(keys) if generative else None,
        inputs=model.inputs,
        outputs=model.outputs,
        opsets=model.opsets,
        producer=model.producer,
        operators=dict(model.operators.most_common()),
        generative=generative,
    )


def onnx_memory(artifact: Artifact, n_ctx: int) -> int:
    """Estimate the bytes that a runner on the CPU occupies: itself, the weights, and the cache of a decoder in FP32.

    1.3 * file + 50 MiB + 2 * n_ctx * kv_bytes_per_token, which is for f16. onnxruntime packs weights anew while the
    file is still in memory. Activations depend on the shapes of the inputs, and are not foreseen.
    """
    cache = 2 * n_ctx * (artifact.kv_bytes_per_token or 0)
    return round(_COPIES * (artifact.size_bytes or artifact.weight_bytes or 0)) + _RUNNER_BYTES + cache


def cache_per_token(artifact: Artifact) -> tuple[str, int | None]:
    """Return the type of a decoder's cache, `f16` or `f32`, and its bytes per token: an .onnx file says it itself."""
    cached = artifact.kv_bytes_per_token
    if any(one.type == "float" and _PAST_KEY.fullmatch(one.name) for one in artifact.inputs):
        return "f32", None if cached is None else 2 * cached
    return "f16", cached


def _stored(model: OnnxModel) -> Iterable[Weight]:
    """Give the weights as they are meant: a MatMulNBits node's bytes as a matrix of few bits, without its scales."""
    for weight in model.weights:
        if weight.name in model.scales:
            continue
        packed = model.packed.get(weight.name)
        if packed is None:
            yield weight
        else:
            yield Weight(weight.name, (packed.rows, packed.columns), f"INT{packed.bits}", weight.size_bytes)


def left_bytes(model: OnnxModel) -> int:
    """Return the bytes of the matrices that a level of fewer bits left as they were."""
    return sum(w.size_bytes for w in _stored(model) if w.is_matrix and w.type in _WHOLE)


def _types(model: OnnxModel) -> Counter[str]:
    """Count the bytes of all tensors by type, scales included: they must be stored, too."""
    sizes: Counter[str] = Counter()
    for weight in model.weights:
        packed = model.packed.get(weight.name)
        if weight.size_bytes:
            sizes[weight.type if packed is None else f"INT{packed.bits}"] += weight.size_bytes
    return sizes


def _left_alone(matrices: Iterable[Weight]) -> dict[str, int]:
    """Count by type the matrices that are as wide as they were."""
    return dict(Counter(w.type for w in matrices if w.type in _WHOLE).most_common())


def _looked_up_bytes(model: OnnxModel, matrices: Iterable[Weight]) -> int:
    """Return the bytes of the tables of which a token needs a row: no node takes them as a whole."""
    return sum(w.size_bytes for w in matrices if w.name in model.looked_up - model.multiplied)


def _n_vocab(outputs: Iterable[ModelTensor]) -> int | None:
    """Return the width of the logits."""
    last = [one.shape[-1] for one in outputs if one.name == "logits" and one.shape]
    return last[0] if last and isinstance(last[0], int) else None


def _kv_bytes(keys: Iterable[ModelTensor]) -> int | None:
    """Return what keys and values of all layers take for a token in f16; None where a shape does not tell.

    A cache has the shape (batch, heads, tokens, width of a head); values are taken to be of the size of keys.
    """
    total = 0
    for key in keys:
        if key.shape is None or len(key.shape) != 4:
            return None
        fixed = [dim for dim in (key.shape[1], key.shape[3]) if isinstance(dim, int)]
        if len(fixed) != 2:
            return None
        total += 2 * prod(fixed) * _F16_BYTES
    return total
