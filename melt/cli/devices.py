"""`melt devices`: what there is to measure on, how it is, and what keeps a device from being used."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from melt.cli import _meterpower, _trust

if TYPE_CHECKING:
    from melt.fleet.inventory import Entry

NAME = "devices"
HELP = "list the devices: state, battery or power mode, temperature, and why one cannot be used"
FORMATS = ("table", "json")

_HEADERS = ("device", "name", "state", "battery/mode", "temp", "profile")
_FACTS = ("name", "device_id", "os", "os_build", "soc", "arch", "power_mode")
_USAGE = """\
melt devices [-h] [-o {table,json}] [--timeout S] [--adb-server HOST:PORT]
       melt devices trust HOST [--fingerprint SHA256:...] [--yes] [--replace]
       melt devices forget HOST
       melt devices clean DEVICE
       melt devices power PROFILE on|off
"""
_EPILOG = """\
The first column is what to type after --device. Nothing is left on a device that is listed. Boards and Macs are
listed once `melt devices trust` was told of them, or a profile of yours names their `ssh:` address.

exit status: 0 done, 1 a device could not be trusted, cleaned or switched, 2 wrong usage
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb, and what else can be done with devices."""
    parser.usage = _USAGE
    parser.epilog = _EPILOG
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="form of the answer (default: table)")
    parser.add_argument(
        "--timeout", metavar="S", type=_seconds, default=None, help="how long the devices have to answer (default: 15)"
    )
    parser.add_argument(
        "--adb-server",
        metavar="HOST:PORT",
        action="append",
        help="ask this adb server, not the usual one; may be repeated",
    )
    parser.set_defaults(act=_list)
    # argparse would take the usage above for the name that stands before a verb.
    verbs = parser.add_subparsers(prog=parser.prog, dest="devices_verb", metavar="VERB", title="what else can be done")
    text = "remove the models and runners that melt keeps on a device, and say what that freed"
    clean = verbs.add_parser("clean", help=text, description=text, allow_abbrev=False)
    clean.add_argument("device", metavar="DEVICE", help="as `melt devices` names it")
    clean.set_defaults(act=_clean)
    _trust.configure(verbs)
    _meterpower.configure(verbs)


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"expected seconds between 0 and 3600, found {text!r}")
    return value


def _list(args: argparse.Namespace) -> int:
    from melt.fleet.inventory import LOOK_S, take_inventory

    found = take_inventory(
        servers=args.adb_server or ("",), deadline_s=args.timeout or LOOK_S, waiting=_say_who_is_waited_for
    )
    for problem in found.problems:
        print(f"melt: {problem}", file=sys.stderr)
    if args.output == "json":
        _write_json(found.entries)
    else:
        _write_table(found.entries)
    return 0


def _say_who_is_waited_for(selectors: Sequence[str]) -> None:
    if sys.stderr.isatty():
        print(f"melt: waiting for {', '.join(selectors)}", file=sys.stderr)


def _clean(args: argparse.Namespace) -> int:
    from melt.fleet.cleanup import clean
    from melt.units import human

    done = clean(args.device)
    print(f"melt: freed {human(done.freed_bytes, 'bytes')} in {done.root} on {done.name}", file=sys.stderr)
    return 0


def _write_table(entries: tuple[Entry, ...]) -> None:
    from melt.report.table import render_table

    sys.stdout.write(render_table(None, _HEADERS, [_row(entry) for entry in entries], "table", numeric={4}))
    reasons = [f"- {entry.selector}: {entry.reason}\n" for entry in entries if entry.reason]
    if reasons:
        sys.stdout.write("\n" + "".join(reasons))


def _row(entry: Entry) -> list[str]:
    from melt.units import human

    health = entry.health
    level = None if health.battery_ratio is None else f"{health.battery_ratio:.0%}".replace("%", " %")
    mode = entry.facts.power_mode if entry.facts else None
    power = ", ".join(filter(None, (level, "charging" if health.charging else None, mode)))
    return [
        entry.selector,
        entry.facts.name if entry.facts else "-",
        entry.state,
        power or "-",
        human(health.temperature_c, "c"),
        entry.profile.title if entry.profile else "-",
    ]


def _write_json(entries: tuple[Entry, ...]) -> None:
    from melt.report.table import write_rows

    rows = [_record(entry) for entry in entries]
    sys.stdout.write(write_rows(tuple(rows[0]), rows, "json"))


def _record(entry: Entry) -> dict[str, object]:
    return {
        "device": entry.selector,
        "state": entry.state,
        "usable": entry.usable,
        "reason": entry.reason,
        **{key: getattr(entry.facts, key, None) for key in _FACTS},
        "profile": entry.profile.name if entry.profile else None,
        "battery_ratio": entry.health.battery_ratio,
        "charging": entry.health.charging,
        "temperature_c": entry.health.temperature_c,
        "sensor": entry.health.sensor,
    }
