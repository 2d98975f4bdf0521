"""`melt compare`: runs side by side, or one selection judged against another."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from melt.cli._grid import add_grid_argument, reckoned
from melt.cli._judgeargs import add_judge_arguments, allowed_of, thresholds_of
from melt.cli._left_out import left_out_by, say_left_out, say_without_figures, without_profiles
from melt.cli._storeargs import add_selection_arguments, add_store_argument, open_store, selection_from_args
from melt.errors import UsageError
from melt.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.store.selection import Selection
    from melt.store.selectors import Selector
    from melt.store.store import Store
    from melt.traces import Figures, RunBundle

NAME = "compare"
HELP = "set runs side by side; or judge B against A: regressed, improved, unchanged"

_BY = (
    *("device", "model", "quant", "engine", "threads", "workload", "conditions"),
    *("power_mode", "os_build", "engine_revision", "melt_version", "sweep"),
)
_FORMATS = ("table", "md", "json", "jsonl", "csv")
_FILTERS = ("sweep", "device", "model", "quant", "workload", "engine", "outcome", "verdict", "tag", "since", "limit")
_LONGEST_LABEL = 16
_EPILOG = """\
Without A and B, runs stand side by side in columns; without filters, those of the newest sweep.

A and B select runs: run: sweep: tag: commit: device: model: quant: engine: os: workload: plan: melt: and a value,
joined by commas, or a bare word that only one thing in the store is called. Filters hold for both.

examples:
  melt compare last~1 last
  melt compare quant:q8_0 quant:q4_0 --sweep last
  melt compare tag:baseline,device:orin last --allow-differing os_build
  melt compare engine:b6400 engine:b6500 --threshold decode_tps=2%

exit status: 0 B is no worse, as far as can be told; 1 something regressed; 2 wrong usage, or unlike things
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument("sides", metavar="SELECTION", nargs="*", help="A and B, to judge B against A")
    parser.add_argument("--by", choices=_BY, help="what the columns are (default: quant)")
    parser.add_argument("-o", "--output", choices=_FORMATS, default="table", help="form (default: table)")
    judge = parser.add_argument_group("judgement of B against A")
    add_judge_arguments(judge, "3%% of rates, docs/metrics.md has the others")
    add_grid_argument(parser)
    add_selection_arguments(parser)
    add_store_argument(parser)
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Print the comparison. Raises UsageError when no run matches, IncomparableError for unlike ones."""
    if args.sides:
        return _judge(args)
    if args.threshold or args.allow_differing:
        raise UsageError("--threshold and --allow-differing are for judging B against A: name two selections")
    return _side_by_side(args)


def _side_by_side(args: argparse.Namespace) -> int:
    from melt.analysis.compare import compare
    from melt.report.comparison import render

    with open_store(args) as store:
        if all(getattr(args, name) is None for name in _FILTERS):
            args.sweep = "last"
        selection = without_profiles(selection_from_args(args, store), store)
        bundles, figures = _runs(args, store, selection)
        doubtful = left_out_by(selection, store)
        if not bundles and doubtful:
            raise UsageError(f"no valid run matches (left out: {doubtful}): without --only-valid they are compared")
        if not bundles:
            raise UsageError("no run matches: `melt runs` lists what there is")
        if selection.sweep is not None:
            print(f"comparing {counted(len(bundles), 'run')} of sweep {selection.sweep}", file=sys.stderr)
        comparison = compare(bundles, by=args.by or "quant", figures=figures)
    say_left_out(doubtful)
    say_without_figures(bundles)
    print(render(comparison, args.output), end="")
    return 0


def _runs(args: argparse.Namespace, store: Store, selection: Selection) -> tuple[list[RunBundle], Figures | None]:
    """Return the runs in brief with the store's columns; whole, with the figures in them, where those change."""
    if args.grid is None:
        return store.briefs(selection)
    return reckoned(args, store.bundles(selection)), None


def _judge(args: argparse.Namespace) -> int:
    from melt.analysis.ab import THRESHOLDS, Change
    from melt.analysis.pairs import ALLOWABLE, compare_ab
    from melt.report.ab import render_ab
    from melt.store.selectors import compared, resolve_selector

    if len(args.sides) != 2:
        raise UsageError(f"B is judged against A: name two selections, found {len(args.sides)}")
    if args.by is not None:
        raise UsageError("--by sets columns side by side, A and B are judged: give one or the other")
    thresholds = {**THRESHOLDS, **thresholds_of(args.threshold)}
    allowed = allowed_of(args.allow_differing, ALLOWABLE)
    with open_store(args) as store:
        filters = selection_from_args(args, store)
        chosen = [resolve_selector(store, text, filters) for text in args.sides]
        chosen = [replace(one, selection=without_profiles(one.selection, store)) for one in chosen]
        a, b = (reckoned(args, store.bundles(one.selection)) for one in chosen)
        for one in chosen:
            say_left_out(left_out_by(one.selection, store))
    _check_apart(a, b)
    say_without_figures([*a, *b])
    comparison = compare_ab(
        a, b, labels=_labels(chosen), free=compared(*chosen), allowed=allowed, thresholds=thresholds
    )
    print(render_ab(comparison, (chosen[0].text, chosen[1].text), args.output), end="")
    return int(comparison.change is Change.REGRESSED)


def _labels(chosen: Sequence[Selector]) -> tuple[str, str]:
    """Head columns with what was asked for, where that is short."""
    a, b = (one.text for one in chosen)
    return (a, b) if max(len(a), len(b)) <= _LONGEST_LABEL else ("A", "B")


def _check_apart(a: Sequence[RunBundle], b: Sequence[RunBundle]) -> None:
    both = {one.start.spec.run_id for one in a} & {one.start.spec.run_id for one in b}
    if both:
        shared = f"{counted(len(both), 'run')}, {min(both)} for one"
        raise UsageError(f"A and B share {shared}: what is compared with itself tells nothing")
