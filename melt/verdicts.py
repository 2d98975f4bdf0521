"""Whether a run may be believed: every reason that speaks against one, what it means, and the verdict it leads to.

The one place that decides. What looks for reasons (melt/analysis, and reviews of what is stored) names their codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from melt.records import Reason, Thresholds, Verdict

_WORST_FIRST = (Verdict.INVALID, Verdict.SUSPECT, Verdict.VALID)


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a reason means, and the verdict that it leads to.

    `plain` where throughput is what a run is for, None: it is no reason then; `metered` where energy is required.
    """

    meaning: str
    plain: Verdict | None = Verdict.SUSPECT
    metered: Verdict = Verdict.SUSPECT


def _wrong(meaning: str) -> Doubt:
    """Not the run that was asked for."""
    return Doubt(meaning, Verdict.INVALID, Verdict.INVALID)


def _failed(meaning: str) -> Doubt:
    """A power meter failed: throughput does not hang on it."""
    return Doubt(meaning, Verdict.SUSPECT, Verdict.INVALID)


def _lacking(meaning: str) -> Doubt:
    """There is no energy, in the nature of the device or of how it was powered: who did not ask misses nothing."""
    return Doubt(meaning, None, Verdict.INVALID)


def _vague(meaning: str) -> Doubt:
    """Energy is known less well: notes of its figures say so to everybody, and it is a reason to who needs it."""
    return Doubt(meaning, None, Verdict.SUSPECT)


DOUBTS: Mapping[str, Doubt] = MappingProxyType(
    {
        "wrong_threads": _wrong("the engine used another number of threads than asked for"),
        "wrong_backend": _wrong("layers or nodes ran on another processor than asked for"),
        "wrong_settings": _wrong("the engine did not take a setting that changes what is computed"),
        "affinity_not_applied": _wrong("the runner got other CPUs than asked for, or nobody can tell"),
        "knob_not_applied": _wrong("a condition that was asked for reads back as something else"),
        "channels_changed": _wrong("its sensors were sampled by a melt that knew other channels: none is decoded"),
        "imported_as_invalid": _wrong("another program measured it, and called its own result invalid"),
        "imported": Doubt("another program measured it: in which state the device was nobody knows"),
        "cache_not_cold": Doubt("a cold load found its file in memory, or that is unknown"),
        "too_few_repetitions": Doubt("there are too few repetitions to notice a disturbed one"),
        "unstable": Doubt("repetitions differ more than those of a quiet machine"),
        "drift": Doubt("repetitions became steadily slower or faster"),
        "order_effect": Doubt("the device became slower or faster over the whole sweep"),
        "missed_ticks": Doubt("the agent could not keep its rate"),
        "sampling_gap": Doubt("a channel was silent while it was measured"),
        "journal_full": Doubt("the device's disk filled up, the end was not sampled"),
        "journal_torn": Doubt("the end of the journal is missing"),
        "clock_uncertain": Doubt("the device's clock is not known well enough on the host"),
        "throttled": Doubt("the processor was slowed down to protect it"),
        "background_load": Doubt("other programs ran on the device's CPUs"),
        "cpu_stolen": Doubt("the hypervisor took CPU time away"),
        "swapped": Doubt("part of the runner lay on the disk"),
        "read_from_disk": Doubt("weights were read again while it was measured"),
        "charging": Doubt("a battery was being charged, which heats the device"),
        "screen_state": Doubt("the screen was not as asked, or was switched meanwhile"),
        "battery_low": Doubt("the battery was nearly empty, and devices save power then"),
        "governor_changed": Doubt("somebody chose another CPU governor meanwhile"),
        "power_mode_changed": Doubt("somebody chose another power mode, or fixed or released the clocks meanwhile"),
        "energy_misread": _failed("a gauge contradicts itself, or a meter sees the device give power: no energy"),
        "energy_gap": _failed("the power meter was silent for too much of a window: no energy"),
        "meter_stopped": _failed("the power meter fell silent before the end"),
        "meter_reset": _failed("the power meter's counter began anew: no energy"),
        "meter_dropped": Doubt("an external meter lost samples"),
        "meter_unreadable": Doubt("what an external meter said could not be read, or part of it"),
        "meter_out_of_order": Doubt("samples of an external meter are not in the order of their times"),
        "meter_clock": Doubt("an external meter cannot be brought to the device's clock, or its bursts lie elsewhere"),
        "energy_charging": _lacking("something besides the battery fed the device: no energy"),
        "energy_unread": _lacking("the unit or sign of a battery's current could not be told: no energy"),
        "no_power_sensor": _lacking("nothing on the device or beside it measures power"),
        "meter_too_slow": _lacking("the power meter has too few values for a window: no energy"),
        "meter_absent": _lacking("the power meter does not cover a window: no energy"),
        "meter_stood_still": _lacking("energy counters were not renewed while they were read: no energy"),
        "meter_not_renewed": _lacking("energy counters were renewed too seldom for a window: no energy"),
        "energy_bridged": _vague("part of the energy is that of a straight line over holes in the samples"),
        "baseline_unsteady": _vague("power at rest was another after the run than before it: net energy is vague"),
        "charge_disagrees": _vague("a battery's power and its charge counter disagree by more than either may be off"),
    }
)
"""By code. docs/metrics.md says of each when exactly it is told."""


def is_told(code: str, thresholds: Thresholds, *, energy_required: bool) -> bool:
    """Return whether it is a reason at all: for whom it matters, and who asks that it make a run invalid."""
    return energy_required or DOUBTS[code].plain is not None or code in thresholds.invalid


def decide(reasons: Iterable[Reason], thresholds: Thresholds, *, energy_required: bool) -> Verdict:
    """Return the verdict of a run that ended well: the worst that any of the reasons leads to, valid without any."""
    return worst(_severity(reason.code, thresholds, energy_required) for reason in reasons)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts; valid without any."""
    said = set(verdicts)
    return next((verdict for verdict in _WORST_FIRST if verdict in said), Verdict.VALID)


def changed(thresholds: Thresholds) -> str:
    """Write what is not as melt has it by itself, as one would ask for it: `unstable_cv=0.08 invalid=throttled`."""
    default = Thresholds()
    values = {f.name: getattr(thresholds, f.name) for f in fields(Thresholds)}
    return " ".join(f"{name}={written(value)}" for name, value in values.items() if value != getattr(default, name))


def written(value: float | tuple[str, ...]) -> str:
    """Write a threshold, or the list of codes, in one word."""
    return (",".join(value) or "none") if isinstance(value, tuple) else f"{value:.12g}"


def _severity(code: str, thresholds: Thresholds, energy_required: bool) -> Verdict:
    # A review of a newer melt may know reasons that this one does not: they are reasons all the same.
    doubt = DOUBTS.get(code, Doubt(""))
    if code in thresholds.invalid:
        return Verdict.INVALID
    return doubt.metered if energy_required else doubt.plain or Verdict.VALID
