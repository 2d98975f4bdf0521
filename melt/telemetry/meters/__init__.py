"""External power meters: one file each, found by the kind that a device's profile names.

Other packages add a kind by an entry point of the group `melt.power_meters`: its name is the kind, its object a
function `make(options, where) -> PowerMeter`. `where` is the file and place to name in complaints, UsageErrors.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import cast

from melt import plugins
from melt.errors import UsageError
from melt.telemetry.meters.base import MeterError, PowerMeter

_SHIPPED = {
    "joulescope": "melt.telemetry.meters.joulescope",
    "lines": "melt.telemetry.meters.lines",
    "monsoon": "melt.telemetry.meters.monsoon",
    "recorded": "melt.telemetry.meters.recorded",
    "serial": "melt.telemetry.meters.serial_lines",
}

Make = Callable[[Mapping[str, object], str], PowerMeter]


def reserved() -> frozenset[str]:
    """Return the kinds that no plug-in can have."""
    return frozenset(_SHIPPED)


def make_meter(kind: str, options: Mapping[str, object], where: str) -> PowerMeter:
    """Return the meter of a kind, not opened yet. Raises UsageError where the kind or an option is not known."""
    if kind in _SHIPPED:
        # A meter's own package is imported only when it is opened.
        return cast(Make, importlib.import_module(_SHIPPED[kind]).make)(options, where)
    try:
        plugin = plugins.find(plugins.POWER_METERS, kind)
        if plugin is not None:
            added: PowerMeter = plugin.make(PowerMeter, MeterError, options, where)
            return added
    except plugins.PluginError as error:
        raise UsageError(f"{where}: {error}") from error
    known = sorted({*_SHIPPED, *(other.name for other in plugins.plugins(plugins.POWER_METERS))})
    near = difflib.get_close_matches(kind, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise UsageError(f"{where}: no meter is called {kind!r}: {hint}")
