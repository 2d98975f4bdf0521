"""Memory of the runner: its peak as the kernel counted it, and what the engine says of model and cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from melt.analysis import channels
from melt.analysis.figures import NOT_REACHED, Figure
from melt.analysis.series import Span
from melt.records import Artifact
from melt.traces import Trace
from melt.units import human

FOOTPRINT = "physical footprint, as macOS accounts it: GPU and compressed memory too, pages of a mapped file not"


def peak_memory(traces: Sequence[Trace], span: Span | None = None, max_rss_bytes: float | None = None) -> Figure:
    """Return the most memory that the runner took, in bytes: resident, or where it is told and greater, its footprint.

    Neither of the two covers the other: weights that are mapped from the file count as resident only, and what the GPU
    holds or the system has compressed in the footprint only.
    """
    resident = peak_rss(traces, span, max_rss_bytes)
    series = channels.runner_footprint(traces, "footprint_bytes" if span else "footprint_peak_bytes")
    seen = [float(values.max()) for s in series if len(values := s.values if span is None else s.inside(span))]
    if not seen:
        return resident
    if resident.value is None or max(seen) >= resident.value:
        return Figure(max(seen), FOOTPRINT, "kernel")
    note = f"resident pages, those of a mapped file too; physical footprint {human(max(seen), 'bytes')}"
    return Figure(resident.value, note, resident.source)


def peak_rss(traces: Sequence[Trace], span: Span | None = None, max_rss_bytes: float | None = None) -> Figure:
    """Return the highest resident memory of the runner in bytes, pages of a mapped model file included.

    `max_rss_bytes` is the kernel's own peak of the whole process, for the whole run; a span has samples only.
    """
    samples = [s.values if span is None else s.inside(span) for s in channels.runner_rss(traces)]
    seen = [float(values.max()) for values in samples if len(values)]
    if max_rss_bytes:
        return Figure(max([max_rss_bytes, *seen]), source="kernel")
    return (
        Figure(max(seen), source="samples") if seen else Figure(None, "the runner's memory was not sampled", "samples")
    )


def engine_memory(memory: Mapping[str, int], artifact: Artifact) -> dict[str, Figure]:
    """Return what the engine allocated for the model and the KV cache; the file's own figure where it does not say."""
    model, cache = memory.get("model_bytes"), memory.get("kv_cache_bytes")
    if model is not None:
        model_figure = Figure(float(model))
    elif artifact.weight_bytes is not None:
        model_figure = Figure(float(artifact.weight_bytes), "bytes of its tensors in the file", "model file")
    else:
        model_figure = Figure(None, NOT_REACHED)
    return {
        "model_bytes": model_figure,
        "kv_cache_bytes": Figure(None, "the engine did not say") if cache is None else Figure(float(cache)),
    }
