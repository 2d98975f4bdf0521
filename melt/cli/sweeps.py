"""`melt sweeps`: which sweeps there are, how far they are, how their runs ended, and how to go on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from melt.cli._storeargs import add_store_argument, number_of, open_store

if TYPE_CHECKING:
    from melt.fleet.overview import Lack, Overview

NAME = "sweeps"
HELP = "list the sweeps, newest first: how far they are, how their runs ended, what is lacking"
FORMATS = ("table", "md", "json", "jsonl", "csv")
_EPILOG = """\
With a SWEEP: its devices, every run that it lacks and why, and what was moved from a device that failed.

exit status: 0 fine, 2 wrong usage
"""
_SHOWN = 20
"""Lines of a table when nobody asked for a number; data formats give everything."""

_ENDS = ("valid", "suspect", "invalid")
_HEADERS = ("sweep", "plan", "devices", "runs", "how they ended", "state")
"""When a sweep began is told by its id, in UTC: a column for it would not fit on a narrow terminal."""
_DEVICE_HEADERS = ("device", "name", "runs", *_ENDS, "other ends", "lacking")
_LACK_HEADERS = ("device", "lacking", "session", "why", "run")
_KEYS = (
    "sweep_id",
    "plan",
    "begun",
    "begun_utc_ns",
    "state",
    "planned",
    "done",
    "lacking",
    *_ENDS,
    "other_ends",
    "devices",
    "moves",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.epilog = _EPILOG
    parser.add_argument("sweep", metavar="SWEEP", nargs="?", help='one in full: its id, the beginning of it, or "last"')
    add_store_argument(parser)
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="form of the list (default: table)")
    parser.add_argument("--limit", metavar="N", type=number_of("sweeps"), help="the newest N sweeps")


def run(args: argparse.Namespace) -> int:
    """Print the list, or one sweep."""
    from melt.fleet.overview import overview, overviews

    as_table = args.output in ("table", "md")
    with open_store(args) as store:
        if args.sweep is not None:
            one, lacks = overview(store, args.sweep)
            found, total = [one], 1
        else:
            found, total = overviews(store, args.limit or (_SHOWN if as_table else None))
    if not as_table:
        _write_records([_record(one) for one in found], args.output)
    elif args.sweep is not None:
        _write_one(one, lacks, args.output)
    elif found:
        _write_list(found, args.output)
    else:
        print("melt: no sweeps yet", file=sys.stderr)
    if as_table:
        _say_how_to_go_on(found, total)
    return 0


def _write_records(records: Sequence[Mapping[str, Any]], fmt: str) -> None:
    from melt.report.table import write_rows

    sys.stdout.write(write_rows(_KEYS, records, fmt))


def _write_list(found: Sequence[Overview], fmt: str) -> None:
    from melt.report.table import render_table

    sys.stdout.write(render_table(None, _HEADERS, [_row(one) for one in found], fmt, numeric=(2, 3)))


def _write_one(one: Overview, lacks: Sequence[Lack], fmt: str) -> None:
    from melt.report.table import render_table

    state = f"{one.state}, {one.lacking} left" if one.lacking else one.state
    title = f"Sweep {one.sweep_id} ({one.plan}), begun {_when(one)}: {state}"
    rows = []
    for share in one.shares:
        runs = f"{share.planned - share.lacking}/{share.planned}"
        rows.append([share.device, share.name or "-", runs, *_ended(share.ends), str(share.lacking or "-")])
    sys.stdout.write(f"{'### ' if fmt == 'md' else ''}{title}\n\n")
    sys.stdout.write(render_table(None, _DEVICE_HEADERS, rows, fmt, numeric=(2, 3, 4, 5, 7)))
    if lacks:
        named = [
            [lack.spec.device, lack.spec.label, _session(lack), lack.why.replace("_", " "), lack.spec.run_id]
            for lack in lacks
        ]
        sys.stdout.write("\n" + render_table(None, _LACK_HEADERS, named, fmt))
    sentences = _moves(one)
    sys.stdout.write(("\n" if sentences else "") + "".join(f"- {sentence}\n" for sentence in sentences))


def _moves(one: Overview) -> list[str]:
    """Say what became of devices that failed; of one for which nobody stood in only as long as its runs are lacking."""
    from melt.units import counted

    lacking_on = {share.device for share in one.shares if share.lacking}
    sentences = []
    for move in one.moves:
        why = move.why if move.device in move.why else f"{move.device}: {move.why}"
        if move.to is not None:
            sentences.append(f"{why}; {counted(len(move.run_ids), 'run')} moved to {move.to}")
        elif move.device in lacking_on:
            sentences.append(f"{why}; no equal device was there")
    return sentences


def _say_how_to_go_on(found: Sequence[Overview], total: int) -> None:
    from melt.units import counted

    if total > len(found):
        print(f"melt: the newest {len(found)} of {total} sweeps; more with --limit {total}", file=sys.stderr)
    for one in [one for one in found if one.state == "to resume"][:3]:
        runs = counted(one.lacking, "run")
        print(f"melt: {one.sweep_id} lacks {runs}; go on with: melt resume {one.sweep_id}", file=sys.stderr)


def _row(one: Overview) -> list[str]:
    runs = f"{one.done}" if one.planned is None else f"{one.done}/{one.planned}"
    kinds = (*_ENDS, *sorted(set(one.ends) - set(_ENDS)))
    how = ", ".join(f"{one.ends[end]} {end}" for end in kinds if one.ends[end])
    return [one.sweep_id, one.plan, str(len(one.shares)), runs, how or "-", one.state]


def _ended(ends: Mapping[str, int]) -> list[str]:
    """Return the columns on how runs ended: a number for each verdict, words for the rest."""
    others = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()) if end not in _ENDS)
    return [*(str(ends.get(end) or "-") for end in _ENDS), others or "-"]


def _session(lack: Lack) -> str:
    return "reference" if lack.spec.reference else str(lack.spec.block + 1)


def _when(one: Overview) -> str:
    return datetime.fromtimestamp(one.begun_utc_ns // 1_000_000_000).strftime("%Y-%m-%d %H:%M")


def _record(one: Overview) -> dict[str, Any]:
    ends = one.ends
    return {
        "sweep_id": one.sweep_id,
        "plan": one.plan,
        "begun": datetime.fromtimestamp(one.begun_utc_ns // 1_000_000_000, UTC).isoformat(),
        "begun_utc_ns": one.begun_utc_ns,
        "state": one.state,
        "planned": one.planned,
        "done": one.done,
        "lacking": one.lacking,
        **{end: ends[end] for end in _ENDS},
        "other_ends": {end: count for end, count in sorted(ends.items()) if end not in _ENDS},
        "devices": [
            {
                "device": share.device,
                "name": share.name,
                "planned": share.planned,
                "lacking": share.lacking,
                "ends": dict(sorted(share.ends.items())),
            }
            for share in one.shares
        ],
        "moves": list(one.moves),
    }
