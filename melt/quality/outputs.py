"""How far the outputs of an ONNX model's levels drift from the reference's, on the same inputs and this machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melt import __version__
from melt.analysis.quality import output_figures
from melt.codec import dumps
from melt.errors import EngineError, ModelError
from melt.models.digest import sha256_of
from melt.models.files import Progress
from melt.models.onnx_quantize import Calibration, made_up_dims
from melt.quality.evaluate import Evaluation, Failed
from melt.quality.places import this_machine
from melt.quality.worker import run_program
from melt.records import Artifact
from melt.records.quality import Quality, QualityMethod
from melt.store.files import locked, store_error
from melt.store.quality import find_qualities, keep_quality
from melt.store.store import Store

N_MADE_UP = 32
"""Samples that are made up where no inputs are given."""

MADE_UP = "made-up inputs"

_ENGINE = "onnxruntime"
_RUNNER = "onnx_quality.py"


@dataclass(slots=True)
class _Seen:
    """What the worker said of the models, by their place in the job."""

    class_output: str | None = None
    samples: dict[int, list[Mapping[str, Any]]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


def evaluate_outputs(
    store: Store,
    artifacts: Sequence[Artifact],
    reference: Artifact,
    inputs: Calibration | None,
    *,
    n_samples: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    failed: Failed | None = None,
) -> list[Evaluation]:
    """Compare the outputs of files with the reference's and return their quality in their order; the store has it then.

    Without `inputs` they are made up. A file that cannot be run is told to `failed` and left out; without a `failed` it
    ends all. Raises ModelError, EngineError, StoreError.
    """
    device = this_machine()
    method = _method(reference, inputs, n_samples)
    ids = {a.sha256: _digest(a.sha256, dumps(_nameless(method)), device.device_id) for a in (reference, *artifacts)}
    try:
        store.layout.quality.mkdir(exist_ok=True)
    except OSError as error:
        raise store_error("make", store.layout.quality, error) from error
    say = progress or (lambda *_: None)
    with locked(store.layout.quality, lambda: say("waiting for another melt that evaluates into this store", 0, 0)):
        known = find_qualities(store, list(ids.values()))
        missing = [a for a in artifacts if ids[a.sha256] not in known]
        if missing:
            # The reference goes first, and is not compared twice.
            group = [reference, *(a for a in missing if a.sha256 != reference.sha256)]
            seen = _run(group, inputs, n_samples, threads, say)
            for index, artifact in enumerate(group):
                if index in seen.failures:
                    reason = ModelError(f"{artifact.name} {artifact.quant or ''}: {seen.failures[index]}")
                    if failed is None:
                        raise reason
                    failed(artifact, reason)
                    continue
                if sha256_of(Path(artifact.path)) != artifact.sha256:
                    raise ModelError(f"{artifact.path} was changed while it was evaluated: start again")
                figures = output_figures(seen.samples[index], seen.class_output, reference=index == 0)
                kept = Quality(
                    quality_id=ids[artifact.sha256],
                    artifact=artifact,
                    method=method,
                    device=device,
                    engine_revision=None,
                    evaluated_utc_ns=time.time_ns(),
                    melt_version=__version__,
                    outputs=figures,
                )
                keep_quality(store, kept)
        found = find_qualities(store, list(ids.values()))
    return [Evaluation(found[id_], id_ in known) for a in artifacts if (id_ := ids[a.sha256]) in found]


def _method(reference: Artifact, inputs: Calibration | None, n_samples: int | None) -> QualityMethod:
    try:
        version = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
    except importlib.metadata.PackageNotFoundError:
        raise EngineError("outputs are compared with onnxruntime: pip install 'melt[onnx]'") from None
    made_up = _digest(MADE_UP, json.dumps(sorted(reference.dims.items())))
    return QualityMethod(
        kind="outputs",
        dataset=MADE_UP if inputs is None else ", ".join(path.stem for path in inputs.paths),
        dataset_sha256=made_up if inputs is None else inputs.sha256,
        max_chunks=(n_samples or N_MADE_UP) if inputs is None else n_samples,
        reference_sha256=reference.sha256,
        engine=_ENGINE,
        engine_version=version,
    )


def _nameless(method: QualityMethod) -> dict[str, Any]:
    # A dataset under another name is the same dataset.
    return {name: getattr(method, name) for name in QualityMethod.__dataclass_fields__ if name != "dataset"}


def _run(
    group: Sequence[Artifact],
    inputs: Calibration | None,
    n_samples: int | None,
    threads: int | None,
    say: Progress,
) -> _Seen:
    """Have all files run on all samples in a process of its own. Raises ModelError, EngineError."""
    job = {
        "models": [artifact.path for artifact in group],
        "inputs": [str(path) for path in inputs.paths] if inputs is not None else [],
        "dims": made_up_dims(group[0], "--inputs FILE.npz") if inputs is None else {},
        "n_samples": (n_samples or N_MADE_UP) if inputs is None else n_samples,
        "threads": threads or os.cpu_count() or 1,
    }
    what, seen, total = f"comparing the outputs of {group[0].name}", _Seen(), 0
    for event in run_program(_RUNNER, job):
        if event["event"] == "error":
            raise ModelError(f"{group[0].name}: {event['message']}")
        if event["event"] == "size":
            seen.class_output, total = event["class_output"], event["total"] * len(group)
        elif event["event"] == "failed":
            seen.failures[event["model"]] = event["message"]
        elif event["event"] == "sample":
            seen.samples.setdefault(event["model"], []).append(event)
            say(what, sum(map(len, seen.samples.values())), total)
    return seen


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]
