"""What a device's sensors say of a burst of known work, after rest: power rises, memory is what was taken. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from melt.analysis import channels
from melt.analysis.integrate import Grade, Integral, integral
from melt.analysis.meter import Meter, find_meter, without_meter
from melt.analysis.selftest import Finding, absent, verdict
from melt.analysis.series import Series, Span, common_span, find
from melt.traces import Trace

MIN_SAMPLES = 3
"""A meter that gives fewer in the burst may have seen none of it."""
MAX_BUSY_AT_REST = 0.5
"""Of all CPUs. With more there is no rest to compare with."""
_MEMORY_SLACK = 0.10
"""What a process has beside its buffer, or may have lost of it to the swap, of the buffer's size."""


def check_power(traces: Sequence[Trace], rest: Span, burst: Span) -> Finding:
    """Tell whether the best meter sees a burst of all CPUs; all other meters are listed beside it."""
    listed = _table(traces, rest, burst)
    meter = find_meter(traces)
    if meter is None:
        return absent(f"no energy: {without_meter(traces).message}", raw=listed)
    # A program needs a moment to start, and a meter may renew its values every other second.
    rest, burst = (common_span(meter.series, span) or span for span in (rest, burst))
    idle_w, busy_w = _mean_w(meter, rest), _mean_w(meter, burst)
    figures = {"rest_w": idle_w, "burst_w": busy_w, "samples": float(meter.samples(burst))}
    if idle_w is None or busy_w is None:
        why = meter.spoiled(burst) or meter.spoiled(rest)
        if why is not None:
            return absent(f"{meter.name}: {why}", figures, listed)
        return verdict(False, f"{meter.name} does not cover rest and burst", figures, listed)
    if meter.samples(burst) < MIN_SAMPLES:
        return absent(f"{meter.name} is too slow: {meter.samples(burst)} values within the burst", figures, listed)
    said = f"{meter.name}: {idle_w:.3g} W at rest, {busy_w:.3g} W with all CPUs busy"
    if busy_w <= idle_w:
        said += ": it does not rise"
        busy_share = _busy_share(traces, rest)
        if busy_share is not None and busy_share > MAX_BUSY_AT_REST:
            said += f", but the CPUs were busy before, too ({busy_share:.0%}): end what else runs there, and try again"
    return verdict(busy_w > idle_w > 0, said, figures, listed)


def check_memory(traces: Sequence[Trace], taken_bytes: int, kernel_peak_bytes: float | None) -> Finding:
    """Hold what was sampled of a process's memory, and its peak by the kernel, against a buffer of known size."""
    sampled = {
        s.stream.name: float(s.values.max()) for s in find(traces, lambda s: _is_size(s.name) and channels.is_runner(s))
    }
    seen = {"kernel_peak_bytes": kernel_peak_bytes, **sampled}
    figures = {"taken_bytes": float(taken_bytes), **seen}
    known = {name: value for name, value in seen.items() if value is not None}
    if not known:
        return verdict(False, "nothing tells how much memory a process has", figures)
    said = ", ".join(f"{name.removesuffix('_bytes')} {value / 2**20:.0f} MiB" for name, value in known.items())
    said = f"{taken_bytes / 2**20:.0f} MiB were taken: {said}"
    return verdict(min(known.values()) >= (1 - _MEMORY_SLACK) * taken_bytes, said, figures)


def _is_size(name: str) -> bool:
    """Whether a column is the whole of a process's memory and not a part of it."""
    return name in ("rss_bytes", "rss_peak_bytes") or "footprint" in name


def _mean_w(meter: Meter, span: Span) -> float | None:
    energy_j = meter.energy_j(span)
    return None if energy_j is None else energy_j / _length_s(span)


def _busy_share(traces: Sequence[Trace], span: Span) -> float | None:
    grown = [growth for series in channels.cpu_busy_time(traces) if (growth := series.growth(span)) is not None]
    return sum(grown) / len(grown) / _length_s(span) if grown else None


def _table(traces: Sequence[Trace], rest: Span, burst: Span) -> str | None:
    """List every sensor of power or energy with its mean power at rest and under load, a line each."""
    found = find(traces, lambda s: s.quantity in ("power", "energy"))
    return (
        "\n".join(f"{s.stream.name} ({s.stream.site}): {_watts(s, rest)} -> {_watts(s, burst)}" for s in found) or None
    )


def _watts(series: Series, span: Span) -> str:
    found = integral(series, span, Grade())
    return f"{found.power_w:.3f} W" if isinstance(found, Integral) else "-"


def _length_s(span: Span) -> float:
    return (span[1] - span[0]) / 1e9
