"""A program of melt's own that goes on on a device as a job of the agent, whatever becomes of the link."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from melt.errors import TransportError
from melt.session.connect import Reached
from melt.session.occupied import JOBS
from melt.targets.jobfile import Job


def job_folder(device: Reached, run_id: str) -> str:
    """Return where a job lies on a device."""
    return f"{device.root}/{JOBS}/{run_id}"


def begin(device: Reached, job: Job, files: Mapping[str, bytes]) -> str:
    """Start a job beside the files that its program reads, by their names, and return its folder.

    Raises TransportError while these are brought there.
    """
    job_dir = job_folder(device, job.run_id)
    with TemporaryDirectory() as scratch:
        for name, data in {**files, "job": job.render()}.items():
            (Path(scratch) / name).write_bytes(data)
            device.transport.push(Path(scratch) / name, f"{job_dir}/{name}")
    # When the link breaks here it may have begun: following finds out.
    with suppress(TransportError):
        device.agent.start(job_dir)
    return job_dir
