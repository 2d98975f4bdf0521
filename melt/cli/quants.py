"""`melt quants`: which quantization level of a model to take on a device."""

from __future__ import annotations

import argparse
from pathlib import Path

from melt.cli._adbargs import add_adb_argument
from melt.cli._bars import progress_bars
from melt.cli._limits import add_limit_arguments, limits_from_args
from melt.cli._quants_plan import add_quants_plan_arguments, asked_runs
from melt.cli._storeargs import add_store_argument, at_least

NAME = "quants"
HELP = "which quantization level to take on a device: speed, memory, energy, heat and quality side by side"

_FORMATS = ("table", "md", "json", "csv")
_EPILOG = """\
Levels are made, run on the device and evaluated here as far as the store does not have them; given again, the command
takes what it has and goes on where it was stopped. docs/quants.md says how the recommendation comes about.

examples:
  melt quants smollm2-135m-instruct --min-tps 10 --max-memory 3GB --max-quality-loss 2%
  melt quants hf://owner/repo/model-f16.gguf --device R5CT1234 --picture levels.html
  melt quants smollm2-135m-instruct --from-store --max-size 100MB

exit status: as that of `melt run`
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument("model", metavar="MODEL", help="name from the catalogue, path of a GGUF file, or hf:// address")
    add_limit_arguments(parser)
    add_quants_plan_arguments(parser)
    quality = parser.add_argument_group("quality", "Evaluated on this machine, against the file as it was published.")
    quality.add_argument("--text", metavar="FILE", help="UTF-8 text to score (default: one that travels with melt)")
    quality.add_argument("--tasks", metavar="FILE", help="questions as JSON lines (default: 50 that travel with melt)")
    quality.add_argument("--ctx", metavar="N", type=at_least(8), default=512, help="tokens of a chunk (default: 512)")
    quality.add_argument("--chunks", metavar="N", type=at_least(1), help="only the first N chunks of the text")
    quality.add_argument(
        "--quality-threads", metavar="N", type=at_least(1), help="threads here (default: by the model's size)"
    )
    parser.add_argument(
        "--from-store", action="store_true", help="only with what the store has: run and evaluate nothing"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the runs and their time; measure nothing")
    parser.add_argument("-o", "--output", choices=_FORMATS, default="table", help="form (default: table)")
    parser.add_argument(
        "--picture", metavar="FILE", type=Path, help="draw quality against decode rate: FILE.svg, .png or .html"
    )
    add_adb_argument(parser)
    add_store_argument(parser)
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Measure what is missing and print. Returns 1 when a run did not end as asked.

    Raises UsageError, ModelError, StoreError, DeviceError.
    """
    from melt.cli._quants_quality import Datasets
    from melt.cli._quants_table import check_picture, draw, make_table
    from melt.cli._quants_work import look_up, make_levels, measure
    from melt.cli.run import print_dry_run
    from melt.models.library import Library
    from melt.report.quants import render_levels

    limits = limits_from_args(args)
    datasets = Datasets.of(args)
    if args.picture is not None:
        check_picture(args.picture)
    asked = asked_runs(args)
    library = Library()
    if args.dry_run:
        return print_dry_run(asked.specs, library, args)
    with progress_bars() as progress:
        origin, levels = make_levels(args.model, asked, library, progress, only_made=args.from_store)
    measured = look_up(args, asked, levels) if args.from_store else measure(args, asked, levels, library)
    evaluated = datasets.evaluate(args, origin, levels, only_known=args.from_store or not measured.complete)
    table = make_table(args, asked, origin, levels, measured, evaluated, limits)
    if args.picture is not None:
        draw(table, args.picture)
    print(render_levels(table, args.output), end="")
    return measured.status
