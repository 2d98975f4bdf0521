"""The flags of every verb that needs a store."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.store.selection import Selection
    from melt.store.store import Store


def add_store_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--store`, the folder with the results."""
    parser.add_argument(
        "--store",
        metavar="DIR",
        type=Path,
        help="results folder (default: $MELT_STORE, results/ in a checkout, else the user's data folder)",
    )


def store_root(args: argparse.Namespace) -> Path:
    """Return the folder that the flags name, or the default one."""
    from melt.store.layout import default_root

    return default_root() if args.store is None else args.store.expanduser()


def open_store(args: argparse.Namespace) -> Store:
    """Open the store that is there, to read it. Raises StoreError when there is none."""
    from melt.store.store import Store

    return Store.open(store_root(args), create=False)


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the filters over runs; each narrows what the others leave."""
    group = parser.add_argument_group("filters")
    group.add_argument("--sweep", metavar="ID", help='runs of one `melt run`, by the beginning of its id or "last"')
    group.add_argument("--device", metavar="NAME", help="by name or id")
    group.add_argument("--model", metavar="NAME")
    group.add_argument("--quant", metavar="NAME", help='"none" for models without one')
    group.add_argument("--workload", metavar="NAME", help="as it is shown: pp512, tg128 @ d512")
    group.add_argument("--engine", metavar="NAME")
    group.add_argument("--outcome", metavar="NAME", help="ok, oom, failed, ...")
    group.add_argument("--verdict", metavar="NAME", help="valid, suspect or invalid")
    add_only_valid_argument(group)
    group.add_argument("--tag", metavar="TAG")
    group.add_argument("--since", metavar="TIME", help="a date, a time (UTC) or an age: 2026-11-03, 12h, 7d")
    group.add_argument("--limit", metavar="N", type=number_of("runs"), help="the newest N runs")


def add_only_valid_argument(group: argparse._ActionsContainer) -> None:
    """Add `--only-valid`, for those who take nothing that is in doubt."""
    group.add_argument(
        "--only-valid",
        action="store_true",
        help="only runs that ended well (ok) and that nothing speaks against (valid)",
    )


def selection_from_args(args: argparse.Namespace, store: Store, *, runs: tuple[str, ...] = ()) -> Selection:
    """Make the selection of the flags. Raises UsageError for a value that selects nothing by its kind."""
    from melt.store.selection import Selection, since_utc_ns

    if args.only_valid and (args.outcome not in (None, "ok") or args.verdict not in (None, "valid")):
        raise UsageError("--only-valid takes runs that are ok and valid: leave out --outcome and --verdict")
    return Selection(
        sweep=None if args.sweep is None else store.resolve_sweep(args.sweep),
        runs=tuple(store.resolve(run) for run in runs),
        device=args.device,
        model=args.model,
        quant=args.quant,
        workload=args.workload,
        engine=args.engine,
        outcome=args.outcome,
        verdict=args.verdict,
        only_valid=args.only_valid,
        tag=args.tag,
        since_utc_ns=None if args.since is None else since_utc_ns(args.since),
        limit=args.limit,
    )


def number_of(what: str) -> Callable[[str], int]:
    """Return the type of a flag that counts things: 1 or more of them."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {what}: use 1 or more")
        return int(text)

    return read


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of a flag that takes whole numbers from `least` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, found {text!r}")
        return int(text)

    return read
