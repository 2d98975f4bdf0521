"""`melt run`: measure what a plan or the flags ask for, show it coming, and print the comparison."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from melt.cli._adbargs import add_adb_argument
from melt.cli._interrupt import stop_on_interrupt
from melt.cli._left_out import say_without_figures
from melt.cli._planargs import add_plan_arguments, plan_from_args
from melt.cli._storeargs import add_store_argument, store_root

if TYPE_CHECKING:
    from melt.events import Observer
    from melt.fleet.sweep import Sweep
    from melt.models.library import Library
    from melt.records import Artifact, Outcome, RunSpec
    from melt.store.store import Store
    from melt.traces import RunBundle

NAME = "run"
HELP = "measure models by a plan or by flags, on this machine or a device"
EXIT_STATUS = """\
exit status: 0 when every run ended as asked: it was measured (ok), or found not to fit (oom) or not to be supported
(unsupported) while others were measured; 1 when one failed, was skipped, timed out, was lost or is missing, or when
nothing could be measured; 2 for wrong usage"""
FORMATS = ("table", "md", "json", "jsonl", "csv")
_EARLIER_RUNS = 500
"""How far back is looked for the time that a cell takes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.epilog = EXIT_STATUS
    add_plan_arguments(parser)
    add_adb_argument(parser)
    add_store_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the runs, their time and bytes; measure nothing")
    add_output_argument(parser)


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """Add `-o`, the form of what goes to stdout."""
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="form of the result (default: table)")


def run(args: argparse.Namespace) -> int:
    """Expand the plan and conduct it. Returns 1 when a run did not end as asked."""
    from melt.fleet.fitting import check_inputs, fitting
    from melt.fleet.names import check_names, resolve_devices
    from melt.models.library import Library
    from melt.plan.expand import expand
    from melt.plan.ids import new_id

    def note(text: str) -> None:
        print(f"note: {text}", file=sys.stderr)

    plan = resolve_devices(plan_from_args(args))
    sweep_id = new_id()
    library, fetch = Library(), not args.dry_run
    specs = expand(plan, sweep_id=sweep_id, new_run_id=new_id, fitting=fitting(library, fetch=fetch), note=note)
    check_names(specs)
    check_inputs(specs, library, fetch=fetch)

    from melt.fleet.pools import assign
    from melt.fleet.sweep import Sweep

    if args.dry_run:
        return print_dry_run(specs, library, args)
    specs, pools = assign(plan.devices, specs, note)
    return conduct_sweep(Sweep(sweep_id, specs, pools), library, args)


def conduct_sweep(
    sweep: Sweep,
    library: Library,
    args: argparse.Namespace,
    show: Callable[[Sequence[RunBundle], str], None] | None = None,
) -> int:
    """Recover what an earlier melt left, run what the sweep lacks, print the comparison of the whole sweep.

    `show` is told the runs and the form of the output in the place of `print_comparison`.
    """
    from melt.analysis.alike import IncomparableError
    from melt.cli._profile import print_profiles
    from melt.cli._progress import progress
    from melt.cli._sessions_text import what_sessions_told
    from melt.fleet.carry_out import carry_out
    from melt.fleet.sweep import held
    from melt.store.store import Store

    with (
        Store.open(store_root(args)) as store,
        held(store.root, sweep.sweep_id),
        stop_on_interrupt("stopping after what is being measured is safe") as stop,
    ):
        with progress(_earlier_rates(store)) as observe:
            done = carry_out(store, sweep, _resolver(library, observe), observe=observe, stop=stop)
        try:
            if any(spec.profile for spec in done.sweep.specs):
                print_profiles(store, done.bundles, args.output)
            else:
                (show or print_comparison)(done.bundles, args.output)
        except IncomparableError as error:
            print(f"melt: all runs are kept, but there is no table of them: {error}", file=sys.stderr)
        _say_order(done.bundles)
        for trouble in done.made_good:
            print(f"melt: {trouble}; an equal device did its runs", file=sys.stderr)
        if told := what_sessions_told(done.sweep.specs, done.settled):
            print(f"melt: {told}", file=sys.stderr)
        return _report(done.sweep, done.bundles, done.troubles, stop.is_set())


