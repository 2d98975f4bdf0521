"""`melt resume`: go on with a sweep that was stopped, killed or cut off."""

from __future__ import annotations

import argparse

from melt.cli._adbargs import add_adb_argument
from melt.cli._storeargs import add_store_argument, store_root
from melt.cli.run import EXIT_STATUS, add_output_argument, conduct_sweep

NAME = "resume"
HELP = "go on with an interrupted sweep: done runs are kept, left-over ones collected"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.epilog = EXIT_STATUS
    parser.add_argument("sweep", nargs="?", help='sweep id, the beginning of it, or "last" (default)')
    add_adb_argument(parser)
    add_store_argument(parser)
    add_output_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run what a sweep still lacks."""
    from melt.fleet.sweep import load
    from melt.models.library import Library

    return conduct_sweep(load(store_root(args), args.sweep), Library(), args)
