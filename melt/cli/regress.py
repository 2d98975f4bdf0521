"""`melt regress`: judge a night by the nights before it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from melt.cli._judgeargs import add_judge_arguments, allowed_of, thresholds_of
from melt.cli._left_out import without_profiles
from melt.cli._storeargs import add_store_argument, open_store

if TYPE_CHECKING:
    from melt.analysis.history import Series
    from melt.analysis.nightly import Acceptable, NightReport, SeriesReport
    from melt.analysis.policy import Baseline, Policy
    from melt.store.store import Store

NAME = "regress"
HELP = "judge a night by the nights before it: regressed or not, for CI and cron"

_FORMATS = ("table", "md", "json")
_DEFAULT_BASELINE = "14-nights"
_EPILOG = """\
A night is a sweep; without SWEEP the newest one is judged. docs/nightly.md says how verdicts come about, and has
examples for GitHub Actions and cron.

examples:
  melt regress --junit regress.xml --markdown summary.md
  melt regress --baseline last-good --threshold decode_tps=3%
  melt regress --list
  melt regress --acknowledge 1f0c44aa --because 'new kernel, accepted in #120'

exit status: 0 nothing regressed; 1 something did, or was not measured, or cannot be compared with the nights before;
2 wrong usage
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "sweeps", metavar="SWEEP", nargs="*", help='the night: ids, beginnings of them, "last", "last~1"'
    )
    judge = parser.add_argument_group("judgement")
    judge.add_argument(
        "--baseline",
        metavar="WHAT",
        default=_DEFAULT_BASELINE,
        help="what it is held against: N-nights for the newest good ones, last-good, or a tag "
        f"(default: {_DEFAULT_BASELINE})",
    )
    add_judge_arguments(judge, "learnt from the nights before")
    files = parser.add_argument_group("output")
    files.add_argument("-o", "--output", choices=_FORMATS, default="table", help="form (default: table)")
    files.add_argument("--junit", metavar="FILE", type=Path, help="also write JUnit XML")
    files.add_argument("--markdown", metavar="FILE", type=Path, help="also write Markdown, for the summary of a CI job")
    files.add_argument("--json", metavar="FILE", type=Path, help="also write JSON")
    changes = parser.add_argument_group("changes")
    changes.add_argument("--list", action="store_true", help="list all changes in the history, and what became of them")
    changes.add_argument(
        "--acknowledge", metavar="ID", action="append", default=[], help="accept a change: later nights start from it"
    )
    changes.add_argument("--because", metavar="TEXT", help="why it is accepted")
    changes.add_argument("--withdraw", metavar="ID", help="take an acknowledgement back")
    which = parser.add_argument_group("filters")
    which.add_argument("--device", metavar="NAME", help="by name or id")
    which.add_argument("--model", metavar="NAME")
    which.add_argument("--quant", metavar="NAME", help='"none" for models without one')
    which.add_argument("--workload", metavar="NAME", help="as it is shown: pp512, tg128 @ d512")
    which.add_argument("--engine", metavar="NAME")
    add_store_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Judge, list, or accept. Raises UsageError."""
    from melt.errors import UsageError

    if bool(args.acknowledge) != (args.because is not None):
        raise UsageError("--acknowledge ID and --because 'TEXT' go together: who reads it later wants to know why")
    if args.because is not None and not (args.because.strip() and args.because.isprintable()):
        raise UsageError("--because wants a reason, on one line")
    with open_store(args) as store:
        if args.withdraw is not None:
            return _withdraw(store, args.withdraw)
        policy = _policy(args, store)
        series = _series(args, store)
        if args.acknowledge or args.list:
            return _on_changes(args, store, series, policy)
        from melt.analysis.nightly import judge_nights
        from melt.store.selection import Selection

        sweeps = [store.resolve_sweep(one) for one in args.sweeps or ["last"]]
        for sweep in sweeps:
            without_profiles(Selection(sweep=sweep), store)
        report = judge_nights(series, sweeps, policy)
    if not report.series:
        raise UsageError(f"no run of {', '.join(sweeps)} matches: `melt runs` lists what there is")
    return _tell(args, report)


def _tell(args: argparse.Namespace, report: NightReport) -> int:
    from melt.report.junit import junit_xml
    from melt.report.nightly import render_night

    print(render_night(report, args.output), end="")
    if args.junit is not None:
        _write(args.junit, junit_xml(report))
    for path, form in ((args.markdown, "md"), (args.json, "json")):
        if path is not None:
            _write(path, render_night(report, form))
    return 0 if report.is_fine else 1


def _write(path: Path, text: str) -> None:
    from melt.errors import UsageError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _series(args: argparse.Namespace, store: Store) -> tuple[Series, ...]:
    from melt.analysis.history import histories
    from melt.store.selection import Selection

    names = ("device", "model", "quant", "workload", "engine")
    return histories(*store.briefs(Selection(**{name: getattr(args, name) for name in names})))


def _policy(args: argparse.Namespace, store: Store) -> Policy:
    from melt.analysis.alike import FIELDS
    from melt.analysis.policy import Policy
    from melt.store.acknowledged import acknowledgements

    return Policy(
        baseline=_baseline(args.baseline, store),
        given=thresholds_of(args.threshold),
        allowed=allowed_of(args.allow_differing, FIELDS),
        acknowledged=acknowledgements(store),
    )


def _baseline(text: str, store: Store) -> Baseline:
    from melt.analysis.policy import Baseline
    from melt.errors import UsageError
    from melt.store.selection import Selection

    if text == "last-good":
        return Baseline("the last good night", 1)
    if (found := re.fullmatch(r"([1-9]\d{0,3})-nights?", text)) is not None:
        nights = int(found[1])
        return Baseline(f"the last {nights} good nights" if nights > 1 else "the last good night", nights)
    sweeps = frozenset(line.sweep_id for line in store.listing(Selection(tag=text)))
    if not sweeps:
        raise UsageError(
            f"--baseline {text!r}: no run has this tag; give a tag (`melt store tag RUN TAG`), last-good or 14-nights"
        )
    return Baseline(f"what is tagged {text!r}", sweeps=sweeps)


def _on_changes(args: argparse.Namespace, store: Store, series: Sequence[Series], policy: Policy) -> int:
    """List the changes of all histories as they are now, or accept some of them."""
    from melt.analysis.nightly import judge_series
    from melt.report.nightly import render_changes

    reports = [judge_series(one, len(one.nights) - 1, policy) for one in series]
    if args.acknowledge:
        for change in [_open_change(reports, wanted) for wanted in args.acknowledge]:
            _acknowledge(store, change, args.because)
        return 0
    if text := render_changes(reports, args.output):
        print(text, end="")
    else:
        print("melt: no change in the history", file=sys.stderr)
    return 0


def _open_change(reports: Sequence[SeriesReport], wanted: str) -> Acceptable:
    """Return the one change that an id, or its beginning, means. Raises UsageError."""
    from melt.analysis.nightly import acknowledgeable
    from melt.errors import UsageError

    known = {one.change_id: one for report in reports for one in acknowledgeable(report)}
    found = [one for name, one in known.items() if name.startswith(wanted)] if wanted else []
    if len(found) != 1:
        which = "no open change has" if not found else "several changes have ids that begin with"
        raise UsageError(f"{which} {wanted!r}: `melt regress` and `melt regress --list` name them")
    return found[0]


def _acknowledge(store: Store, change: Acceptable, because: str) -> None:
    from melt import __version__
    from melt.records.acknowledgement import Acknowledgement
    from melt.store.acknowledged import acknowledge

    accepted = Acknowledgement(
        change_id=change.change_id,
        device_id=change.device_id,
        series_id=change.series_id,
        metric=change.metric,
        sweep_id=change.sweep_id,
        what=change.what,
        because=because,
        made_utc_ns=time.time_ns(),
        melt_version=__version__,
    )
    acknowledge(store, accepted)
    print(
        f"melt: accepted {change.change_id}, {change.what}: later nights start from {change.sweep_id}", file=sys.stderr
    )


def _withdraw(store: Store, wanted: str) -> int:
    from melt.errors import UsageError
    from melt.store.acknowledged import acknowledgements, withdraw

    found = [one for one in acknowledgements(store) if wanted and one.change_id.startswith(wanted)]
    if len(found) != 1:
        listed = ", ".join(one.change_id for one in acknowledgements(store)) or "none"
        raise UsageError(f"no acknowledgement is meant by {wanted!r}; there are: {listed}")
    withdraw(store, found[0].change_id)
    print(f"melt: not accepted any more: {found[0].change_id}, {found[0].what}", file=sys.stderr)
    return 0
