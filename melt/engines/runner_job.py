"""The job that runners of ours read: the file `runner.json` in the job's folder, see agents/PROTOCOL.md."""

from __future__ import annotations

import json
from dataclasses import asdict

from melt.records import Artifact, RunSpec

JOB = "runner.json"


def job_file(spec: RunSpec, artifact: Artifact, model_path: str, inputs_path: str | None = None) -> bytes:
    """Return the job for a run of a model that lies at `model_path` on the device, its input tensors at `inputs_path`.

    A runner passes over what is not for it: those of llama.cpp know no dims, that of ONNX Runtime no cache types.
    """
    workload = spec.workload
    symbolic = {length for tensor in artifact.inputs for length in tensor.shape or () if isinstance(length, str)}
    # What the plan says wins over what is usual for the model, which given inputs need not be; a plan's other models
    # have dimensions of their own.
    usual = artifact.dims if inputs_path is None else {}
    dims = {name: size for name, size in {**usual, **workload.dims}.items() if name in symbolic}
    job = {
        "model": model_path,
        "n_ctx_train": artifact.n_ctx_train,
        "profile": spec.profile,
        "workload": {**asdict(workload), "dims": dims, "inputs": inputs_path},
        "settings": asdict(spec.settings),
        "repeat": {"warmup": spec.repeat.warmup, "repetitions": spec.repeat.repetitions},
    }
    return json.dumps(job, indent=1, ensure_ascii=False).encode()
