"""Several inputs of a single-shot model, one after the other: made up, or read from .npz files.

In a file an array has the shape that the model's input has, then it is one sample, or a leading axis more, which then
counts the samples. `labels` are not the model's: what the right answer of each sample is.

Runs on the device's own Python, 3.8 and later, with numpy.
"""

from __future__ import annotations

import numpy
from onnx_inputs import arrays_of, make_up, typed, written
from runner_io import Failure

LABELS = "labels"


def made_up(declared, dims, count, first_seed=0):
    """Give `count` samples for the declared (name, element type, shape) of all inputs, by the seeds from the first."""
    for seed in range(first_seed, first_seed + count):
        yield make_up(declared, dims, seed)


def read_samples(paths, declared):
    """Return the samples of all files in order, and their labels, None where there are none. Raises Failure."""
    samples, labels = [], []
    for path in paths:
        arrays = arrays_of(path)
        own = arrays.pop(LABELS, None)
        of_file = _split(path, arrays, declared)
        samples += of_file
        if own is not None:
            labels += _labels(path, own, len(of_file))
    if labels and len(labels) != len(samples):
        raise Failure(
            "bad_request", "%d of the %d inputs have labels: give all of them, or none" % (len(labels), len(samples))
        )
    return samples, labels or None


def _split(path, arrays, declared):
    wanted = [name for name, _, _ in declared]
    odd = [name for name in wanted if name not in arrays] + [name for name in arrays if name not in wanted]
    if odd:
        raise Failure(
            "bad_request",
            "%s holds %s: the model takes %s" % (path, ", ".join(arrays) or "no inputs", ", ".join(wanted)),
        )
    counts = {}
    for name, element, shape in declared:
        array = typed(arrays[name], element)
        if array is None:
            raise Failure(
                "bad_request", "%s: %s is of type %s, the model takes %s" % (path, name, arrays[name].dtype, element)
            )
        arrays[name] = array = array[None] if array.ndim == len(shape) else array
        if array.ndim != len(shape) + 1 or not _fits(array.shape[1:], shape):
            raise Failure(
                "bad_request",
                "%s: %s has the shape %s, the model takes %s, with or without a leading axis of samples"
                % (path, name, list(array.shape), written(name, shape)),
            )
        counts[name] = len(array)
    if len(set(counts.values())) > 1:
        listed = ", ".join("%d of %s" % (count, name) for name, count in counts.items())
        raise Failure("bad_request", "%s holds unlike numbers of samples: %s" % (path, listed))
    count = next(iter(counts.values()), 0)
    if not count:
        raise Failure("bad_request", "%s holds no samples" % path)
    return [{name: numpy.asarray(arrays[name][index], order="C") for name in wanted} for index in range(count)]


def _fits(given, shape):
    return all(not isinstance(size, int) or size < 0 or size == length for size, length in zip(shape, given))


def _labels(path, labels, count):
    if labels.dtype.kind not in "iu" or labels.size != count:
        raise Failure(
            "bad_request",
            "%s: labels must be %s; they are %s of shape %s"
            % (
                path,
                "%d whole numbers, one for each sample" % count
                if count > 1
                else "one whole number, for there is one sample (several lie along an axis before the input's own)",
                labels.dtype,
                list(labels.shape),
            ),
        )
    return [int(label) for label in labels.ravel()]
