"""The quality of levels as tables, one for each dataset, and as rows: figures, intervals, and who can be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from melt.analysis.quality_compare import MIN_CHUNKS, Difference, Told, differences
from melt.codec import to_dict
from melt.records.quality import ChoiceFigures, OutputFigures, Quality, TextFigures
from melt.report.table import render_table, write_rows
from melt.units import counted, human

_TEXT = tuple(name for name in TextFigures.__dataclass_fields__ if not name.startswith("chunk_"))
_CHOICES = tuple(name for name in ChoiceFigures.__dataclass_fields__ if not name.startswith("items"))
_OUTPUTS = tuple(name for name in OutputFigures.__dataclass_fields__ if name not in ("cosines", "items"))
_QUANTITIES = ("nll", "kl", "drift", "accuracy")
_OF_DIFFERENCE = ("mean", "low", "high", "p_value", "told")
_KEYS = (
    "model",
    "quant",
    "artifact_sha256",
    "size_bytes",
    "bits_per_weight",
    "is_reference",
    "kind",
    "dataset",
    "dataset_sha256",
    "n_ctx",
    "reference_sha256",
    *dict.fromkeys((*_TEXT, *_CHOICES, *_OUTPUTS)),
    "compared_with",
    *(f"{quantity}_change_{part}" for quantity in _QUANTITIES for part in _OF_DIFFERENCE),
    "engine",
    "engine_version",
    "engine_revision",
    "device_id",
    "device",
    "evaluated_utc_ns",
    "known",
    "error",
)
_PLAIN_HEADERS = ("level", "size", "bits/weight")
_TEXT_HEADERS = (*_PLAIN_HEADERS, "perplexity", "KL mean", "KL p99", "same top-1", "by NLL", "by KL")
_CHOICE_HEADERS = (
    *_PLAIN_HEADERS,
    "accuracy",
    "95 % interval",
    "per character",
    "95 % interval",
    "against the line above",
)
_OUTPUT_HEADERS = (
    *_PLAIN_HEADERS,
    "cosine mean",
    "cosine least",
    "max error",
    "same top-1",
    "accuracy",
    "by drift",
    "by accuracy",
)
_TOLD = {Told.ALIKE: "no difference seen", Told.TOO_FEW: "too few to tell"}


@dataclass(frozen=True, slots=True)
class Lacking:
    """A level that has no figures, and why; `dataset` None: it could not even be made."""

    model: str
    quant: str | None
    dataset: str | None
    reason: str


def render_quality(
    datasets: Sequence[Sequence[Quality]], known: Sequence[str], fmt: str, lacking: Sequence[Lacking] = ()
) -> str:
    """Write evaluations, those of a dataset together and in the order of the levels, then the levels without any.

    `known` are the ids of those that were not made now. Each level is compared with the one before it. Raises
    UsageError for an unknown form, IncomparableError where a dataset's evaluations are unlike.
    """
    if fmt not in ("table", "md"):
        rows = [row for evaluations in datasets for row in _rows(evaluations, known)]
        rows += [{**to_dict(one), "error": one.reason} for one in lacking]
        return write_rows(_KEYS, rows, fmt)
    tables = [_table(evaluations, fmt) for evaluations in datasets if evaluations]
    if lacking:
        lines = [(one.quant or "as it is", one.dataset or "-", one.reason) for one in lacking]
        tables.append(render_table("Not evaluated", ("level", "dataset", "reason"), lines, fmt))
    return "\n".join(tables)


def _rows(evaluations: Sequence[Quality], known: Sequence[str]) -> Iterator[dict[str, Any]]:
    for quality, before, changes in _with_changes(evaluations):
        figures = to_dict(quality.text or quality.choices or quality.outputs)
        row = {
            **to_dict(quality.method),
            **figures,
            "model": quality.artifact.name,
            "quant": quality.artifact.quant,
            "artifact_sha256": quality.artifact.sha256,
            "size_bytes": quality.artifact.size_bytes,
            "bits_per_weight": quality.artifact.bits_per_weight,
            "is_reference": _is_reference(quality),
            "compared_with": None if before is None else before.artifact.quant,
            "engine_revision": quality.engine_revision,
            "device_id": quality.device.device_id,
            "device": quality.device.name,
            "evaluated_utc_ns": quality.evaluated_utc_ns,
            "known": quality.quality_id in known,
        }
        for change in changes:
            row |= {f"{change.quantity}_change_{part}": getattr(change, part) for part in _OF_DIFFERENCE}
        yield row


def _with_changes(evaluations: Sequence[Quality]) -> Iterator[tuple[Quality, Quality | None, tuple[Difference, ...]]]:
    before = None
    for quality in evaluations:
        yield quality, before, () if before is None else differences(before, quality)
        before = quality


def _table(evaluations: Sequence[Quality], fmt: str) -> str:
    first = evaluations[0]
    title = f"{first.artifact.name} on {first.method.dataset}"
    if first.method.kind == "text":
        rows = [_text_row(*line) for line in _with_changes(evaluations)]
        body = render_table(title, _TEXT_HEADERS, rows, fmt, numeric=range(1, 7))
    elif first.method.kind == "outputs":
        rows = [_output_row(*line) for line in _with_changes(evaluations)]
        body = render_table(title, _OUTPUT_HEADERS, rows, fmt, numeric=range(1, 8))
    else:
        rows = [_choice_row(*line) for line in _with_changes(evaluations)]
        body = render_table(title, _CHOICE_HEADERS, rows, fmt, numeric=range(1, 7))
    notes = "\n".join(f"- {note}" if fmt == "md" else note for note in _notes(evaluations))
    return f"{body}\n{notes}\n"


def _text_row(quality: Quality, _before: Quality | None, changes: Sequence[Difference]) -> tuple[str, ...]:
    text = quality.text
    assert text is not None
    by = {change.quantity: _judged(change) for change in changes}
    perplexity = _with_error(text.perplexity, text.perplexity_se, 4)
    if text.kl_mean is None:
        against = ("reference",) * 3 if _is_reference(quality) else ("-",) * 3
    else:
        against = (
            _with_error(text.kl_mean, text.kl_se, 3),
            f"{text.kl_p99:.3g}",
            f"{human(text.top1_agreement, 'ratio')} [{_percent(text.top1_low)}, {_percent(text.top1_high)}]",
        )
    return (*_plain(quality), perplexity, *against, by.get("nll", "-"), by.get("kl", "-"))


def _choice_row(quality: Quality, _before: Quality | None, changes: Sequence[Difference]) -> tuple[str, ...]:
    choices = quality.choices
    assert choices is not None
    return (
        *_plain(quality),
        f"{_percent(choices.accuracy)} %",
        f"{_percent(choices.accuracy_low)} to {_percent(choices.accuracy_high)} %",
        f"{_percent(choices.accuracy_norm)} %",
        f"{_percent(choices.accuracy_norm_low)} to {_percent(choices.accuracy_norm_high)} %",
        next(map(_judged, changes), "-"),
    )


def _output_row(quality: Quality, _before: Quality | None, changes: Sequence[Difference]) -> tuple[str, ...]:
    outputs = quality.outputs
    assert outputs is not None
    by = {change.quantity: _judged(change) for change in changes}
    if outputs.cosine_mean is None or outputs.cosine_min is None:
        drift = ("reference",) * 4
    else:
        same = "-"
        if outputs.top1_agreement is not None:
            bounds = f"[{_percent(outputs.top1_low)}, {_percent(outputs.top1_high)}]"
            same = f"{human(outputs.top1_agreement, 'ratio')} {bounds}"
        drift = (_cosine(outputs.cosine_mean), _cosine(outputs.cosine_min), f"{outputs.max_error:.3g}", same)
    accuracy = "-"
    if outputs.accuracy is not None:
        bounds = f"[{_percent(outputs.accuracy_low)}, {_percent(outputs.accuracy_high)}]"
        accuracy = f"{_percent(outputs.accuracy)} % {bounds}"
    return (*_plain(quality), *drift, accuracy, by.get("drift", "-"), by.get("accuracy", "-"))


def _cosine(value: float) -> str:
    """Write a cosine so that what it lacks to 1 has two digits; as 1 only where a float holds no difference."""
    lack = 1 - value
    if lack <= 0:
        return "1"
    places = max(4, -int(f"{lack:.1e}".partition("e")[2]) + 1)
    return f"{value:.{min(places, 12)}f}"


def _plain(quality: Quality) -> tuple[str, str, str]:
    bits = quality.artifact.bits_per_weight
    size = human(quality.artifact.size_bytes, "bytes")
    return quality.artifact.quant or "as it is", size, "-" if bits is None else f"{bits:.2f}"


def _judged(change: Difference) -> str:
    """Say what a difference comes to; figures only where they can be told from none."""
    if change.told in _TOLD:
        return _TOLD[change.told]
    if change.quantity == "accuracy":
        return f"{change.told} by {abs(change.mean) * 100:.1f} points, p {change.p_value:.2g}"
    if change.low is None or change.high is None or change.low == change.high:
        return f"{change.told} by {abs(change.mean):.2g}"
    return f"{change.told} by {_with_error(abs(change.mean), (change.high - change.low) / 2, 2, error_digits=2)}"


def _notes(evaluations: Sequence[Quality]) -> Iterator[str]:
    first = evaluations[0]
    where = f"{first.engine_revision or first.method.engine} ({first.method.engine_version}) on {first.device.name}"
    if first.text is not None:
        text = first.text
        yield (
            f"{text.n_tokens} tokens scored in {text.n_chunks} chunks of {first.method.n_ctx}, on the CPU; {where}. "
            "± is one standard error, top-1 with its 95 % interval."
        )
        yield (
            "By NLL, by KL: against the line above, in nats per token, paired over chunks, ± half the 95 % interval. "
            f"No difference seen: {Told.ALIKE}. Fewer than {MIN_CHUNKS} chunks are too few to tell."
        )
    elif first.choices is not None:
        yield f"{first.choices.n} questions by log-likelihood, on the CPU; {where}."
        yield f"Against the line above: McNemar's exact test, 5 %. No difference seen: {Told.ALIKE}."
    elif first.outputs is not None:
        samples = counted(first.outputs.n, "sample")
        yield f"{samples}, on the CPU; {where}. A sample's cosine is the least of its outputs'."
        classes = next((q.outputs.class_output for q in evaluations if q.outputs and q.outputs.class_output), None)
        if classes is not None:
            yield f"Same top-1: rows of {classes!r} whose likeliest class is the reference's, with its 95 % interval."
        yield (
            "By drift, by accuracy: against the line above; 1 - cosine by the paired t test over the samples, labels "
            f"by McNemar's exact test, 5 %. No difference seen: {Told.ALIKE}."
        )
    for quality in evaluations:
        if quality.artifact.calibration_sha256 == quality.method.dataset_sha256:
            made_on = "ranges were taken from these very inputs"
            if quality.method.kind != "outputs":
                made_on = "importance matrix was computed on this very text"
            yield f"{quality.artifact.quant}: its {made_on}, which flatters it"
        for note in quality.artifact.notes:
            yield f"{quality.artifact.quant}: {note}"


def _is_reference(quality: Quality) -> bool:
    return quality.method.reference_sha256 == quality.artifact.sha256


def _with_error(value: float, error: float | None, digits: int, *, error_digits: int = 3) -> str:
    """Write a value and its error to the same place, so many digits of the error."""
    if error is None or error <= 0:
        return f"{value:.{digits}g}"
    places = max(0, -int(f"{error:.1e}".partition("e")[2]) + error_digits - 1)
    return f"{value:.{places}f} ±{error:.{places}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f}"
