"""External power meters: one file each, found by the kind that a device's profile names.

Other packages add a kind by an entry point of the group `melt.power_meters`: its name is the kind, its object a
function `make(options, where) -> PowerMeter`. `where` is the file and place to name in complaints, UsageErrors.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import cast

from melt.errors import UsageError
from melt.telemetry.meters.base import PowerMeter

GROUP = "melt.power_meters"
_SHIPPED = {
    "joulescope": "melt.telemetry.meters.joulescope",
    "lines": "melt.telemetry.meters.lines",
    "monsoon": "melt.telemetry.meters.monsoon",
    "recorded": "melt.telemetry.meters.recorded",
    "serial": "melt.telemetry.meters.serial_lines",
}

Make = Callable[[Mapping[str, object], str], PowerMeter]


def make_meter(kind: str, options: Mapping[str, object], where: str) -> PowerMeter:
    """Return the meter of a kind, not opened yet. Raises UsageError where the kind or an option is not known."""
    if kind in _SHIPPED:
        # A meter's own package is imported only when it is opened.
        return cast(Make, importlib.import_module(_SHIPPED[kind]).make)(options, where)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if kind in others:
        try:
            make = cast(Make, others[kind].load())
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"{where}: the meter {kind!r} of {others[kind].value} cannot be loaded: {error}"
            ) from error
        return make(options, where)
    known = sorted({*_SHIPPED, *others})
    near = difflib.get_close_matches(kind, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise UsageError(f"{where}: no meter is called {kind!r}: {hint}")
