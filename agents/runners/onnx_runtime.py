"""Run a workload with ONNX Runtime and print what happened: `python onnx_runtime.py JOB.json`.

The job holds `model` (a path) and the fields of a Workload, Settings and Repeat of melt/records/spec.py, with the path
of an .npz for `inputs`; the events are those of agents/PROTOCOL.md, "Runner events". Runs on the device's own Python,
3.8 and later, with the standard library, onnxruntime and numpy. Exit code 0 when it printed `finish`, 143 when it was
told to end, 1 otherwise.
"""

from __future__ import annotations

import os
import sys

from runner_io import Failure, run_job


def _run(job, events, stop):
    try:
        import onnx_run
    except ImportError as error:
        starved = any(text in str(error) for text in ("allocate memory", "failed to map segment"))
        code = "out_of_memory" if starved else "engine_missing"
        raise Failure(code, "onnxruntime does not load in %s: %s" % (sys.executable, error)) from None
    return onnx_run.run(job, events, stop)


if __name__ == "__main__":
    # Freeing a model takes time and gives nothing: the process ends here.
    code = run_job(sys.argv, _run)
    sys.stderr.flush()
    os._exit(code)
