"""`melt show`: one run in full."""

from __future__ import annotations

import argparse
from dataclasses import replace

from melt.cli._grid import add_grid_argument, reckoned
from melt.errors import UsageError
from melt.cli._storeargs import add_store_argument, open_store

NAME = "show"
HELP = "show a run in full: conditions, metrics, repetitions, reasons, evidence"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument(
        "run_id", metavar="RUN", nargs="?", default="last", help='its id, the beginning of it, or "last"'
    )
    parser.add_argument(
        "--evidence",
        action="store_true",
        help="also what a run that is not ok has left: its exit, samples of its last seconds, stderr, logs",
    )
    parser.add_argument(
        "--plot",
        action="store_true",
        help="draw it instead: throughput, temperatures, clocks, power and throttling over time",
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "md", "json"), default="table", help="form (default: table)"
    )
    add_grid_argument(parser)
    add_store_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the run. Raises UsageError for an id that is none."""
    from melt.report.run import render_run

    if args.plot and (args.output != "table" or args.evidence):
        raise UsageError("--plot draws a run instead of telling it: leave out -o and --evidence")
    with open_store(args) as store:
        (bundle,) = reckoned(args, [store.bundle(args.run_id)])
        if args.plot or (args.evidence and bundle.stop.evidence):
            run_id = bundle.start.spec.run_id
            bundle = replace(bundle, traces=tuple(store.trace(run_id, name) for name in store.collectors(run_id)))
    if args.plot:
        from melt.cli._plot import style_of_stdout
        from melt.report.plot import render_plot

        print(render_plot(bundle, style_of_stdout()), end="")
    else:
        print(render_run(bundle, args.output, evidence=args.evidence), end="")
    return 0
