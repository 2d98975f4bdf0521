"""`melt paper`: runs in the tables and units of the MELT paper."""

from __future__ import annotations

import argparse
import sys

from melt.cli._left_out import left_out_by, say_left_out, without_profiles
from melt.cli._storeargs import add_selection_arguments, add_store_argument, open_store, selection_from_args

NAME = "paper"
HELP = "runs in the units of the MELT paper: mWh and mAh per token, mean and standard deviation"

_FORMATS = ("table", "md", "csv", "json", "jsonl")
_FILTERS = ("sweep", "device", "model", "quant", "workload", "engine", "outcome", "verdict", "tag", "since", "limit")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument("-o", "--output", choices=_FORMATS, default="table", help="form (default: table)")
    add_selection_arguments(parser)
    add_store_argument(parser)
    parser.epilog = "Without filters the newest sweep is taken. plans/melt-paper.yaml is the paper's own experiment."


def run(args: argparse.Namespace) -> int:
    """Print the table. Raises UsageError when no run matches, StoreError."""
    from melt.analysis.paper import paper_table
    from melt.errors import UsageError
    from melt.report.paper import render_paper
    from melt.store.quality import qualities_of

    with open_store(args) as store:
        if all(getattr(args, name) is None for name in _FILTERS):
            args.sweep = "last"
        selection = without_profiles(selection_from_args(args, store), store)
        bundles = store.bundles(selection)
        say_left_out(left_out_by(selection, store))
        files = dict.fromkeys(bundle.start.artifact.sha256 for bundle in bundles)
        qualities = [quality for sha256 in files for quality in qualities_of(store, sha256)]
    if not bundles:
        raise UsageError("no run matches: `melt runs` lists what there is")
    table = paper_table(bundles, qualities)
    if not table.rows:
        print("melt: none of these runs has figures that may be believed", file=sys.stderr)
    print(render_paper(table, args.output), end="")
    return 0 if table.rows else 1
