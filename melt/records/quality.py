"""How good the answers of a model file are: one document for each file and dataset; docs/quality.md has definitions."""

from __future__ import annotations

from dataclasses import dataclass

from melt.records.artifact import Artifact
from melt.records.device import DeviceFacts
from melt.records.run import FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMethod:
    """What was asked, and how. Figures are set side by side only where all of this is equal.

    `kind` is `text`, `choices` or `outputs`. `dataset` is its name, `dataset_sha256` what it is known by. `n_ctx` is
    the length of the chunks that a text is cut into, `max_chunks` how many of them were asked for; None: all, and for
    `choices` as long as the longest item needs. `reference_sha256` is the model file whose probabilities or outputs KL
    divergence, top-1 agreement and cosine are against; None: there was none. For the reference it is its own.
    """

    kind: str
    dataset: str
    dataset_sha256: str
    n_ctx: int | None = None
    max_chunks: int | None = None
    reference_sha256: str | None = None
    engine: str
    engine_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFigures:
    """What scoring a text gave. Negative log-likelihoods (NLL) and KL divergences are in nats per token.

    `n_tokens` were scored, in `n_chunks` chunks of the same number each. `chunk_nll` and `chunk_kl` are the means of
    the chunks, for paired comparisons. What needs a reference is None, or empty, without one and for the reference.
    """

    n_tokens: int
    n_chunks: int
    nll: float
    nll_se: float | None
    perplexity: float
    perplexity_se: float | None
    chunk_nll: tuple[float, ...]
    kl_mean: float | None = None
    kl_se: float | None = None
    kl_median: float | None = None
    kl_p99: float | None = None
    kl_max: float | None = None
    chunk_kl: tuple[float, ...] = ()
    n_same_top: int | None = None
    top1_agreement: float | None = None
    top1_low: float | None = None
    top1_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceFigures:
    """What a multiple-choice task gave: `items` and `items_norm` say of each item, in its order, whether it was right.

    `accuracy` takes the choice with the highest log-likelihood, `accuracy_norm` the one with the highest
    log-likelihood per character: acc and acc_norm of lm-evaluation-harness. Bounds are Wilson's, 95 %.
    """

    n: int
    n_correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    n_correct_norm: int
    accuracy_norm: float
    accuracy_norm_low: float
    accuracy_norm_high: float
    items: tuple[bool, ...]
    items_norm: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFigures:
    """How far the outputs of a single-shot model are from the reference's, over `n` samples.

    `cosine_mean` and `cosine_min` are over the samples; a sample's cosine is the least of its outputs', in `cosines`.
    `max_error` is the largest difference of two numbers. `n_rows` are the rows of `class_output` that look like class
    scores, `n_same_top` those whose likeliest class is the reference's; None: no output looks so. `items` say of each
    sample whether its likeliest class is its label's; empty without labels. What needs a reference is None, or empty,
    for the reference. Bounds are Wilson's, 95 %.
    """

    n: int
    cosine_mean: float | None = None
    cosine_min: float | None = None
    max_error: float | None = None
    cosines: tuple[float, ...] = ()
    class_output: str | None = None
    n_rows: int | None = None
    n_same_top: int | None = None
    top1_agreement: float | None = None
    top1_low: float | None = None
    top1_high: float | None = None
    n_correct: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    items: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A finished evaluation of one model file on one dataset; `text`, `choices` or `outputs` has its figures.

    `quality_id` stands for file, method and device: what has been evaluated need not be again. `device` is where.
    """

    quality_id: str
    artifact: Artifact
    method: QualityMethod
    device: DeviceFacts
    engine_revision: str | None
    evaluated_utc_ns: int
    melt_version: str
    text: TextFigures | None = None
    choices: ChoiceFigures | None = None
    outputs: OutputFigures | None = None
    version: int = FORMAT_VERSION
