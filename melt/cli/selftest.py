"""`melt selftest`: prove on a device that everything a measurement relies on works there, and write down the proof."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from melt.cli._adbargs import add_adb_argument
from melt.cli._interrupt import stop_on_interrupt

NAME = "selftest"
HELP = "prove on a device that everything a measurement relies on works there"
_SECONDS = 8
"""Enough for meters that renew their values every two seconds."""
_EPILOG = """\
The report holds figures and raw excerpts of every step; serial numbers, UUIDs, addresses, names of users and
hosts and home folders are taken out of it, so that it can be attached to an issue. It takes about a minute.

exit status: 0 all fine, 1 something failed, 2 wrong usage
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.epilog = _EPILOG
    parser.add_argument("name", metavar="DEVICE", nargs="?", help="the device to test (default: local)")
    parser.add_argument("--device", metavar="NAME", help="the same, as other verbs write it")
    add_adb_argument(parser)
    parser.add_argument("-o", "--output", metavar="REPORT.md", type=Path, help="write the whole report to this file")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON instead of the summary")
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=_whole_seconds,
        default=_SECONDS,
        help=f"how long the device is sampled at rest, busy, and at rest again (default: {_SECONDS})",
    )


def run(args: argparse.Namespace) -> int:
    """Print the summary; 0 when nothing failed, 1 when something did."""
    from melt.errors import UsageError
    from melt.fleet.selftest.run import selftest
    from melt.report.selftest import render_selftest

    if args.name and args.device and args.name != args.device:
        raise UsageError(f"two devices are named, {args.name} and {args.device}: selftest takes one at a time")
    if args.output is not None:
        _check_writable(args.output)
    selector = args.name or args.device or "local"
    with stop_on_interrupt("stopping, the device is left at rest") as stop:
        found = selftest(selector, seconds=args.seconds, say=_say, stop=stop)
    if args.output is not None:
        _write(args.output, render_selftest(found, "md"))
        print(f"melt: the report is in {args.output}", file=sys.stderr)
    sys.stdout.write(render_selftest(found, "json" if args.json else "table"))
    return 0 if found.fine else 1


def _say(text: str) -> None:
    print(f"melt: {text}", file=sys.stderr)


def _whole_seconds(text: str) -> int:
    seconds = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"expected 1 to 600 whole seconds, found {text!r}")
    return seconds


def _check_writable(path: Path) -> None:
    """Find out before a minute of measuring. Raises UsageError."""
    from melt.errors import UsageError

    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: {'it is a folder' if path.is_dir() else 'its folder is not there'}")


def _write(path: Path, text: str) -> None:
    from melt.errors import UsageError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
