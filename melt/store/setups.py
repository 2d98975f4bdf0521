"""What runs share, kept once: the part of their documents that tells what was asked for and found, not how it went.

Thousands of runs have a few hundred setups, so that whoever compares them reads those instead of every document. They
are derived: the documents stay the record, and `fill` works the setups out again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, insert, select, update

from melt.codec import dumps, loads
from melt.records import DeviceFacts, RunStart, RunStop
from melt.store.schema import runs, setups

_USED = ("engine", "engine_revision", "engine_version", "backend", "threads")
"""What the engine said of itself that is the same from run to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Device, model file and all that was asked for. `start` is empty where a run has something of its own to say."""

    start: RunStart
    used: dict[str, object] = field(default_factory=dict)


def setup_of(start: RunStart, stop: RunStop) -> Setup:
    """Return the setup of a run."""
    imported = start.imported
    return Setup(
        start=replace(
            start,
            spec=replace(start.spec, run_id="", sweep_id="", block=0, position=0, order_seed=None),
            started_utc_ns=0,
            device=_lasting(start.device, keep_boot=start.session is None),
            streams=(),
            missing=(),
            calibrations=(),
            knobs=tuple(replace(knob, before=None) for knob in start.knobs),
            host={},
            clock_offset_ns=None,
            clock_uncertainty_ns=None,
            session=None,
            trips=(),
            imported=imported and replace(imported, file="", sha256="", entry=0, line=None),
        ),
        used={name: stop.used[name] for name in _USED if name in stop.used},
    )


def ensure_setup(connection: Connection, start: RunStart, stop: RunStop) -> str:
    """Have the setup of a run among the others; return its key."""
    text = dumps(setup_of(start, stop))
    key = hashlib.sha256(text.encode()).hexdigest()
    if connection.execute(select(setups.c.setup_sha256).where(setups.c.setup_sha256 == key)).first() is None:
        connection.execute(insert(setups), {"setup_sha256": key, "setup_json": text})
    return key


def setups_of(connection: Connection, keys: Iterable[str]) -> dict[str, Setup]:
    """Return setups by their keys. Raises StoreError."""
    query = select(setups.c.setup_sha256, setups.c.setup_json)
    wanted = frozenset(keys)
    return {row[0]: loads(Setup, row[1]) for row in connection.execute(query) if row[0] in wanted}


def fill(connection: Connection) -> None:
    """Work out the setup of every run that has none."""
    query = select(runs.c.run_id, runs.c.start_json, runs.c.stop_json).where(runs.c.setup_sha256.is_(None))
    for run_id in connection.execute(query.with_only_columns(runs.c.run_id)).scalars().all():
        row = connection.execute(query.where(runs.c.run_id == run_id)).one()
        key = ensure_setup(connection, loads(RunStart, row.start_json), loads(RunStop, row.stop_json))
        connection.execute(update(runs).where(runs.c.run_id == run_id), {"setup_sha256": key})


def _lasting(device: DeviceFacts, *, keep_boot: bool) -> DeviceFacts:
    """Leave out what is measured anew for every run. The boot tells sessions apart where runs do not name theirs."""
    return replace(
        device,
        memory_available_bytes=None,
        swap_free_bytes=None,
        boot_id=device.boot_id if keep_boot else None,
        memory_bandwidth_bytes_per_s=None,
        compute=None,
        battery=None,
    )
