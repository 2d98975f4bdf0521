"""`melt quality` of an ONNX model: how far the outputs of its levels drift from the reference's."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from melt.cli._bars import progress_bars
from melt.cli._storeargs import store_root
from melt.errors import MeltError, ModelError, UsageError

if TYPE_CHECKING:
    from melt.models.files import Progress
    from melt.records import Artifact
    from melt.report.quality import Lacking

_OF_GGUF: dict[str, object] = {"text": None, "tasks": [], "chunks": None}


def run_outputs(args: argparse.Namespace) -> int:
    """Compare and print; 1 where a level could not be compared. Raises UsageError, ModelError, StoreError."""
    from melt.models.levels import level_names
    from melt.models.onnx_quantize import calibration_inputs
    from melt.quality.outputs import evaluate_outputs
    from melt.report.quality import Lacking, render_quality
    from melt.store.store import Store

    _check(args)
    names = level_names("onnx", args.quant) if args.quant else (None,)
    inputs = calibration_inputs(args.inputs) if args.inputs else None
    lacking: list[Lacking] = []

    def lack(file: Artifact, error: MeltError) -> None:
        lacking.append(Lacking(args.model, file.quant, None, str(error)))

    with Store.open(store_root(args)) as store, progress_bars(tenths=True) as progress:
        reference, files = _files(args, names, progress, lacking)
        done = evaluate_outputs(
            store,
            files,
            reference,
            inputs,
            n_samples=args.samples,
            threads=args.threads,
            progress=progress,
            failed=lack,
        )
    known = [one.quality for one in done if one.known]
    for quality in known:
        level = quality.artifact.quant or quality.artifact.name
        print(f"melt: {level} on {quality.method.dataset}: known from before", file=sys.stderr)
    if inputs is None:
        print(
            "melt: the inputs are made up: good for seeing that a level computes alike; give real ones with --inputs "
            "for what it is worth",
            file=sys.stderr,
        )
    qualities = [one.quality for one in done]
    print(render_quality([qualities], [quality.quality_id for quality in known], args.output, lacking), end="")
    return 1 if lacking else 0


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError for flags that mean nothing here."""
    if given := [f"--{name}" for name, nothing in _OF_GGUF.items() if getattr(args, name) != nothing]:
        raise UsageError(f"{', '.join(given)}: for models that score text; outputs of an ONNX model take --inputs")
    if args.device != "local":
        raise UsageError("--device: outputs of ONNX models are compared on this machine: leave it out")
    if args.reference == "none":
        raise UsageError("--reference none: the drift of outputs is from something: name a level, or leave it out")


def _files(
    args: argparse.Namespace, names: tuple[str | None, ...], progress: Progress, lacking: list[Lacking]
) -> tuple[Artifact, list[Artifact]]:
    """Return the reference, and it and the levels, each once; note the levels that cannot be made."""
    from melt.models.library import Library
    from melt.report.quality import Lacking

    library = Library()
    reference = library.resolve(args.model, args.reference, progress=progress)
    files = [reference]
    for name in names:
        try:
            files.append(library.resolve(args.model, name, progress=progress))
        except ModelError as error:
            lacking.append(Lacking(args.model, name, None, str(error)))
    return reference, list({artifact.sha256: artifact for artifact in files}.values())
