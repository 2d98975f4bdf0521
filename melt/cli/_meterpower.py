"""`melt devices power`: give a device its power by the meter that feeds it, or take it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melt.targets.profiles import ExternalMeter

_POWER = "switch the output of the power meter that feeds a device"


def configure(verbs: Any) -> None:
    """Add the verb to the parsers of `melt devices`."""
    power = verbs.add_parser("power", help=_POWER, description=_POWER, allow_abbrev=False)
    power.add_argument("profile", metavar="PROFILE", help="the lab's file that names the meter, without .yaml")
    power.add_argument("state", choices=("on", "off"), help="`on` sets the `voltage_v` of the profile")
    power.set_defaults(act=_power)


def _power(args: argparse.Namespace) -> int:
    from melt.telemetry.meters import make_meter

    wanted = _meter_of(args.profile)
    meter = make_meter(wanted.kind, wanted.options, wanted.where)
    try:
        facts = meter.open()
        meter.switch(args.state == "on")
    finally:
        meter.close()
    print(f"melt: the output of {facts.name} is {args.state}", file=sys.stderr)
    return 0


def _meter_of(name: str) -> ExternalMeter:
    """Return the meter that a profile names. A device without power cannot say which profile is its own."""
    from melt.errors import UsageError
    from melt.targets.profiles import load_profiles

    meters = {profile.name: profile.meter for profile in load_profiles() if profile.meter is not None}
    if name not in meters:
        known = f"those with one: {', '.join(sorted(meters))}" if meters else "none does: docs/meters.md tells how to"
        raise UsageError(f"no profile {name!r} names a power meter; {known}")
    return meters[name]
