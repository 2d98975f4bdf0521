"""The job that runners of ours read: the file `runner.json` in the job's folder, see agents/PROTOCOL.md."""

from __future__ import annotations

import json
from dataclasses import asdict

from melt.records import Artifact, RunSpec

JOB = "runner.json"


def job_file(spec: RunSpec, artifact: Artifact, model_path: str) -> bytes:
    """Return the job for a run of a model that lies at `model_path` on the device."""
    job = {
        "model": model_path,
        "n_ctx_train": artifact.n_ctx_train,
        "workload": asdict(spec.workload),
        "settings": asdict(spec.settings),
        "repeat": {"warmup": spec.repeat.warmup, "repetitions": spec.repeat.repetitions},
    }
    return json.dumps(job, indent=1, ensure_ascii=False).encode()
