"""`melt quality`: how much of a model's quality each quantization level keeps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from melt.cli._adbargs import add_adb_argument
from melt.cli._bars import progress_bars
from melt.cli._storeargs import add_store_argument, at_least, store_root
from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.models.files import Progress
    from melt.quality.places import Place
    from melt.quality.tasks import Task
    from melt.quality.text import Text
    from melt.records import Artifact
    from melt.report.quality import Lacking

NAME = "quality"
HELP = "evaluate quantization levels: perplexity, KL divergence, agreement, multiple choice"

_FORMATS = ("table", "md", "json", "jsonl", "csv")
_NO_REFERENCE = "none"
_EPILOG = """\
Without --text and --tasks a text and 50 questions that travel with melt are used: good for comparing levels and for
trials. What the store holds already is not computed again; what was cut short goes on. With --device the files are
scored there, and what was begun goes on while the link is broken or melt is gone. Of an ONNX model the outputs are held
against those of the model as published. docs/quality.md defines all figures.

examples:
  melt quality smollm2-135m-instruct -q q8_0,q4_k_m,q2_k --text wiki.test.raw --chunks 40
  melt quality smollm2-135m-instruct -q q4_0 --device adb:SERIAL --chunks 8
  melt quality magika -q all --inputs files.npz
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument("model", metavar="MODEL", help="name from the catalogue, path of a GGUF or ONNX file, or hf://")
    parser.add_argument("-q", "--quant", metavar="LEVELS", help="levels, as `melt models quantize` takes them")
    parser.add_argument(
        "--reference",
        metavar="LEVEL",
        help=f"level that KL divergence is against, or {_NO_REFERENCE} (default: the file as published)",
    )
    parser.add_argument("--device", metavar="DEVICE", default="local", help="where to score (default: this machine)")
    parser.add_argument("--text", metavar="FILE", help="UTF-8 text to score, wiki.test.raw for one")
    parser.add_argument(
        "--tasks",
        metavar="FILE",
        action="append",
        default=[],
        help="questions as JSON lines, in lm-evaluation-harness's form (may be repeated)",
    )
    parser.add_argument("--ctx", metavar="N", type=at_least(8), default=512, help="tokens of a chunk (default: 512)")
    parser.add_argument("--chunks", metavar="N", type=at_least(1), help="only the first N chunks of the text")
    parser.add_argument(
        "--inputs",
        metavar="FILE",
        action="append",
        default=[],
        help="of ONNX models: .npz of inputs, samples along a leading axis, `labels` beside them where there are any "
        "(may be repeated; default: made up)",
    )
    parser.add_argument("--samples", metavar="N", type=at_least(1), help="only the first N inputs (made up: 32)")
    parser.add_argument("--threads", metavar="N", type=at_least(1), help="threads (default: by the model's size)")
    parser.add_argument("-o", "--output", choices=_FORMATS, default="table", help="form (default: table)")
    add_adb_argument(parser)
    add_store_argument(parser)
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; 1 where a level could not be evaluated.

    Raises UsageError, ModelError, EngineError, DeviceError, StoreError.
    """
    from melt.errors import MeltError
    from melt.models.formats import format_of

    if format_of(args.model) == "onnx":
        from melt.cli._quality_outputs import run_outputs

        return run_outputs(args)
    if args.inputs or args.samples:
        raise UsageError("--inputs and --samples are for ONNX models: a GGUF is scored on --text and --tasks")
    from melt.quality.evaluate import evaluate_task, evaluate_text
    from melt.report.quality import Lacking, render_quality
    from melt.store.store import Store

    text, tasks = _datasets(args)
    lacking: list[Lacking] = []

    def lack(dataset: str) -> Callable[[Artifact, MeltError], None]:
        return lambda file, error: lacking.append(Lacking(args.model, file.quant, dataset, str(error)))

    with (
        Store.open(store_root(args)) as store,
        progress_bars(tenths=True) as progress,
        _place(args.device, progress) as place,
    ):
        reference, artifacts = _files(args, progress, lacking)
        found = []
        if text is not None:
            done = evaluate_text(
                store,
                artifacts,
                text,
                reference=reference,
                n_ctx=args.ctx,
                max_chunks=args.chunks,
                threads=args.threads,
                progress=progress,
                place=place,
                failed=lack(text.name),
            )
            found.append(done)
        found += [
            evaluate_task(
                store, artifacts, task, threads=args.threads, progress=progress, place=place, failed=lack(task.name)
            )
            for task in tasks
        ]
    known = [one.quality for done in found for one in done if one.known]
    for quality in known:
        level = quality.artifact.quant or quality.artifact.name
        print(f"melt: {level} on {quality.method.dataset}: known from before", file=sys.stderr)
    datasets = [[one.quality for one in done] for done in found]
    print(render_quality(datasets, [quality.quality_id for quality in known], args.output, lacking), end="")
    return 1 if lacking else 0


@contextmanager
def _place(selector: str, progress: Progress) -> Iterator[Place]:
    """Give where models are scored; a device is held meanwhile. Raises UsageError, EngineError, DeviceError."""
    from melt.quality.places import Here
    from melt.transports.registry import resolve

    selector = resolve(selector)
    if selector == "local":
        yield Here()
        return
    from melt.cli._interrupt import stop_on_interrupt
    from melt.fleet.lease import lease
    from melt.quality.places import reached_place

    with ExitStack() as held:
        stop = held.enter_context(stop_on_interrupt("stopping; what was scored is kept"))
        place = held.enter_context(reached_place(selector, progress, stop))
        held.enter_context(lease(place.device.device_id, place.device.name))
        yield place


def _datasets(args: argparse.Namespace) -> tuple[Text | None, list[Task]]:
    """Return the text and the tasks that are meant; read before any model is fetched."""
    from melt.quality.tasks import read_task, shipped_task
    from melt.quality.text import find_text, shipped_text

    if args.text is None and not args.tasks:
        return shipped_text(), [shipped_task()]
    return None if args.text is None else find_text(args.text), [read_task(path) for path in args.tasks]


def _files(
    args: argparse.Namespace, progress: Progress, lacking: list[Lacking]
) -> tuple[Artifact | None, list[Artifact]]:
    """Return the reference and the files to evaluate, the reference first and each once; note levels without a file."""
    from melt.errors import ModelError
    from melt.models.ggml import find_level
    from melt.models.levels import select_levels
    from melt.models.library import Library
    from melt.report.quality import Lacking

    # All names are checked before the first level costs minutes.
    levels: list[str | None] = [one.name for one in select_levels(args.quant)] if args.quant else [None]
    library, reference = Library(), None
    library.pull(args.model, progress=progress)
    if args.reference != _NO_REFERENCE:
        level = None if args.reference is None else find_level(args.reference).name
        reference = library.resolve(args.model, level, progress=progress)
    files = []
    for level in levels:
        try:
            files.append(library.resolve(args.model, level, progress=progress))
        except ModelError as error:
            lacking.append(Lacking(args.model, level, None, str(error)))
    wanted = files if reference is None else [reference, *files]
    return reference, list({artifact.sha256: artifact for artifact in wanted}.values())
