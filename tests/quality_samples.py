"""Evaluations as the store keeps them, with figures to a test's wishes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from store_samples import make_bundle

from melt.analysis.quality import choice_figures, text_figures
from melt.records.quality import ChoiceFigures, Quality, QualityMethod, TextFigures

_REFERENCE = "0" * 64
_TOKENS = 30


def text_quality(quant: str, worse_by: float, *, kl: float | None = None, n_chunks: int = 8) -> Quality:
    """An evaluation on a text whose chunks differ by 0.1 nats among each other, and levels by `worse_by`."""
    draws = np.random.default_rng(len(quant))
    chunks = 3 + 0.1 * np.arange(n_chunks) + worse_by * (1 + 0.05 * draws.normal(size=n_chunks))
    nll = np.repeat(chunks[:, None], _TOKENS, axis=1)
    if kl is None:
        return _quality(quant, "text", text=text_figures(nll))
    divergence = np.repeat(kl * (1 + 0.05 * draws.normal(size=(n_chunks, 1))), _TOKENS, axis=1)
    return _quality(quant, "text", text=text_figures(nll, divergence, divergence < kl))


def choices_quality(quant: str, items: Sequence[bool]) -> Quality:
    """An evaluation on questions of which `items` were answered rightly, by both rules."""
    return _quality(quant, "choices", choices=choice_figures(items, items))


def _quality(
    quant: str, kind: str, *, text: TextFigures | None = None, choices: ChoiceFigures | None = None
) -> Quality:
    start = make_bundle(quant=quant).start
    is_text = kind == "text"
    method = QualityMethod(
        kind=kind,
        dataset="prose" if is_text else "facts",
        dataset_sha256="d" * 64,
        n_ctx=512 if is_text else None,
        reference_sha256=_REFERENCE if is_text else None,
        engine="llama.cpp",
        engine_version="llama-cpp-python 0.3.36",
    )
    return Quality(
        quality_id=f"{kind}-{quant}",
        artifact=start.artifact,
        method=method,
        device=start.device,
        engine_revision="llama.cpp 0.5.0-dev",
        evaluated_utc_ns=start.started_utc_ns,
        melt_version=start.melt_version,
        text=text,
        choices=choices,
    )
