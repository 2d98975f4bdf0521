"""What the device takes at rest: measured in the same job before the runner starts and after it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from melt.analysis.integrate import Integral
from melt.analysis.meter import Meter
from melt.analysis.series import Span
from melt.records import Reason
from melt.telemetry.journal import Event

SETTLE_NS = 500_000_000
"""Governors lower clocks, and regulators follow, within some tenths of a second."""
MIN_S = 1.0
MIN_SAMPLES = 5
"""With fewer, one wake-up of the system is a large part of what is called rest."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Power at rest, before and after a run, under the conditions of the run: they are put back later."""

    before: Integral
    after: Integral

    @property
    def power_w(self) -> float:
        """The mean of both."""
        return (self.before.power_w + self.after.power_w) / 2

    @property
    def difference_w(self) -> float:
        """By how much more the device took afterwards."""
        return self.after.power_w - self.before.power_w

    @property
    def noise_w(self) -> float:
        """By how much the difference may be off, at 95 %. What is wrong with the meter is wrong in both."""
        return math.hypot(_noise_w(self.before), _noise_w(self.after))

    @property
    def uncertainty_w(self) -> float:
        """By how much the power at rest during the run may be off, at 95 %: it lay somewhere between the two."""
        return math.hypot(self.noise_w / 2, self.difference_w / 2)

    def unsteady(self, busy_w: float, most: float) -> Reason | None:
        """Say that the two differ by more than chance and by over `most` of what a run took above them."""
        above_w = busy_w - self.power_w
        apart_w = abs(self.difference_w)
        if apart_w <= self.noise_w or apart_w <= most * abs(above_w):
            return None
        before_w, after_w = self.before.power_w, self.after.power_w
        message = (
            f"at rest the device took {before_w:.3g} W before the run and {after_w:.3g} W after it, in between "
            f"{above_w:.3g} W more: net energy is off by up to {50 * apart_w / abs(above_w):.0f} %"
            if above_w
            else f"at rest the device took {before_w:.3g} W before the run and {after_w:.3g} W after it"
        )
        figures = {"before_w": before_w, "after_w": after_w, "noise_w": self.noise_w, "above_w": above_w}
        return Reason(code="baseline_unsteady", message=message, figures=figures)


def find_baseline(meter: Meter, events: Sequence[Event]) -> Baseline | Reason:
    """Measure the time before the runner started and after it ended, or say what is in the way.

    What a condition changes, and the runner leaves behind, settles first; a slow meter then still tells of it.
    """
    started = next((e.t_ns for e in events if e.name == "runner_started"), None)
    exited = next((e.t_ns for e in events if e.name == "runner_exited"), None)
    if started is None or exited is None:
        return _none("the runner did not start and end", 0.0, 0.0)
    settle_ns = SETTLE_NS + (round(1e9 / meter.rate_hz) if meter.rate_hz > 0 else 0)
    prepared_ns = max((e.t_ns for e in events if e.name == "prepared"), default=0)
    first_ns = max(int(s.t_ns[0]) for s in meter.series)
    last_ns = min(int(s.t_ns[-1]) for s in meter.series)
    began_ns, ended_ns = min(e.t_ns for e in events), max(e.t_ns for e in events)
    if first_ns < began_ns:
        # A meter outside also saw what the device did before the job, and sees what it does after it.
        first_ns, last_ns = began_ns + settle_ns, min(last_ns, ended_ns)
    spans = {
        "before": (max(first_ns, prepared_ns + settle_ns if prepared_ns else 0), started),
        "after": (exited + settle_ns, last_ns),
    }
    parts: list[Integral] = []
    for when, span in spans.items():
        part = _rest(meter, when, span)
        if isinstance(part, Reason):
            return part
        parts.append(part)
    return Baseline(*parts)


def net(gross: Integral, baseline: Baseline, gain_ratio: float) -> Integral:
    """Return what was used above rest. What the meter adds to everything drops out, its gain is that of the rest."""
    energy_j = gross.energy_j - baseline.power_w * gross.time_s
    terms = replace(gross.terms, class_j=gain_ratio * abs(energy_j), baseline_j=baseline.uncertainty_w * gross.time_s)
    return replace(gross, energy_j=energy_j, terms=terms)


def _rest(meter: Meter, when: str, span: Span) -> Integral | Reason:
    time_s = (span[1] - span[0]) / 1e9
    least = max(MIN_SAMPLES, meter.least_samples)
    samples = meter.samples(span) if time_s > 0 else 0
    if time_s < MIN_S or samples < least:
        rate_hz = meter.rate_hz
        wanted_s = math.ceil(max(MIN_S, (least + 1) / rate_hz) + SETTLE_NS / 1e9 + 1 / rate_hz) if rate_hz > 0 else 0
        message = (
            f"{samples} samples of rest {when} the run, {least} in {MIN_S:g} s are needed: "
            f"ask for `sampling: {{baseline_s: {wanted_s}}}`"
        )
        return _none(message, time_s, float(samples))
    part = meter.measure([span])
    return (
        _none(f"no rest {when} the run: {part.message}", time_s, float(samples)) if isinstance(part, Reason) else part
    )


def _none(message: str, time_s: float, samples: float) -> Reason:
    return Reason(code="no_baseline", message=message, figures={"rest_s": max(0.0, time_s), "samples": samples})


def _noise_w(rest: Integral) -> float:
    terms = rest.terms
    return math.hypot(terms.rate_j, terms.quantum_j, terms.gap_j, terms.age_j, terms.clock_j) / rest.time_s
