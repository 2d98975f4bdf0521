"""Requests to a single-shot model, timed one by one.

Inside the timed loop there is nothing but ONNX Runtime, the clock and appending to two lists: no printing, no garbage
collection, no tensor that could be made beforehand. Runs on the device's own Python, 3.8 and later.
"""

from __future__ import annotations

import functools
import gc
import time

import onnx_inputs
import onnxruntime
from onnx_session import failure
from runner_io import Failure

_MOST = 10_000
"""Requests in one event: a line of the journal has room for 1 MiB."""


def tensors(job, declared):
    """Return the model's inputs by name: those of the job's .npz, else made up. Raises Failure."""
    workload = job.workload
    if workload.inputs:
        return onnx_inputs.read(workload.inputs, declared, workload.dims)
    return onnx_inputs.make_up(declared, workload.dims, job.settings.seed)


def request(session, arrays):
    """Return a function without arguments that runs the model once on these inputs. Raises Failure."""
    inner = session.inner
    if not session.settings.io_binding:
        return functools.partial(inner.run, session.outputs, arrays)
    bound = inner.io_binding()
    for name, array in arrays.items():
        if array.dtype == object:
            raise Failure("bad_request", "io_binding takes no text, which is what the input %s holds" % name)
        bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, session.device, 0))
    for name in session.outputs:
        bound.bind_output(name, session.device)
    run = functools.partial(inner.run_with_iobinding, bound)
    return run if session.device == "cpu" else functools.partial(_run_and_wait, run, bound)


def _run_and_wait(run, bound):
    run()
    bound.synchronize_outputs()


def repetition(run, workload, warmup, stop):
    """Run `n_infer` requests, or as many as fit into `duration_s`; return when each began and ended.

    A warm-up of a workload that lasts is one request. Raises Failure.
    """
    lasts = bool(workload.duration_s)
    begun_ns, ended_ns = [], []
    keep_begun, keep_ended, clock = begun_ns.append, ended_ns.append, time.monotonic_ns
    gc.collect()
    stop.set(clock() + int(workload.duration_s * 1e9) if lasts and not warmup else None)
    left = (1 if warmup else -1) if lasts else workload.n_infer
    try:
        while left and clock() < stop.at_ns:
            left -= 1
            t0_ns = clock()
            run()
            keep_ended(clock())
            keep_begun(t0_ns)
    except Exception as error:
        raise failure(error, "internal", "ONNX Runtime failed at request %d" % (len(begun_ns) + 1)) from None
    return begun_ns, ended_ns


def say(events, begun_ns, ended_ns, **fields):
    """Print the requests of one repetition, in as many events as it takes."""
    for at in range(0, len(begun_ns), _MOST):
        events.say("inferences", **fields, t0_ns=begun_ns[at : at + _MOST], t1_ns=ended_ns[at : at + _MOST])
