"""`melt show`: one run in full."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from melt.cli._grid import add_grid_argument, reckoned
from melt.cli._storeargs import add_only_valid_argument, add_store_argument, open_store
from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.store.store import Store

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
        "--profile",
        action="store_true",
        help="where the time of a run under the profiler (`melt run --profile`) went: operators, parts of the model",
    )
    parser.add_argument(
        "--by",
        choices=("operator", "type", "part", "node", "backend"),
        help="with --profile: what the rows are, all of them",
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "md", "json"), default="table", help="form (default: table)"
    )
    add_only_valid_argument(parser)
    add_grid_argument(parser)
    add_store_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the run. Raises UsageError for an id that is none."""
    from melt.report.meter import METER_DOCUMENT
    from melt.report.run import render_run

    if args.plot and (args.output != "table" or args.evidence):
        raise UsageError("--plot draws a run instead of telling it: leave out -o and --evidence")
    if args.profile and (args.plot or args.evidence):
        raise UsageError("--profile shows the operators alone: leave out --plot and --evidence")
    if args.by and not args.profile:
        raise UsageError("--by is for the rows of a profile: give --profile too")
    with open_store(args) as store:
        (bundle,) = reckoned(args, [store.bundle(_valid_run(store, args.run_id) if args.only_valid else args.run_id)])
        run_id = bundle.start.spec.run_id
        if args.profile:
            from melt.cli._profile import print_profile

            return print_profile(store, bundle, args.output, args.by)
        if METER_DOCUMENT in store.attachments(run_id):
            document = store.attachment(run_id, METER_DOCUMENT).decode()
            bundle = replace(bundle, attachments={METER_DOCUMENT: document})
        if args.plot or (args.evidence and bundle.stop.evidence):
            bundle = replace(bundle, traces=tuple(store.trace(run_id, name) for name in store.collectors(run_id)))
    if args.plot:
        from melt.cli._plot import style_of_stdout
        from melt.report.plot import render_plot

        print(render_plot(bundle, style_of_stdout()), end="")
    else:
        print(render_run(bundle, args.output, evidence=args.evidence), end="")
    return 0


def _valid_run(store: Store, wanted: str) -> str:
    """Return the id of a run that nothing speaks against; "last" is the last of these. Raises UsageError."""
    from melt.store.selection import Selection

    chosen = Selection(only_valid=True, limit=1)
    if wanted != "last":
        chosen = replace(chosen, runs=(store.resolve(wanted),))
    found = store.run_ids(chosen)
    if not found:
        which = "no run in the store is valid" if wanted == "last" else f"run {wanted} is not valid"
        raise UsageError(f"{which}: without --only-valid `melt show` says what speaks against it")
    return found[0]
