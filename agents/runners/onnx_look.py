"""Which execution provider runs each node of a model: `python onnx_look.py JOB.json`, a process of its own.

ONNX Runtime tells it in its profile alone. The look is taken before the timing and apart from it, so that neither the
profile nor a second copy of the model is in any time or peak of memory. Prints one JSON object: `nodes_by_provider`,
and `outputs`, the shape of each output that is a tensor; or `code` and `message` of a failure.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile

import onnx_decoder
import onnx_session
import onnx_work
from runner_io import Failure, read_job


def look(path, stop):
    """Take the look in a process of its own for the job at `path`; None when told to end. Raises Failure."""
    child = subprocess.Popen(
        (sys.executable, os.path.abspath(__file__), path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = child.communicate()
    if stop.told:
        return None
    try:
        said = json.loads(out)
    except ValueError:
        raise _died(child.returncode, err.decode("utf-8", "replace")) from None
    if "code" in said:
        raise Failure(said["code"], said["message"])
    return said


def _died(code, stderr):
    if code == -signal.SIGKILL:
        return Failure("out_of_memory", "a first look at the model was killed: it needs more memory than there is")
    last = (stderr.strip().splitlines() or ["exit code %d" % code])[-1]
    return Failure("internal", "a first look at the model failed: %s" % last)


def main(path):
    """Take the look and print what was seen."""
    # A library's own prints go to stderr.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        job = read_job(path)
        with tempfile.TemporaryDirectory() as folder:
            said = _look(job, folder)
    except Failure as failure:
        said = {"code": failure.code, "message": failure.message}
    except MemoryError:
        said = {"code": "out_of_memory", "message": "Python ran out of memory"}
    json.dump(said, out)
    out.close()


def _look(job, folder):
    made = onnx_session.options(job.settings)
    made.enable_profiling = True
    made.profile_file_prefix = os.path.join(folder, "look")
    session = onnx_session.Session(job.model, job.settings, made)
    if job.workload.kind == "inference":
        feeds, what = onnx_work.tensors(job, session.declared), _whose(job)
    else:
        feeds, what = onnx_decoder.Decoder(session, job.workload.dims, 2).sample(), "tokens"
    try:
        outputs = session.inner.run(session.outputs, feeds)
    except Exception as error:
        raise onnx_session.failure(error, "bad_request", "the model does not run on %s" % what) from None
    nodes = set(_nodes(session.inner.end_profiling()))
    count = {}
    for _, _, provider in sorted(nodes, key=str):
        count[provider] = count.get(provider, 0) + 1
    shapes = {name: list(array.shape) for name, array in zip(session.outputs, outputs) if hasattr(array, "shape")}
    return {"nodes_by_provider": count, "outputs": shapes}


def _nodes(path):
    """Give name, index and provider of each node in a profile, line by line: of a loop there may be a million."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            # A name with quotation marks in it is written as it is: such a line cannot be read.
            try:
                event = json.loads(line.rstrip(",\r\n")) if line.startswith("{") else {}
            except ValueError:
                continue
            args = event.get("args", {})
            if event.get("cat") == "Node" and args.get("provider"):
                yield event["name"], args.get("node_index"), args["provider"]


def _whose(job):
    if job.workload.inputs:
        return "the inputs of %s" % os.path.basename(job.workload.inputs)
    return "made-up inputs (give real ones in an .npz)"


if __name__ == "__main__":
    main(sys.argv[1])
