"""The sample run of a model whose dimensions are known, on a device whose ceilings are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis_samples import make_start, runner_said

from melt.records import Compute, RunStart

GIB = 1 << 30
COMPUTE = Compute(int8_ops_per_s=2e12, int8_path="i8mm", f32_ops_per_s=0.5e12, f32_path="asimd", threads=8)


def dimensioned(**changes: Any) -> RunStart:
    """The sample run of a model of 100 M weights in layers and 10 M in its output matrix, and the ceilings of a CPU.

    Prefill takes 1 s for 512 tokens, decoding 1.27 s for 127. 8192 multiply-adds meet a token of context.
    """
    start = make_start(**changes)
    artifact = replace(
        start.artifact,
        n_params=110_000_000,
        n_vocab=20_000,
        n_embd=500,
        embedding_bytes=0,
        attention_width=8192,
        weight_bytes=100_000_000,
    )
    device = replace(start.device, compute=COMPUTE, memory_total_bytes=4 * GIB, memory_available_bytes=2 * GIB)
    return replace(start, artifact=artifact, device=device)


def used(**said: Any) -> list[dict[str, Any]]:
    return runner_said(used={"n_ubatch": 512, **said})
