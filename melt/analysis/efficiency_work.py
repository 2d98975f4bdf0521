"""What a phase of a run must compute and read: operations and bytes, by the model's dimensions.

Operations are those of PaLM's appendix B (https://arxiv.org/abs/2204.02311) without the backward pass: two for each
weight that a token is multiplied with, and four for each layer, head, dimension and token attended to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melt.analysis.bandwidth import kv_bytes_per_token, weight_bytes_per_token
from melt.records import Artifact, RunStart, Window

OPS_PER_MAC = 2
_FLOATS = frozenset({"F32", "F16", "BF16"})
"""Weights that are multiplied as floating-point numbers; all others meet activations of 8 bits (ggml's vec_dot)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a phase took at least. `ops` None: the model's dimensions or the phase's tokens are unknown.

    `n_bytes` None: what it reads is.

    `weights_only`: of the attention it is not known, and it is left out.
    """

    ops: float | None
    n_bytes: float | None
    weights_only: bool


def work_of(start: RunStart, used: Mapping[str, object], phase: str, windows: Sequence[Window]) -> Work:
    """Return what the windows of a phase, `prefill` or `decode`, took at least."""
    artifact = start.artifact
    counted = [(w.n_tokens, w.depth) for w in windows if w.n_tokens and w.depth is not None]
    n_tokens = sum(n for n, _ in counted)
    attended = sum(n * (depth + (n + 1) / 2) for n, depth in counted)
    ops = _weight_ops(artifact, n_tokens, n_tokens if phase == "decode" else len(counted)) if counted else None
    weights, kv_bytes = weight_bytes_per_token(artifact), kv_bytes_per_token(artifact, used)
    passes, cached = _reads(phase, counted, used, attended)
    return Work(
        ops=None if ops is None else ops + OPS_PER_MAC * (artifact.attention_width or 0) * attended,
        n_bytes=None if weights is None or passes is None else weights * passes + (kv_bytes or 0.0) * cached,
        weights_only=artifact.attention_width is None or kv_bytes is None,
    )


def multiplies_floats(artifact: Artifact) -> bool:
    """Whether most of a model's weights, by their bytes, are multiplied as floating-point numbers."""
    floats = sum(size for name, size in artifact.tensor_types.items() if name.upper() in _FLOATS)
    return 2 * floats > sum(artifact.tensor_types.values())


def _weight_ops(artifact: Artifact, n_tokens: int, n_answers: int) -> float | None:
    """Return the operations with weights. The output matrix meets only the `n_answers` tokens whose successor is asked.

    An embedding table of its own is looked up; a tied one is the output matrix.
    """
    if artifact.n_params is None or artifact.n_vocab is None or artifact.n_embd is None:
        return None
    output = artifact.n_vocab * artifact.n_embd
    looked_up = output if artifact.embedding_bytes else 0
    layers = artifact.n_params - looked_up - output
    return float(OPS_PER_MAC * (layers * n_tokens + output * n_answers))


def _reads(
    phase: str, counted: Sequence[tuple[int, int]], used: Mapping[str, object], attended: float
) -> tuple[int | None, float]:
    """Return how often the weights are read, and how many tokens of the cache in all."""
    if phase == "decode":
        return sum(n for n, _ in counted), attended
    batch = used.get("n_ubatch")
    if not isinstance(batch, int) or batch <= 0:
        return None, 0.0
    # A batch reads the weights, and what is cached up to its end, once for all its tokens.
    ends = [depth + min(begin + batch, n) for n, depth in counted for begin in range(0, n, batch)]
    return len(ends), float(sum(ends))
