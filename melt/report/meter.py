"""What is known of the clock of a run's external power meter, in a line: by comparison, and by the device's bursts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from melt.report.words import joined
from melt.units import human

METER_DOCUMENT = "meter.json"


def meter_clock(document: str) -> str | None:
    """Write what a meter's document says of its clock; None where it was never brought to the device's."""
    clocks: Mapping[str, Any] = json.loads(document).get("on_device_clock") or {}
    uncertainty_ns = clocks.get("clock_uncertainty_ns")
    if uncertainty_ns is None:
        return None
    drift = clocks.get("drift")
    return joined(
        (
            f"brought to the device's clock to ±{human(uncertainty_ns / 1e9, 's')}",
            f"drift {drift * 1e6:+.0f} ppm" if drift is not None else None,
            _bursts(clocks.get("signatures", ())),
        )
    )


def _bursts(signatures: Sequence[Mapping[str, Any]]) -> str:
    if not signatures:
        return "the device's bursts were not found in its power"
    lags = " and ".join(f"{one['lag_ns'] / 1e6:+.1f} ms" for one in signatures)
    within = human(max(one["uncertainty_ns"] for one in signatures) / 1e9, "s")
    return f"by the device's own bursts {lags} from there (±{within})"
