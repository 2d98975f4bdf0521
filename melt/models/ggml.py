"""The tensor types and quantization levels of ggml: names, block sizes, and what falls back to what.

Numbers are those of `enum ggml_type` (ggml.h) and `enum llama_ftype` (llama.h).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from melt.errors import ModelError


@dataclass(frozen=True, slots=True)
class TensorType:
    """How weights are stored: blocks of `block` weights in `block_bytes` bytes each."""

    name: str
    block: int
    block_bytes: int

    @property
    def bits(self) -> float:
        """Bits per weight, scales included."""
        return 8 * self.block_bytes / self.block

    @property
    def is_quantized(self) -> bool:
        """Whether weights share a scale; plain floats and integers do not."""
        return self.block > 1


TENSOR_TYPES: dict[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}

BY_NAME = {kind.name: kind for kind in TENSOR_TYPES.values()}

FALLBACKS = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q2_0": "Q4_0",
}
"""What llama.cpp stores instead when the rows of a tensor are no multiple of the type's block."""

_COMMON_BLOCK = 32
"""Of types with blocks up to this llama.cpp stores F16 instead; of larger ones it needs an entry in FALLBACKS."""

WITH_IMATRIX = "+imatrix"
"""What a level's name ends in when it was weighed by an importance matrix that it could have been made without."""


@dataclass(frozen=True, slots=True)
class Level:
    """A quantization level that llama.cpp can make: `main` is the type of most weights, others depend on the tensor.

    `needs_imatrix`: it is not made without an importance matrix. `imatrix`: this one is made with one.
    """

    name: str
    ftype: int
    main: TensorType
    needs_imatrix: bool = False
    imatrix: bool = False

    @property
    def takes_imatrix(self) -> bool:
        """Whether an importance matrix changes anything: plain floats and the types listed here are rounded alike."""
        return self.main.is_quantized and self.main.name not in _UNWEIGHED

    def with_imatrix(self) -> Level:
        """Return this level made with an importance matrix. Raises ModelError when that changes nothing."""
        if self.imatrix:
            return self
        if not self.takes_imatrix:
            raise ModelError(f"an importance matrix does not change {self.name}: ask for {self.name} alone")
        return replace(self, name=self.name + WITH_IMATRIX, imatrix=True)


_UNWEIGHED = {"Q8_0", "MXFP4", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0"}


def _level(name: str, ftype: int, main: str, *, needs_imatrix: bool = False) -> Level:
    return Level(name, ftype, BY_NAME[main], needs_imatrix, imatrix=needs_imatrix)


LEVELS: dict[str, Level] = {
    level.name: level
    for level in (
        _level("F32", 0, "F32"),
        _level("BF16", 32, "BF16"),
        _level("F16", 1, "F16"),
        _level("Q8_0", 7, "Q8_0"),
        _level("Q6_K", 18, "Q6_K"),
        _level("Q5_K_M", 17, "Q5_K"),
        _level("Q5_K_S", 16, "Q5_K"),
        _level("Q5_1", 9, "Q5_1"),
        _level("Q5_0", 8, "Q5_0"),
        _level("Q4_K_M", 15, "Q4_K"),
        _level("Q4_K_S", 14, "Q4_K"),
        _level("Q4_1", 3, "Q4_1"),
        _level("Q4_0", 2, "Q4_0"),
        _level("IQ4_NL", 25, "IQ4_NL"),
        _level("IQ4_XS", 30, "IQ4_XS"),
        _level("MXFP4_MOE", 38, "MXFP4"),
        _level("Q3_K_L", 13, "Q3_K"),
        _level("Q3_K_M", 12, "Q3_K"),
        _level("Q3_K_S", 11, "Q3_K"),
        _level("IQ3_M", 27, "IQ3_S"),
        _level("IQ3_S", 26, "IQ3_S"),
        _level("IQ3_XS", 22, "IQ3_S", needs_imatrix=True),
        _level("IQ3_XXS", 23, "IQ3_XXS", needs_imatrix=True),
        _level("Q2_K", 10, "Q2_K"),
        _level("Q2_K_S", 21, "Q2_K", needs_imatrix=True),
        _level("Q2_0", 41, "Q2_0"),
        _level("TQ2_0", 37, "TQ2_0"),
        _level("TQ1_0", 36, "TQ1_0"),
        _level("IQ2_M", 29, "IQ2_S", needs_imatrix=True),
        _level("IQ2_S", 28, "IQ2_XS", needs_imatrix=True),
        _level("IQ2_XS", 20, "IQ2_XS", needs_imatrix=True),
        _level("IQ2_XXS", 19, "IQ2_XXS", needs_imatrix=True),
        _level("IQ1_M", 31, "IQ1_M", needs_imatrix=True),
        _level("IQ1_S", 24, "IQ1_S", needs_imatrix=True),
        _level("Q1_0", 40, "Q1_0"),
    )
}
"""By canonical name, from most to fewest bits."""

MEANT_FOR = {
    "TQ1_0": "models trained with ternary weights",
    "TQ2_0": "models trained with ternary weights",
    "Q2_0": "models trained with weights of two bits",
    "Q1_0": "models trained with binary weights",
}
"""Levels that keep too little of any other model."""

_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32"}
_BY_FTYPE = {level.ftype: level.name for level in LEVELS.values()}


def find_level(name: str) -> Level:
    """Return a quantization level by its name in any case, `q4_k` meaning Q4_K_M as everywhere.

    A name that ends in `+imatrix` is the level made with an importance matrix. Raises ModelError.
    """
    plain, suffix = name.strip().lower(), ""
    if plain.endswith(WITH_IMATRIX):
        plain, suffix = plain.removesuffix(WITH_IMATRIX), WITH_IMATRIX
    wanted = plain.upper().replace("-", "_")
    wanted = _ALIASES.get(wanted, wanted)
    if wanted in LEVELS:
        return LEVELS[wanted].with_imatrix() if suffix else LEVELS[wanted]
    close = difflib.get_close_matches(wanted, LEVELS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? Known are" if close else "known are"
    raise ModelError(f"unknown quantization {name!r}: {hint} {', '.join(LEVELS)}")


def misfit(level: Level, n_columns: int) -> str | None:
    """Say why llama.cpp refuses a level for rows of `n_columns` weights, None when it does not."""
    if n_columns % level.main.block == 0 or level.main.block <= _COMMON_BLOCK or level.main.name in FALLBACKS:
        return None
    return (
        f"{level.name} stores {level.main.block} weights in a block: rows of {n_columns} are no multiple of it, and "
        "llama.cpp has no other type to fall back to"
    )


def label_of(file_type: object) -> str | None:
    """Name the level that a GGUF's `general.file_type` stands for, None when the file does not say."""
    # Bit 10 marks a type that llama.cpp guessed from the tensors; the rest is still the type.
    return _BY_FTYPE.get(file_type & ~1024) if isinstance(file_type, int) else None
