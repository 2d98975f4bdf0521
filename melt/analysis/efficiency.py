"""How much of what a device can do a run made use of: MFU, roofline utilisation, memory; see docs/metrics.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from melt.analysis import channels
from melt.analysis.bandwidth import not_the_cpus
from melt.analysis.efficiency_work import Work, multiplies_floats, work_of
from melt.analysis.figures import NOT_REACHED, Figure
from melt.analysis.repetitions import Repetition
from melt.analysis.series import Span
from melt.records import Compute, DeviceFacts, RunStart, Workload
from melt.traces import Trace
from melt.units import human

NAMES = (
    "mfu_prefill_ratio",
    "mfu_decode_ratio",
    "roofline_prefill_ratio",
    "roofline_decode_ratio",
    "memory_used_ratio",
    "memory_pressure_ratio",
)
"""The figures of this module, in the order of `names.METRICS`."""

UTILISATION = NAMES[:4]
"""Those that need the times of phases."""

_SOURCE = "derived"
_WEIGHTS_ONLY = "weights only: what attention takes is unknown"


def utilisation(start: RunStart, used: Mapping[str, object], repetition: Repetition) -> dict[str, Figure]:
    """Return MFU and roofline utilisation of prefill and decode, as shares of what was measured on the device."""
    figures = {}
    for phase in ("prefill", "decode"):
        windows = repetition.phase(phase)
        why = None if windows else _no_phase(start.spec.workload, phase)
        work = work_of(start, used, phase, windows)
        time_s = sum(w.duration_s for w in windows)
        figures[f"mfu_{phase}_ratio"] = _mfu(start, used, work, time_s, why)
        figures[f"roofline_{phase}_ratio"] = _roofline(start, used, work, time_s, why)
    return figures


def memory_used(traces: Sequence[Trace], span: Span, device: DeviceFacts) -> Figure:
    """Return the mean of the runner's memory in a span as a share of all that the device has, 0..1.

    Resident memory, or where it is told and greater the physical footprint.
    """
    if not device.memory_total_bytes:
        return Figure(None, "the device's memory is not known", _SOURCE)
    series = (*channels.runner_rss(traces), *channels.runner_footprint(traces))
    means = [float(values.mean()) for s in series if len(values := s.inside(span))]
    if not means:
        return Figure(None, "the runner's memory was not sampled", _SOURCE)
    return Figure(max(means) / device.memory_total_bytes, f"of {_size(device.memory_total_bytes)}", _SOURCE)


def memory_pressure(peak: Figure, device: DeviceFacts) -> Figure:
    """Return the most memory that the runner took as a share of what was available before it was started."""
    if peak.value is None:
        return Figure(None, peak.note, _SOURCE)
    if not device.memory_available_bytes:
        return Figure(None, "the memory available before the run is not known", _SOURCE)
    note = f"of {_size(device.memory_available_bytes)} that were available"
    return Figure(peak.value / device.memory_available_bytes, note, _SOURCE)


def _mfu(start: RunStart, used: Mapping[str, object], work: Work, time_s: float, why: str | None) -> Figure:
    """Return the operations per second as a share of what the CPUs' arithmetic can deliver."""
    why = why or _why_not(start, used, work, time_s)
    compute = start.device.compute
    if why is not None or work.ops is None or compute is None:
        return Figure(None, why, _SOURCE)
    ceiling, said = _ceiling(start, compute)
    note = f"{said}; {_WEIGHTS_ONLY}" if work.weights_only else said
    return Figure(work.ops / time_s / ceiling, note, _SOURCE)


def _roofline(start: RunStart, used: Mapping[str, object], work: Work, time_s: float, why: str | None) -> Figure:
    """Return the operations per second as a share of min(arithmetic, bandwidth x operations per byte).

    That is the greater of two shares: of the arithmetic, and of the bandwidth by what must be read.
    """
    bandwidth, compute = start.device.memory_bandwidth_bytes_per_s, start.device.compute
    why = why or _why_not(start, used, work, time_s)
    if why is None and not bandwidth:
        why = "the memory bandwidth was not measured"
    if why is None and work.n_bytes is None:
        why = "what is read from memory is unknown"
    if why is not None or work.ops is None or work.n_bytes is None or compute is None or not bandwidth:
        return Figure(None, why, _SOURCE)
    ceiling, _ = _ceiling(start, compute)
    of_arithmetic, of_bandwidth = work.ops / time_s / ceiling, work.n_bytes / time_s / bandwidth
    bound = "memory" if of_bandwidth > of_arithmetic else "compute"
    note = f"under the roof of {bound}, {work.ops / work.n_bytes:.3g} operations a byte"
    if work.weights_only:
        note = f"{note}; {_WEIGHTS_ONLY}"
    return Figure(max(of_arithmetic, of_bandwidth), note, _SOURCE)


def _ceiling(start: RunStart, compute: Compute) -> tuple[float, str]:
    """Return the operations per second that the CPUs reach with numbers such as the model's, and what was measured."""
    if multiplies_floats(start.artifact):
        return compute.f32_ops_per_s, f"of f32 by {compute.f32_path}"
    return compute.int8_ops_per_s, f"of int8 by {compute.int8_path}"


def _why_not(start: RunStart, used: Mapping[str, object], work: Work, time_s: float) -> str | None:
    if start.device.compute is None:
        return "the CPUs' arithmetic was not measured"
    if (why := not_the_cpus(start, used)) is not None:
        return why
    if work.ops is None:
        return "the model's dimensions or the phase's tokens are unknown"
    return None if time_s > 0 else NOT_REACHED


def _no_phase(workload: Workload, phase: str) -> str:
    if phase == "prefill":
        return NOT_REACHED if workload.n_prompt or workload.prompts else "the workload has no prompt"
    return NOT_REACHED if workload.n_gen else "the workload decodes nothing"


def _size(n_bytes: int) -> str:
    return human(float(n_bytes), "bytes")
