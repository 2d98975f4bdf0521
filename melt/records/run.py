"""How a run began and how it ended, and the session that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from melt.records.artifact import Artifact
from melt.records.device import DeviceFacts, Knob
from melt.records.spec import RunSpec
from melt.records.trace import Calibration, Stream

FORMAT_VERSION = 1
"""Version of these documents. Raise it with an upgrader in `codec.py` whenever a field changes its meaning."""


class Outcome(StrEnum):
    """How a run ended. An out-of-memory run is a result like any other."""

    OK = "ok"
    OOM = "oom"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    DEVICE_LOST = "device_lost"
    FAILED = "failed"
    ABORTED = "aborted"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """Whether the numbers of a run may be believed."""

    VALID = "valid"
    SUSPECT = "suspect"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why an outcome or a verdict is what it is.

    `code` is stable and machine-readable (`sampling_gap`, `throttled`, `killed_by_oom`); `message` is one sentence;
    `figures` holds the numbers behind it.
    """

    code: str
    message: str
    figures: dict[str, float] = field(default_factory=dict)


class Apart(StrEnum):
    """What lies between a session and the one before it on its device: the strongest that does."""

    START = "start"
    BOOT = "boot"
    COOL_DOWN = "cool-down"
    PAUSE = "pause"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A stretch of one device's work on a sweep, whose runs share their luck: the unit of statistics.

    Another begins with each block, each boot and each melt that goes on with the sweep. `number` counts those of this
    device in this sweep from 0; `uid` is its name everywhere. `apart` is `start` where nothing but a new melt separates
    it, or nothing went before; `block` where there was nothing but the next block. `began_utc_ns` is when the gate of
    its first run had opened; `rested_s` how long no run of this store had then been on the device; `temperature_c` the
    hottest plausible sensor's. None: not known.
    """

    uid: str
    sweep_id: str
    device_id: str
    block: int
    number: int
    apart: Apart
    began_utc_ns: int
    boot_id: str | None = None
    rested_s: float | None = None
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TripLimit:
    """What ends a run before its device suffers: more than `limit`, in `unit`, at `site`. `basis` says why so much.

    `channel` is how the agent names it (`cid 3`, `sid 5`); `per_unit` of the agent's numbers make one of `unit`.
    """

    site: str
    limit: float
    unit: str
    basis: str
    channel: str
    per_unit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Where a run is from that melt did not measure: another program's results, brought in by `melt import`.

    `tool` measured it. `file` is the name that the file had, `sha256` of its content, `entry` counts the results in it
    from 0, `line` is where this one begins, from 1; None: its format has no lines of meaning.
    """

    tool: str
    tool_version: str | None
    file: str
    sha256: str
    entry: int
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """Everything that was known before the runner started. Times on the host are UTC nanoseconds since 1970.

    `clock_offset_ns` is the host's monotonic clock minus the device's, measured over round trips;
    `clock_uncertainty_ns` is half of the shortest round trip. None: not measured. `chosen` names the settings of `spec`
    that the plan had left to melt. `session` None: written before melt kept sessions.
    `trips` are what would have ended the run. `imported` None: melt measured it.
    """

    spec: RunSpec
    started_utc_ns: int
    artifact: Artifact
    device: DeviceFacts
    agent_version: str
    melt_version: str
    streams: tuple[Stream, ...] = ()
    missing: tuple[str, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    knobs: tuple[Knob, ...] = ()
    host: dict[str, str] = field(default_factory=dict)
    clock_offset_ns: int | None = None
    clock_uncertainty_ns: int | None = None
    chosen: tuple[str, ...] = ()
    session: Session | None = None
    trips: tuple[TripLimit, ...] = ()
    imported: Imported | None = None
    version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStop:
    """The end of a run; always written. `used` is what the engine says it really used (threads, backend, context).

    `evidence` maps a name (`stderr`, `exit`, `dmesg`) to text; it is filled for every run that is not ok.
    """

    run_id: str
    ended_utc_ns: int
    outcome: Outcome
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    used: dict[str, object] = field(default_factory=dict)
    evidence: dict[str, str] = field(default_factory=dict)
    version: int = FORMAT_VERSION
