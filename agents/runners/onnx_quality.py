"""Run levels of an ONNX model on the same inputs, and say how far their outputs are from those of the reference.

    python onnx_quality.py JOB.json

The job has `models` (paths, the reference first), `inputs` (paths of .npz files; none: made up), `dims`, `n_samples`
(of made-up ones, or at most of those given; null: all) and `threads`. Prints JSON lines: `size`, then for each model
and sample a `sample`, for a model that cannot be run a `failed`, and `finish`. Ends when its stdin does. Runs on the
device's own Python, 3.8 and later, with numpy and onnxruntime.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy
import onnxruntime
from onnx_inputs import element_type
from onnx_sample_set import made_up, read_samples
from runner_io import Events, Failure, end_with_parent, first_line

_SUM_TOLERANCE = 1e-2
_FIRST_SEED = 1000
"""Far from the seeds of the inputs that levels are calibrated on, which would flatter them."""


def main():
    """Do what the job says; a failure that is the user's or the model's to mend is a line and status 1."""
    events = Events()
    end_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    onnxruntime.set_default_logger_severity(4)
    try:
        _compare(job, events)
    except Failure as failure:
        events.fail(failure)
        return 1
    events.say("finish")
    return 0


def _compare(job, events):
    paths = job["models"]
    reference = _session(paths[0], job["threads"])
    declared = [(one.name, element_type(one.type), tuple(one.shape)) for one in reference.get_inputs()]
    if job["inputs"]:
        samples, labels = read_samples(job["inputs"], declared)
        samples = samples[: job["n_samples"]]
    else:
        samples, labels = list(made_up(declared, job["dims"], job["n_samples"], _FIRST_SEED)), None
    names = [one.name for one in reference.get_outputs() if element_type(one.type) in ("float", "float16", "double")]
    if not names:
        raise Failure("bad_request", "the model has no outputs of floating point to compare")
    wanted = [_outputs(reference, names, sample) for sample in samples]
    for number, outputs in enumerate(wanted, 1):
        if not _is_finite(outputs):
            raise Failure("bad_model", "the reference's outputs hold NaN or infinity for sample %d" % number)
    scores = _class_output(names, wanted)
    if labels is not None:
        _check_labels(labels, scores, wanted)
    events.say("size", total=len(samples), class_output=None if scores is None else names[scores])
    for index, path in enumerate(paths):
        try:
            session = reference if index == 0 else _session(path, job["threads"])
            for number, sample in enumerate(samples):
                found = wanted[number] if index == 0 else _outputs(session, names, sample)
                label = None if labels is None else labels[number]
                events.say("sample", model=index, index=number, **_drift(wanted[number], found, scores, label))
        except Failure as failure:
            events.say("failed", model=index, message=str(failure.args[-1]))


def _session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Failure("bad_model", "onnxruntime cannot load %s: %s" % (path, first_line(error))) from None


def _outputs(session, names, sample):
    try:
        return [numpy.asarray(one, dtype="float64") for one in session.run(names, sample)]
    except Exception as error:
        raise Failure("bad_model", "onnxruntime cannot run it: %s" % first_line(error)) from None


def _class_output(names, wanted):
    """Return the output that looks like class scores: rows that sum to 1, else the only one, of two dimensions."""
    outputs = list(zip(*wanted))
    for index, values in enumerate(outputs):
        if all(_has_classes(one) and _sums_to_one(one) for one in values):
            return index
    if len(names) == 1 and all(one.ndim == 2 and _has_classes(one) for one in outputs[0]):
        return 0
    return None


def _has_classes(array):
    return array.ndim > 1 and array.shape[-1] > 1 and array.size > 0


def _sums_to_one(array):
    return bool((array >= 0).all() and (abs(array.sum(axis=-1) - 1) < _SUM_TOLERANCE).all())


def _rows(array):
    return array.size // array.shape[-1]


def _check_labels(labels, scores, wanted):
    if scores is None or any(_rows(one[scores]) != 1 for one in wanted):
        raise Failure("bad_request", "there are labels, but no output has one row of class scores for each sample")
    for number, (label, one) in enumerate(zip(labels, wanted), 1):
        n_classes = one[scores].shape[-1]
        if not 0 <= label < n_classes:
            raise Failure(
                "bad_request",
                "the label of sample %d is %d: the model tells %d classes, counted from 0" % (number, label, n_classes),
            )


def _is_finite(arrays):
    return all(numpy.isfinite(array).all() for array in arrays)


def _drift(wanted, found, scores, label):
    if not _is_finite(found):
        raise Failure("bad_model", "its outputs hold NaN or infinity, which no other can be near to")
    if any(one.shape != other.shape for one, other in zip(wanted, found)):
        raise Failure("bad_model", "its outputs have other shapes than the reference's")
    drift = {
        "cosine": min(_cosine(one.ravel(), other.ravel()) for one, other in zip(wanted, found)),
        "max_error": max(float(abs(one - other).max()) if one.size else 0.0 for one, other in zip(wanted, found)),
        "rows": None,
        "same": None,
        "right": None,
    }
    if scores is not None:
        top = found[scores].argmax(axis=-1)
        drift["rows"] = int(top.size)
        drift["same"] = int((top == wanted[scores].argmax(axis=-1)).sum())
        if label is not None:
            drift["right"] = int(top.ravel()[0]) == label
    return drift


def _cosine(one, other):
    length, length_other = numpy.linalg.norm(one), numpy.linalg.norm(other)
    if not length or not length_other:
        return float(length == length_other)
    # Scaled first: products of very small or large numbers would lose what they say.
    return float(min(1.0, max(-1.0, numpy.dot(one / length, other / length_other))))


if __name__ == "__main__":
    sys.exit(main())
