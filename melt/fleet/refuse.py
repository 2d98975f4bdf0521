"""Cells that need not, or cannot, be tried: they get their result without harm to the device."""

from __future__ import annotations

import time

from melt import __version__
from melt.models.inspect import expected_memory
from melt.records import Artifact, DeviceFacts, Outcome, Reason, RunSpec, RunStart, RunStop, Verdict
from melt.traces import RunBundle
from melt.units import human


def refusal(spec: RunSpec, artifact: Artifact, device: DeviceFacts) -> RunBundle | None:
    """Return the finished result of a cell that cannot fit into the device's memory, None for all others.

    Only what needs more than all memory is refused: what is merely tight is found out by running it.
    """
    total = device.memory_total_bytes
    workload = spec.workload
    n_ctx = workload.n_prompt + workload.n_gen + workload.n_depth
    needed = expected_memory(artifact, n_ctx, spec.settings.cache_type_k, spec.settings.cache_type_v)
    if total is None or needed <= total:
        return None
    reason = Reason(
        code="does_not_fit",
        message=f"{artifact.name} needs about {human(needed, 'bytes')}, the device has {human(total, 'bytes')}",
        figures={"needed_bytes": float(needed), "total_bytes": float(total)},
    )
    return not_run(spec, artifact, device, Outcome.OOM, reason)


def not_run(spec: RunSpec, artifact: Artifact, device: DeviceFacts, outcome: Outcome, reason: Reason) -> RunBundle:
    """Return the result of a cell for which nothing was started."""
    now = time.time_ns()
    start = RunStart(
        spec=spec,
        started_utc_ns=now,
        artifact=artifact,
        device=device,
        agent_version="",
        melt_version=__version__,
    )
    stop = RunStop(run_id=spec.run_id, ended_utc_ns=now, outcome=outcome, verdict=Verdict.INVALID, reasons=(reason,))
    return RunBundle(start=start, stop=stop)
