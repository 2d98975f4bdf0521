"""`melt store`: where the results are, whether they are whole, and what may go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from melt.cli._storeargs import add_store_argument, open_store, store_root

if TYPE_CHECKING:
    from melt.store.store import Store

NAME = "store"
HELP = "show where the results are, check them, tidy up"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of the store."""
    verbs = parser.add_subparsers(dest="store_verb", metavar="VERB", required=True, title="verbs")

    def verb(name: str, text: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_store_argument(sub)
        sub.set_defaults(act=act)
        return sub

    verb("path", "print the results folder", _path)
    verb("verify", "check every record and every file's checksum; exit 1 when something is missing or damaged", _verify)
    gc = verb("gc", "remove what no record names: leavings of killed processes", _gc)
    gc.add_argument("--journals", action="store_true", help="remove the raw journals of published runs too")
    gc.add_argument("-n", "--dry-run", action="store_true", help="list what would go; remove nothing")
    tag = verb("tag", "put tags on runs, for `--tag`", _tag)
    tag.add_argument(
        "runs",
        metavar="RUN",
        help='id, the beginning of one, or "last"; or several, such as sweep:last (docs/compare.md)',
    )
    tag.add_argument("tags", metavar="TAG", nargs="+")
    tag.add_argument("--remove", action="store_true", help="take the tags off instead")


def run(args: argparse.Namespace) -> int:
    """Do what was asked of the store."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


def _path(args: argparse.Namespace) -> int:
    print(store_root(args))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from melt.store.upkeep import verify

    harmful = 0
    with open_store(args) as store:
        for finding in verify(store):
            harmful += finding.harmful
            print(f"{finding.where}: {finding.what}", file=sys.stdout if finding.harmful else sys.stderr)
        runs = store.count()
    if harmful:
        print(f"melt: problems found: {harmful}, in a store with runs: {runs}", file=sys.stderr)
        return 1
    print(f"melt: all whole; runs: {runs}", file=sys.stderr)
    return 0


def _gc(args: argparse.Namespace) -> int:
    from melt.store.upkeep import collect_garbage
    from melt.units import human

    with open_store(args) as store:
        garbage = collect_garbage(store, journals=args.journals, dry_run=args.dry_run)
        for item in garbage:
            print(f"{item.path.relative_to(store.root).as_posix()}: {item.why}")
    done = "would free" if args.dry_run else "freed"
    print(f"melt: {done} {human(sum(item.size_bytes for item in garbage), 'bytes')}", file=sys.stderr)
    return 0


def _tag(args: argparse.Namespace) -> int:
    with open_store(args) as store:
        for run_id in _named(store, args.runs):
            if args.remove:
                store.untag(run_id, args.tags)
            else:
                store.tag(run_id, args.tags)
    return 0


def _named(store: Store, text: str) -> list[str]:
    """Return the ids of the runs that a text names. Raises UsageError for none."""
    from melt.errors import UsageError
    from melt.store.selection import Selection
    from melt.store.selectors import resolve_selector

    if ":" not in text:
        return [store.resolve(text)]
    found = store.run_ids(resolve_selector(store, text, Selection()).selection)
    if not found:
        raise UsageError(f"no run matches {text}: `melt runs` lists what there is")
    return found