def _say_order(bundles: Sequence[RunBundle]) -> None:
    """Say how an order that was drawn can be had again."""
    specs = [bundle.start.spec for bundle in bundles]
    seed = next((spec.order_seed for spec in specs if spec.order_seed is not None), None)
    if seed is not None and len({spec.cell for spec in specs}) > 1:
        print(f"melt: the cells ran in random order; --order-seed {seed} repeats it", file=sys.stderr)


def _report(sweep: Sweep, bundles: Sequence[RunBundle], troubles: Sequence[Exception], stopped: bool) -> int:
    from melt.errors import UsageError
    from melt.fleet.sweep import MADE_ANEW

    for trouble in troubles:
        print(f"melt: {trouble}", file=sys.stderr)
    needed = {spec.run_id for spec in sweep.specs} - set(sweep.spared)
    bundles = [bundle for bundle in bundles if bundle.start.spec.run_id in needed]
    n_ended = sum(bundle.stop.outcome not in MADE_ANEW for bundle in bundles)
    if troubles and not bundles and all(isinstance(trouble, UsageError) for trouble in troubles):
        return UsageError.exit_code
    lacking = len(needed) - n_ended
    if lacking:
        why = "stopped" if stopped else "ended early"
        print(
            f"melt: {why}: {n_ended} of {len(needed)} runs are kept; go on with: melt resume {sweep.sweep_id}",
            file=sys.stderr,
        )
    return int(bool(lacking or troubles) or not ended_as_asked([b.stop.outcome for b in bundles]))


def ended_as_asked(outcomes: Collection[Outcome]) -> bool:
    """Whether every cell has its answer, one of them a measurement: not fitting, or not being supported, is one."""
    from melt.records import Outcome

    answers = (Outcome.OK, Outcome.OOM, Outcome.UNSUPPORTED)
    return all(outcome in answers for outcome in outcomes) and (not outcomes or Outcome.OK in outcomes)


def print_comparison(bundles: Sequence[RunBundle], fmt: str) -> None:
    """Print the runs side by side on stdout; nothing when there are none."""
    from melt.analysis.compare import compare
    from melt.report.comparison import render

    if bundles:
        comparison = compare(bundles, by=_natural_column(bundles))
        say_without_figures(bundles)
        print(render(comparison, fmt), end="")


def _natural_column(bundles: Sequence[RunBundle]) -> str:
    """Choose what the columns are: the first thing that differs, quantization levels before all else."""
    specs = [b.start.spec for b in bundles]
    candidates: tuple[tuple[str, Callable[[RunSpec], object]], ...] = (
        ("quant", lambda s: s.quant),
        ("model", lambda s: s.model),
        ("device", lambda s: s.device),
        ("engine", lambda s: s.engine),
        ("threads", lambda s: s.settings.threads),
    )
    for name, value in candidates:
        if len({value(spec) for spec in specs}) > 1:
            return name
    return "quant"


def print_dry_run(specs: Sequence[RunSpec], library: Library, args: argparse.Namespace) -> int:
    """Print what the runs would be, and the time and bytes that they take. Returns 0."""
    from melt.plan.estimate import estimate
    from melt.store.layout import Layout
    from melt.store.store import Store

    sizes = {(s.model, s.quant): library.expected_size_bytes(s.model, s.quant) for s in specs}
    earlier: dict[str, float] = {}
    if Layout(store_root(args)).database.exists():
        with Store.open(store_root(args), create=False) as store:
            earlier = _earlier_rates(store)
    print(estimate(specs, sizes, earlier).render(args.output), end="")
    return 0


def _earlier_rates(store: Store) -> dict[str, float]:
    """Map a cell's key to the seconds that one of its repetitions took before."""
    from melt.fleet.history import seconds_per_repetition
    from melt.store.selection import Selection

    return seconds_per_repetition(store.bundles(Selection(outcome="ok", limit=_EARLIER_RUNS)))


def _resolver(library: Library, observe: Observer) -> Callable[[str, str | None], Artifact]:
    from melt.events import Preparing

    def resolve(model: str, quant: str | None) -> Artifact:
        return library.resolve(model, quant, progress=lambda what, done, total: observe(Preparing(what, done, total)))

    return resolve
