"""Cells that need not, or cannot, be tried: they get their result without harm to the device."""

from __future__ import annotations

import time

from melt import __version__
from melt.fleet.fit import predict
from melt.records import Artifact, DeviceFacts, Outcome, Reason, RunSpec, RunStart, RunStop, Verdict
from melt.traces import RunBundle
from melt.units import human


def refusal(spec: RunSpec, artifact: Artifact, device: DeviceFacts) -> RunBundle | None:
    """Return the finished result of a cell whose memory the device has not or cannot give now, None for all others.

    What needs more than all memory is out of memory; what other programs leave no room for is skipped, because it may
    fit another time. With `must_fit: false` of the gate everything is tried.
    """
    fit = predict(spec, artifact, device)
    if fit is None or not spec.gate.must_fit:
        return None
    needs = f"{artifact.name} needs about {human(fit.needed_bytes, 'bytes')}"
    if fit.total_bytes is not None and fit.needed_bytes > fit.total_bytes:
        outcome, code = Outcome.OOM, "does_not_fit"
        message = f"{needs}, the device has {human(fit.total_bytes, 'bytes')}"
    elif fit.room_bytes is not None and fit.needed_bytes > fit.room_bytes:
        outcome, code = Outcome.SKIPPED, "memory_occupied"
        message = (
            f"{needs}, of the device's {human(fit.total_bytes, 'bytes')} only {human(fit.room_bytes, 'bytes')} can be "
            "had now: end other programs there, or try all the same with `--gate must_fit=false`"
        )
    else:
        return None
    return not_run(spec, artifact, device, outcome, Reason(code=code, message=message, figures=fit.figures))


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
