"""What a plot of a run shows: throughput, temperatures, clocks, power and the device's own reports on one time axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from melt.analysis import channels
from melt.analysis.heat import main_curve
from melt.analysis.heat_curve import Curve
from melt.analysis.latency import INFERENCES, inference_trace
from melt.analysis.repetitions import TOKENS, token_trace
from melt.analysis.series import Series, Span
from melt.records import Window
from melt.traces import RunBundle, Times, Trace, Values

_MOST_TEMPERATURES = 3
_SILENT_PERIODS = 5.0


@dataclass(frozen=True, slots=True)
class Track:
    """One line of a plot, in the unit of its stream. Shapes (n,).

    `gap_ns` is how far apart two samples may be and still be joined: five of their periods.
    """

    name: str
    t_ns: Times
    values: Values
    gap_ns: int


def track_of(name: str, t_ns: Times, values: Values) -> Track:
    """Make a line of samples that came at one rate."""
    return Track(name, t_ns, values, _gap_ns(t_ns))


def _gap_ns(t_ns: Times) -> int:
    steps = np.diff(t_ns)
    return int(_SILENT_PERIODS * np.median(steps)) if len(steps) else 0


@dataclass(frozen=True, slots=True)
class Story:
    """A run over time. `zero_ns` is the first measured token or request, from which the time to throttle counts.

    Where there is none, it is where the measured part or else the record begins: `zero` says which.
    `phases` are load, warm-up and measured, each from its first to its last moment. A tuple of tracks is empty where
    nothing was measured. `power_scope` says what the power is that of.
    """

    zero_ns: int
    zero: str
    span: Span
    phases: tuple[tuple[str, Span], ...]
    curve: Curve | None
    throttled_ns: int | None
    temperatures: tuple[Track, ...]
    clocks: tuple[Track, ...]
    power: tuple[Track, ...]
    power_scope: str
    states: tuple[Track, ...]


def story(bundle: RunBundle) -> Story | None:
    """Gather what the traces of a bundle tell; None where nothing was recorded at all."""
    own = (TOKENS, INFERENCES)
    traces = [trace for trace in bundle.traces if trace.collector not in own and len(trace.t_ns)]
    ends = [(int(trace.t_ns[0]), int(trace.t_ns[-1])) for trace in traces]
    ends += [(window.t0_ns, window.t1_ns) for window in bundle.windows]
    if not ends:
        return None
    workload = bundle.start.spec.workload
    none = inference_trace(()) if workload.kind == "inference" else token_trace(())
    requests = next((trace for trace in bundle.traces if trace.collector == none.collector), none)
    curve = main_curve(requests, bundle.windows, workload)
    phases = _phases(bundle.windows)
    begins = [span[0] for name, span in phases if name == "measured"]
    zero_ns = curve.t0_ns if curve is not None else min(begins, default=min(t0 for t0, _ in ends))
    first = "the first measured request" if workload.kind == "inference" else "the first measured token"
    after_s = next((m.value for m in bundle.metrics if m.name == "time_to_throttle_s"), None)
    scope, power = _power(channels.power_meter(traces))
    return Story(
        zero_ns=zero_ns,
        zero=first if curve is not None else "the measured part began" if begins else "the record began",
        span=(min(t0 for t0, _ in ends), max(t1 for _, t1 in ends)),
        phases=phases,
        curve=curve,
        throttled_ns=None if curve is None or after_s is None else zero_ns + round(after_s * 1e9),
        temperatures=_temperatures(channels.temperatures(traces), channels.battery_temperatures(traces)),
        clocks=_clocks(traces),
        power=power,
        power_scope=scope,
        states=_states(traces),
    )


def _phases(windows: Sequence[Window]) -> tuple[tuple[str, Span], ...]:
    kinds: tuple[tuple[str, Callable[[Window], bool]], ...] = (
        ("load", lambda w: w.phase == "load"),
        ("warm-up", lambda w: w.phase != "load" and w.warmup),
        ("measured", lambda w: w.phase != "load" and not w.warmup),
    )
    found = [(name, [w for w in windows if wanted(w)]) for name, wanted in kinds]
    return tuple((name, (min(w.t0_ns for w in ws), max(w.t1_ns for w in ws))) for name, ws in found if ws)


def _temperatures(found: Sequence[Series], batteries: Sequence[Series]) -> tuple[Track, ...]:
    """Return the hottest sensor first, then those that differ the most from it and from each other.

    A board has thirty, most of them alike.
    """
    named = {s.stream.site: s for s in (*batteries, *found)}
    left = sorted(named.values(), key=lambda s: float(s.values.max()))
    chosen = left[-1:]
    while (left := [s for s in left if not any(s is one for one in chosen)]) and len(chosen) < _MOST_TEMPERATURES:
        chosen.append(max(left, key=lambda s: min(abs(float(s.values.mean() - c.values.mean())) for c in chosen)))
    return tuple(track_of(s.stream.site, s.t_ns, s.values) for s in chosen)


def _clocks(traces: Sequence[Trace]) -> tuple[Track, ...]:
    cpus = channels.cpu_frequency(traces)
    limits = channels.clock_limits(traces)
    gpus = channels.gpu_frequency(traces)
    named = (("fastest CPU", cpus), ("highest limit", limits), ("GPU", gpus[:1]))
    return tuple(track for name, series in named if (track := _joined(name, series, np.max)) is not None)


def _states(traces: Sequence[Trace]) -> tuple[Track, ...]:
    named = (
        ("thermal status", channels.thermal_status(traces)),
        ("thermal pressure", channels.thermal_pressure(traces)),
        ("cooling step", channels.cooling_states(traces)),
    )
    return tuple(track for name, series in named if (track := _joined(name, series, np.max)) is not None)


def _power(meter: tuple[str, list[Series]] | None) -> tuple[str, tuple[Track, ...]]:
    if meter is None:
        return "", ()
    scope, series = meter
    watts = [_watts(one) if one.stream.cumulative else one for one in series if len(one) > 2]
    track = _joined("power", watts, np.sum)
    return scope, () if track is None else (track,)


def _watts(counter: Series) -> Series:
    """Return the mean power between the moments at which a counter moved. Lines that came at once share a moment."""
    moved = np.flatnonzero(np.concatenate(([True], (np.diff(counter.values) != 0) & (np.diff(counter.t_ns) > 0))))
    t_ns, values = counter.t_ns[moved], counter.values[moved]
    steps = counter.steps(values)
    if steps is None or not len(steps):
        return Series(counter.stream, counter.t_ns[:0], counter.values[:0])
    return Series(counter.stream, (t_ns[1:] + t_ns[:-1]) // 2, steps / (np.diff(t_ns) / 1e9))


def _joined(name: str, series: Sequence[Series], how: Callable[..., Values]) -> Track | None:
    """Make one line of several at every moment that one was sampled at, so that no peak is lost; None of none."""
    kept = [s for s in series if len(s)]
    if not kept:
        return None
    zero_ns = min(int(s.t_ns[0]) for s in kept)
    t_ns = np.unique(np.concatenate([s.t_ns for s in kept])) - zero_ns
    # Relative times: a float64 cannot hold nanoseconds since boot.
    each = [np.interp(t_ns, s.t_ns - zero_ns, s.values) for s in kept]
    # Not the steps of all moments together: those of two sensors that are read one after the other are tiny.
    gap_ns = max(_gap_ns(s.t_ns) for s in kept)
    return Track(name, t_ns + zero_ns, np.asarray(how(np.vstack(each), axis=0), np.float64), gap_ns)
