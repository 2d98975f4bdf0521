"""The levels that onnxruntime's own tools make of an ONNX model, and how a file is seen to be at one."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from melt.errors import ModelError
from melt.models.onnx_file import OnnxModel

_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"}
_STATIC = {"QuantizeLinear", "QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True, slots=True)
class OnnxLevel:
    """A level of ONNX models. `bits` are those of most weights, scales left out.

    `calibrated`: it is made with the ranges that activations have for given inputs.
    """

    name: str
    bits: int
    calibrated: bool = False


LEVELS = {
    level.name: level
    for level in (
        OnnxLevel("fp32", 32),
        OnnxLevel("fp16", 16),
        OnnxLevel("int8-dynamic", 8),
        OnnxLevel("int8-static", 8, calibrated=True),
        OnnxLevel("int4", 4),
    )
}
"""By name, from most to fewest bits."""

_ALIASES = {"f32": "fp32", "f16": "fp16"}


def find_onnx_level(name: str) -> OnnxLevel:
    """Return a level by its name in any case, `_` as good as `-`. Raises ModelError."""
    wanted = name.strip().lower().replace("_", "-")
    wanted = _ALIASES.get(wanted, wanted)
    if wanted in LEVELS:
        return LEVELS[wanted]
    close = difflib.get_close_matches(wanted, LEVELS, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? Known are" if close else "known are"
    raise ModelError(f"unknown level {name!r} of an ONNX model: {hint} {', '.join(LEVELS)}")


def level_of(model: OnnxModel) -> str | None:
    """Name the level that a file seems to be at by its operators and weights, None when it is none of them."""
    if model.packed:
        return "int4" if all(matrix.bits == 4 for matrix in model.packed.values()) else None
    if model.operators.keys() & _DYNAMIC:
        return "int8-dynamic"
    if model.operators.keys() & _STATIC:
        return "int8-static"
    sizes = {kind: sum(w.size_bytes for w in model.weights if w.type == kind) for kind in ("FP32", "FP16")}
    if not any(sizes.values()):
        return None
    return "fp16" if sizes["FP16"] > sizes["FP32"] else "fp32"
