"""What somebody accepted: from a night on, another level or another condition is as it should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """A change that makes no night fail any more, and why.

    `series_id` and `metric` are None where a condition of a whole device changed, an OS build for one. `sweep_id` is
    the first night of what was accepted, `what` tells the change in words.
    """

    change_id: str
    device_id: str
    series_id: str | None
    metric: str | None
    sweep_id: str
    what: str
    because: str
    made_utc_ns: int
    melt_version: str
