"""What scoring a model's answers comes to: perplexity, KL divergence, agreement, accuracy. Defined in docs/quality.md.

The formulas are those of llama.cpp's llama-perplexity (tools/perplexity/perplexity.cpp), so that figures agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melt.errors import ModelError
from melt.records.quality import ChoiceFigures, OutputFigures, TextFigures

_Z = NormalDist().inv_cdf(0.975)

Scores = NDArray[np.float64]


def text_figures(nll: Scores, kl: Scores | None = None, same_top: NDArray[np.bool_] | None = None) -> TextFigures:
    """Boil the scores of a text's tokens down. Each array has the shape (chunks, scored tokens of a chunk), in nats.

    `kl` and `same_top` (the likeliest token is the reference's, too) are given together, or neither. Raises ModelError.
    """
    mean, se = mean_and_error(nll)
    try:
        perplexity = math.exp(mean)
    except OverflowError:
        raise ModelError(f"the model scores the text with {mean:.3g} nats a token: its weights are damaged") from None
    plain = TextFigures(
        n_tokens=int(nll.size),
        n_chunks=len(nll),
        nll=mean,
        nll_se=se,
        perplexity=perplexity,
        perplexity_se=None if se is None else perplexity * se,
        chunk_nll=_chunk_means(nll),
    )
    if kl is None or same_top is None:
        return plain
    kl_mean, kl_se = mean_and_error(kl)
    n_same = int(np.count_nonzero(same_top))
    low, high = wilson(n_same, same_top.size)
    return replace(
        plain,
        kl_mean=kl_mean,
        kl_se=kl_se,
        kl_median=float(np.median(kl)),
        kl_p99=float(np.quantile(kl, 0.99)),
        kl_max=float(np.max(kl)),
        chunk_kl=_chunk_means(kl),
        n_same_top=n_same,
        top1_agreement=n_same / same_top.size,
        top1_low=low,
        top1_high=high,
    )


def mean_and_error(values: Scores) -> tuple[float, float | None]:
    """Return the mean and its standard error as if the values were independent; None for fewer than two values."""
    mean = float(np.mean(values))
    if values.size < 2:
        return mean, None
    return mean, float(np.std(values, ddof=1) / math.sqrt(values.size))


def choice_figures(right: Sequence[bool], right_norm: Sequence[bool]) -> ChoiceFigures:
    """Count the items that were answered rightly, with Wilson's 95 % intervals. There must be at least one."""
    n, n_correct, n_correct_norm = len(right), sum(right), sum(right_norm)
    low, high = wilson(n_correct, n)
    low_norm, high_norm = wilson(n_correct_norm, n)
    return ChoiceFigures(
        n=n,
        n_correct=n_correct,
        accuracy=n_correct / n,
        accuracy_low=low,
        accuracy_high=high,
        n_correct_norm=n_correct_norm,
        accuracy_norm=n_correct_norm / n,
        accuracy_norm_low=low_norm,
        accuracy_norm_high=high_norm,
        items=tuple(right),
        items_norm=tuple(right_norm),
    )


def output_figures(samples: Sequence[Mapping[str, Any]], class_output: str | None, *, reference: bool) -> OutputFigures:
    """Boil the drift of each sample down: `cosine`, `max_error`, `rows`, `same` rows, and whether it is `right`.

    `right` is None in all of them without labels. Raises ModelError where there are no samples.
    """
    if not samples:
        raise ModelError("there are no samples to compare outputs on")
    figures = OutputFigures(n=len(samples), class_output=class_output)
    items = tuple(bool(one["right"]) for one in samples if one["right"] is not None)
    if items:
        low, high = wilson(sum(items), len(items))
        figures = replace(
            figures,
            n_correct=sum(items),
            accuracy=sum(items) / len(items),
            accuracy_low=low,
            accuracy_high=high,
            items=items,
        )
    if reference:
        return figures
    cosines = tuple(float(one["cosine"]) for one in samples)
    figures = replace(
        figures,
        cosine_mean=float(np.mean(cosines)),
        cosine_min=min(cosines),
        max_error=max(float(one["max_error"]) for one in samples),
        cosines=cosines,
    )
    n_rows, n_same = (sum(one[name] or 0 for one in samples) for name in ("rows", "same"))
    if not n_rows:
        return figures
    low, high = wilson(n_same, n_rows)
    return replace(
        figures,
        n_rows=n_rows,
        n_same_top=n_same,
        top1_agreement=n_same / n_rows,
        top1_low=low,
        top1_high=high,
    )


def chosen(log_likelihoods: Sequence[float], lengths: Sequence[int]) -> tuple[int, int]:
    """Return the choices that a model takes, by log-likelihood and by log-likelihood per character.

    `lengths` are the characters of each choice. Of equals the first is taken.
    """
    scores = np.asarray(log_likelihoods)
    return int(np.argmax(scores)), int(np.argmax(scores / np.maximum(lengths, 1)))


def wilson(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of which `k` of `n` were seen (Wilson 1927). `n` must be positive.

    >>> [round(bound, 3) for bound in wilson(8, 10)]
    [0.49, 0.943]
    """
    share, z2 = k / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (0.0 if k == 0 else middle - half), (1.0 if k == n else middle + half)


def _chunk_means(values: Scores) -> tuple[float, ...]:
    return tuple(float(mean) for mean in np.mean(values, axis=1))
