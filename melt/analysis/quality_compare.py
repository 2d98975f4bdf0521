"""Whether two levels of a model can be told apart in quality: paired, on the same tokens and items.

Tokens that stand near each other are alike, so the unit of a text is the chunk, not the token: taking tokens for
independent would find differences that are none (Miller 2024, "Adding Error Bars to Evals": clustered standard errors).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from melt.analysis.alike import IncomparableError
from melt.records.quality import OutputFigures, Quality, QualityMethod

MIN_CHUNKS = 6
"""Fewer chunks cannot be judged, as fewer sessions cannot: their spread is not known well enough."""

ALPHA = 0.05
_Z = NormalDist().inv_cdf(1 - ALPHA / 2)
_FIELDS = {"dataset_sha256": "content of the dataset", "reference_sha256": "reference"}
_NO_MATTER = ("dataset",)
"""Its name: what counts is its content."""


class Told(StrEnum):
    """What can be said of the second of two files, against the first. Two-sided, 5 %, each pair for itself."""

    BETTER = "better"
    WORSE = "worse"
    ALIKE = "cannot be told apart"
    TOO_FEW = "too few to judge"


@dataclass(frozen=True, slots=True)
class Difference:
    """The second file less the first one.

    `quantity` is `nll` or `kl` (nats per token), `drift` (1 - cosine) or `accuracy` (a share). `n` are the chunks,
    samples or items that it rests on, `low` and `high` its 95 % interval.
    """

    quantity: str
    n: int
    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    told: Told


def differences(first: Quality, second: Quality) -> tuple[Difference, ...]:
    """Compare two evaluations of the same dataset. Raises IncomparableError where their methods differ."""
    require_alike(first, second)
    return tuple(_differences(first, second))


def neighbours(evaluations: Sequence[Quality]) -> Iterator[tuple[Quality, Quality, tuple[Difference, ...]]]:
    """Compare each evaluation with the next one. Raises IncomparableError."""
    for first, second in pairwise(evaluations):
        yield first, second, differences(first, second)


def require_alike(first: Quality, second: Quality) -> None:
    """Raise IncomparableError, which names the field, where figures must not be set side by side."""
    for name in (field.name for field in fields(QualityMethod) if field.name not in _NO_MATTER):
        one, other = getattr(first.method, name), getattr(second.method, name)
        if one != other:
            raise _unlike(first, second, _FIELDS.get(name, name), one, other)
    if first.device.device_id != second.device.device_id:
        raise _unlike(first, second, "device", first.device.name, second.device.name)
    one, other = _extent(first), _extent(second)
    if one != other:
        raise _unlike(first, second, "number of chunks, tokens or items", one, other)


def paired_means(quantity: str, first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare chunk means, where less is better, by the paired t test (the chunk is the cluster)."""
    change = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    n, mean = len(change), float(np.mean(change))
    if n < MIN_CHUNKS:
        return Difference(quantity, n, mean, None, None, None, Told.TOO_FEW)
    se = float(np.std(change, ddof=1)) / math.sqrt(n)
    if se == 0:
        told = Told.ALIKE if mean == 0 else _told(mean)
        return Difference(quantity, n, mean, mean, mean, 1.0 if mean == 0 else 0.0, told)
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(n - 1, 1 - ALPHA / 2)) * se
    p_value = 2 * float(stdtr(n - 1, -abs(mean) / se))
    told = _told(mean) if p_value < ALPHA else Told.ALIKE
    return Difference(quantity, n, mean, mean - half, mean + half, p_value, told)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """Compare answers to the same items by McNemar's exact test; the interval is that of Agresti and Min (2005)."""
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    won = sum(b and not a for a, b in zip(first, second, strict=True))
    n, discordant = len(first), lost + won
    tail = sum(math.comb(discordant, k) for k in range(min(lost, won) + 1)) / 2**discordant
    p_value = min(1.0, 2 * tail)
    up, down = (won + 0.5) / (n + 2), (lost + 0.5) / (n + 2)
    half = _Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    told = (Told.BETTER if won > lost else Told.WORSE) if p_value < ALPHA else Told.ALIKE
    return Difference("accuracy", n, (won - lost) / n, up - down - half, up - down + half, p_value, told)


def _differences(first: Quality, second: Quality) -> Iterator[Difference]:
    if first.text is not None and second.text is not None:
        yield paired_means("nll", first.text.chunk_nll, second.text.chunk_nll)
        if first.text.chunk_kl and second.text.chunk_kl:
            yield paired_means("kl", first.text.chunk_kl, second.text.chunk_kl)
    if first.choices is not None and second.choices is not None:
        yield mcnemar(first.choices.items, second.choices.items)
    if first.outputs is not None and second.outputs is not None:
        if first.outputs.cosines and second.outputs.cosines:
            yield paired_means("drift", _drift(first.outputs), _drift(second.outputs))
        if first.outputs.items and second.outputs.items:
            yield mcnemar(first.outputs.items, second.outputs.items)


def _drift(outputs: OutputFigures) -> list[float]:
    return [1 - cosine for cosine in outputs.cosines]


def _told(mean: float) -> Told:
    return Told.WORSE if mean > 0 else Told.BETTER


def _extent(quality: Quality) -> tuple[int, ...]:
    text, others = quality.text, (quality.choices, quality.outputs)
    return (*((text.n_chunks, text.n_tokens) if text else ()), *(one.n for one in others if one is not None))


def _unlike(first: Quality, second: Quality, what: str, one: object, other: object) -> IncomparableError:
    names = [f"{q.artifact.name} {q.artifact.quant or ''}".strip() for q in (first, second)]
    return IncomparableError(
        f"the quality of {names[0]} and of {names[1]} cannot be compared: their {what} differs ({one}, {other})"
    )
