"""What was recorded and what follows from it: columns, spans of time, figures."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One column of a trace, declared once; afterwards only numbers flow.

    `collector` names the trace (one clock, one rate), `name` the column, `site` where it is measured
    (`cpu0`, `battery`, `x86_pkg_temp`), `source` the file or program that said it.
    `cumulative` marks counters; `wraps_at` is where they start again, in the stream's unit.
    """

    collector: str
    name: str
    quantity: str
    unit: str
    site: str
    source: str
    rate_hz: float
    cumulative: bool = False
    wraps_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a raw number of a device became a quantity: `raw * factor` is the value of the column, in its unit.

    `basis` is a sentence on what decided sign and unit (`discharging, -412000 read: microamperes, negative when
    discharging`); `certain` is False where it had to be guessed.
    """

    column: str
    factor: float
    basis: str
    certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of the device's monotonic clock with a meaning; `n_tokens` were processed inside it.

    `phase` is load, tokenize, prefill, decode or inference. `repetition` counts from 0, warm-ups apart from measured
    ones.
    """

    phase: str
    t0_ns: int
    t1_ns: int
    repetition: int | None = None
    warmup: bool = False
    n_tokens: int | None = None
    depth: int | None = None

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return (self.t1_ns - self.t0_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of a run. `repetition` None: of the whole run. `value` None: not measured, and `note` says why.

    `uncertainty`, in the unit of the value, is what it may be off by to either side in 95 of 100 cases; None: nobody
    worked it out. `figures` are the numbers behind it.
    """

    name: str
    value: float | None
    unit: str
    repetition: int | None = None
    source: str = "runner"
    note: str | None = None
    uncertainty: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
