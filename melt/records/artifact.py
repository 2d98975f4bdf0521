"""A model file."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTensor:
    """An input or output of an ONNX model. `shape` None: the model does not say how many dimensions it has.

    `type` is ONNX's word in lower case (`float`, `int64`, `float16`), `not a tensor` of what is none. A dimension is a
    length or, where it is not fixed, a name that `dims` of a workload may give a length: the model's own (`batch`),
    else `INPUT.AXIS` (`x.2`), axes counted from 0.
    """

    name: str
    type: str
    shape: tuple[int | str, ...] | None

    @property
    def is_tensor(self) -> bool:
        """Whether it is one tensor, and not a sequence, a map or an optional one."""
        return self.type != "not a tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model file, known by what is in it. `sha256` is its identity; the path only says where it lies now.

    `tensor_types` maps a ggml type name to the bytes stored in it: the label "Q4_K_M" never tells.
    `n_matrices` are what a level is about (norms and biases stay F32); `fallbacks` counts those whose rows do not fit
    the level's blocks, by the type that they are stored in instead.
    `bits_per_weight` is 8 * tensor bytes / parameters. `kv_bytes_per_token` is for an f16 cache.
    `embedding_bytes` are the weights that decoding a token looks up instead of reading: 0 when the embedding also
    serves as the output weights. `n_vocab` and `n_embd` size the engine's compute buffers. `attention_width` is the sum
    over all layers of heads times the lengths of a key and of a value: the multiply-adds with one token of context.
    `recipe` names what made a level: equal recipes of one origin make equal files. `imatrix_sha256` is the importance
    matrix that it was made with, `calibration_sha256` the text that the matrix was computed on; None: made without.
    `weights_sha256` is of the tensors alone: levels that differ only in their label have the same.
    ONNX models have `inputs` and `outputs`, `dims` that their symbolic dimensions usually have, where the catalogue
    says so, the version of each operator set (`opsets`), and how many nodes there are of each operator, bodies of
    branches and loops included; `generative` is whether they keep a KV cache (past and present). Their `tensor_types`
    are FP32, FP16, INT8, UINT8, INT4, INT64, ...; `fallbacks` counts by type the matrices that the level left alone.
    `size_bytes` is None where only somebody else saw the file: melt knows it of all others.
    `notes` are sentences a reader must see: a lossy origin, K-quants that fell back.
    """

    name: str
    quant: str | None
    format: str
    sha256: str
    size_bytes: int | None
    path: str
    architecture: str | None = None
    n_params: int | None = None
    bits_per_weight: float | None = None
    tensor_types: dict[str, int] = field(default_factory=dict)
    n_matrices: int | None = None
    fallbacks: dict[str, int] = field(default_factory=dict)
    weight_bytes: int | None = None
    embedding_bytes: int | None = None
    n_layers: int | None = None
    n_ctx_train: int | None = None
    n_vocab: int | None = None
    n_embd: int | None = None
    kv_bytes_per_token: int | None = None
    attention_width: int | None = None
    origin_sha256: str | None = None
    recipe: str | None = None
    imatrix_sha256: str | None = None
    calibration_sha256: str | None = None
    weights_sha256: str | None = None
    lossy_origin: bool | None = None
    license: str | None = None
    inputs: tuple[ModelTensor, ...] = ()
    outputs: tuple[ModelTensor, ...] = ()
    dims: dict[str, int] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    producer: str | None = None
    operators: dict[str, int] = field(default_factory=dict)
    generative: bool | None = None
    notes: tuple[str, ...] = ()
