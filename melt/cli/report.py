"""`melt report`: runs as a page that opens offline, in one file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from melt.cli._grid import add_grid_argument, reckoned
from melt.cli._left_out import left_out_by, say_left_out, without_profiles
from melt.cli._storeargs import (
    add_selection_arguments,
    add_store_argument,
    number_of,
    open_store,
    selection_from_args,
)

if TYPE_CHECKING:
    from melt.analysis.history import Series
    from melt.analysis.policy import Policy
    from melt.records.quality import Quality
    from melt.store.selection import Selection
    from melt.store.store import Store
    from melt.traces import RunBundle

NAME = "report"
HELP = "write runs as one HTML page: summary, trade-offs, timelines, conditions, doubts; opens offline"

_FILTERS = ("sweep", "device", "model", "quant", "workload", "engine", "outcome", "verdict", "tag", "since", "limit")

_STDOUT = Path("-")
_HISTORY_RUNS = 2000
"""Of each device, at most: a year of nights with five cells."""
_NIGHTS = 14


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        default=Path("report.html"),
        help="- for stdout (default: report.html)",
    )
    parser.add_argument(
        "--timelines",
        metavar="N",
        type=number_of("runs"),
        help="how many runs have a timeline, the newest of each cell first (default: up to 60, as long as these take"
        " less than 6 MiB)",
    )
    parser.add_argument(
        "--points",
        metavar="N",
        type=number_of("points"),
        help="at most so many points a line of a timeline, peaks kept (default: 1500)",
    )
    add_grid_argument(parser)
    add_store_argument(parser)
    add_selection_arguments(parser)
    parser.epilog = "Without filters the newest sweep is reported."


def run(args: argparse.Namespace) -> int:
    """Write the page and say on stderr where it is. Raises UsageError, StoreError."""
    from melt import __version__
    from melt.report.charts.output import page_script
    from melt.report.page.assemble import Head, page_html
    from melt.report.page.fronts import fronts
    from melt.report.page.nights import judge_newest
    from melt.report.page.runs import when
    from melt.report.page.summary import summarize_runs
    from melt.report.page.timelines import MOST_POINTS, timelines
    from melt.store.files import whole_file
    from melt.units import counted, human

    with open_store(args) as store:
        if all(getattr(args, name) is None for name in _FILTERS) and store.count():
            args.sweep = "last"
        selection = without_profiles(selection_from_args(args, store), store)
        left_out = left_out_by(selection, store)
        bundles = reckoned(args, store.bundles(selection))
        say_left_out(left_out)
        lines = timelines(bundles, partial(_with_traces, store), args.timelines, args.points or MOST_POINTS)
        pictures = fronts(bundles, _qualities(store, bundles))
        nights = judge_newest(bundles, _histories(store, bundles), _policy(store))
    head = Head(_in_words(args, selection), when(time.time_ns()), __version__, left_out)
    page = page_html(head, bundles, summarize_runs(bundles), pictures, lines, nights, page_script).encode()
    if args.output == _STDOUT:
        sys.stdout.buffer.write(page)
    else:
        with whole_file(args.output) as out:
            out.write(page)
    told = f"{counted(len(bundles), 'run')}, {counted(len(lines.packed), 'timeline')}"
    where = "the page" if args.output == _STDOUT else args.output
    print(f"melt: wrote {where}: {told}, {human(float(len(page)), 'bytes')}", file=sys.stderr)
    return 0


def _with_traces(store: Store, bundle: RunBundle) -> RunBundle:
    run_id = bundle.start.spec.run_id
    return replace(bundle, traces=tuple(store.trace(run_id, name) for name in store.collectors(run_id)))


def _histories(store: Store, bundles: Sequence[RunBundle]) -> list[Series]:
    """Return what the store knows of the series of these runs, from the newest runs of each device."""
    from melt.analysis.history import histories, series_id
    from melt.store.selection import Selection

    wanted = {series_id(bundle.start) for bundle in bundles}
    devices = {bundle.start.device.device_id for bundle in bundles}
    return [
        series
        for device in sorted(devices)
        for series in histories(*store.briefs(Selection(device=device, limit=_HISTORY_RUNS)), wanted)
    ]


def _policy(store: Store) -> Policy:
    """Judge as `melt regress` does by itself."""
    from melt.analysis.policy import Baseline, Policy
    from melt.store.acknowledged import acknowledgements

    return Policy(baseline=Baseline(f"the last {_NIGHTS} good nights", _NIGHTS), acknowledged=acknowledgements(store))


def _qualities(store: Store, bundles: Sequence[RunBundle]) -> dict[str, list[Quality]]:
    """Return what is known of the model files of some runs, by sha256."""
    from melt.store.quality import qualities_of

    return {sha256: qualities_of(store, sha256) for sha256 in {bundle.start.artifact.sha256 for bundle in bundles}}


def _in_words(args: argparse.Namespace, selection: Selection) -> str:
    """Say which runs were asked for."""
    asked = [f"{name} {value}" for name in _FILTERS if (value := getattr(args, name)) is not None and name != "sweep"]
    if selection.sweep is not None:
        asked.insert(0, f"sweep {selection.sweep}")
    if args.only_valid:
        asked.append("only valid runs")
    return ", ".join(asked) or "all runs"
