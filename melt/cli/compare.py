"""`melt compare`: runs side by side."""

from __future__ import annotations

import argparse
import sys

from melt.cli._grid import add_grid_argument, reckoned
from melt.cli._left_out import left_out_by, say_left_out, say_without_figures
from melt.cli._storeargs import add_selection_arguments, add_store_argument, open_store, selection_from_args

NAME = "compare"
HELP = "set runs side by side: medians of sessions, spread, difference from the first column"

_BY = (
    *("device", "model", "quant", "engine", "threads", "workload", "conditions"),
    *("power_mode", "os_build", "engine_revision", "melt_version", "sweep"),
)
_FORMATS = ("table", "md", "json", "jsonl", "csv")
_FILTERS = ("sweep", "device", "model", "quant", "workload", "engine", "outcome", "verdict", "tag", "since", "limit")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument("--by", choices=_BY, default="quant", help="what the columns are (default: quant)")
    parser.add_argument("-o", "--output", choices=_FORMATS, default="table", help="form (default: table)")
    add_grid_argument(parser)
    add_selection_arguments(parser)
    add_store_argument(parser)
    parser.epilog = "Without filters the newest sweep is compared."


def run(args: argparse.Namespace) -> int:
    """Print the comparison. Raises UsageError when no run matches, IncomparableError for unlike ones."""
    from melt.analysis.compare import compare
    from melt.errors import UsageError
    from melt.report.comparison import render

    with open_store(args) as store:
        if all(getattr(args, name) is None for name in _FILTERS):
            args.sweep = "last"
        selection = selection_from_args(args, store)
        bundles = reckoned(args, store.bundles(selection))
        doubtful = left_out_by(selection, store)
    if not bundles and doubtful:
        raise UsageError(f"no valid run matches (left out: {doubtful}): without --only-valid they are compared")
    if not bundles:
        raise UsageError("no run matches: `melt runs` lists what there is")
    if selection.sweep is not None:
        runs = "one run" if len(bundles) == 1 else f"{len(bundles)} runs"
        print(f"comparing the {runs} of sweep {selection.sweep}", file=sys.stderr)
    comparison = compare(bundles, by=args.by)
    say_left_out(doubtful)
    say_without_figures(bundles)
    print(render(comparison, args.output), end="")
    return 0
