"""What is known of a plan's models and engines before its runs are listed, and whether the one is for the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from melt.engines.registry import get as get_engine
from melt.models.catalog import Entry, LocalFile, find_source
from melt.models.formats import format_of
from melt.models.library import Library
from melt.plan.fitting import Fitting, Kind, check_dims
from melt.records import Artifact, RunSpec


def fitting(library: Library, *, fetch: bool) -> Fitting:
    """Return what the library knows of models. Only a file tells whether a model of ONNX generates tokens.

    `fetch` one that is not there yet; else that stays unknown. Raises ModelError when it is asked.
    """

    @cache
    def kind(model: str) -> Kind:
        if format_of(model) == "gguf":
            return Kind("gguf", generates=True)
        found = _look(library, model, fetch=fetch)
        if found is None:
            # None of ONNX in the catalogue generates.
            return Kind("onnx", False if isinstance(find_source(model), Entry) else None)
        return Kind("onnx", found.generative)

    return Fitting(kind, lambda engine: get_engine(engine).formats)


def check_inputs(specs: Sequence[RunSpec], library: Library, *, fetch: bool) -> None:
    """Raise UsageError where a workload's dimensions do not make the shapes of its models whole."""
    asked = dict.fromkeys((spec.workload.name, spec.model) for spec in specs if spec.workload.kind == "inference")
    models: dict[str, list[str]] = {}
    for name, model in asked:
        models.setdefault(name, []).append(model)
    by_name = {spec.workload.name: spec.workload for spec in specs}
    for name, of in models.items():
        artifacts = [_look(library, model, fetch=fetch) for model in of]
        check_dims(by_name[name], [artifact for artifact in artifacts if artifact is not None])


def _look(library: Library, model: str, *, fetch: bool) -> Artifact | None:
    is_here = isinstance(find_source(model), LocalFile)
    return library.resolve(model, None) if fetch or is_here else library.peek(model, None)
