"""Input tensors of a single-shot model: made up from the declared shapes, or read from an .npz.

Runs on the device's own Python, 3.8 and later, with numpy.
"""

from __future__ import annotations

import re
import zipfile

import numpy
from runner_io import Failure

TYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
    "string": "object",
}
"""Elements of ONNX's tensors, as its text form writes them in lower case -> numpy's names for them."""

_UNNAMED = (None, "", "?")
_WORDS = ("on-device", "model", "benchmark", "")
_EXAMPLE_SIZE = 128
_LENGTH = re.compile("seq|len|time|frame|token|sample|height|width", re.IGNORECASE)


def element_type(kind):
    """Return the element of a type as ONNX Runtime writes it, `tensor(float)`; None for what is no plain tensor."""
    match = re.match(r"tensor\((\w+)\)$", kind)
    return match.group(1) if match and match.group(1) in TYPES else None


def sizes(name, shape, dims):
    """Return the shape of an input with its open dimensions as `dims` has them, None where it has not.

    An open dimension goes by the model's name for it, and by `INPUT.AXIS` (`x.2`) where the model has none.
    """
    return tuple(
        size if isinstance(size, int) and size >= 0 else dims.get(dimension(name, axis, size))
        for axis, size in enumerate(shape)
    )


def dimension(name, axis, size):
    """Return the name of an open dimension of an input."""
    return "%s.%d" % (name, axis) if size in _UNNAMED or isinstance(size, int) else size


def make_up(declared, dims, seed):
    """Make a tensor for each (name, element type, shape) of `declared`, the same for a seed on every device.

    Floats lie in [0, 1). Whole numbers are 0 or 1, which are valid as an index, a flag and a kind of token in any
    vocabulary; masks are all 1, and positions count up. Raises Failure that names every dimension left open.
    """
    shapes = {name: sizes(name, shape, dims) for name, _, shape in declared}
    lacking = {
        dimension(name, axis, size): None
        for name, _, shape in declared
        for axis, size in enumerate(shape)
        if shapes[name][axis] is None
    }
    if lacking:
        raise Failure("bad_request", _open_dimensions(list(lacking)))
    # Not numpy's newer generators: only this one gives the same numbers in every release.
    random = numpy.random.RandomState(seed % 2**32)
    return {name: _made_up(name, element, shapes[name], random) for name, element, _ in declared}


def _open_dimensions(names):
    first = next((name for name in names if "batch" in name.lower()), names[0])
    example = ", ".join("%s: %d" % (name, 1 if name == first else _EXAMPLE_SIZE) for name in names)
    leaves = "dimensions %s" % ", ".join(names) if len(names) > 1 else "dimension %s" % names[0]
    return "the model leaves the %s open: give the workload dims: {%s}, or inputs from an .npz" % (leaves, example)


def _made_up(name, element, shape, random):
    kind = TYPES.get(element)
    if kind is None:
        raise Failure(
            "bad_request", "the input %s holds elements of type %s, which cannot be made up" % (name, element)
        )
    if kind == "object":
        return numpy.array(_WORDS, dtype=object)[random.randint(0, len(_WORDS), shape)].reshape(shape)
    if kind.startswith("float"):
        return numpy.asarray(random.random_sample(shape), dtype=kind)
    if name.endswith("mask"):
        return numpy.ones(shape, kind)
    if name.startswith("position") and shape:
        return numpy.broadcast_to(numpy.arange(shape[-1], dtype=kind), shape).copy()
    return numpy.asarray(random.randint(0, 2, shape), dtype=kind)


def arrays_of(path):
    """Return what an .npz holds, by name. Raises Failure."""
    try:
        with open(path, "rb") as file, numpy.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        # What numpy says of a file that is none of its own speaks of pickles.
        why = error.strerror if isinstance(error, OSError) else "it is no .npz of numbers, flags and texts"
        raise Failure("bad_request", "cannot read the inputs %s: %s" % (path, why)) from None


def read(path, declared, dims):
    """Read a tensor for each (name, element type, shape) of `declared` from an .npz.

    Open dimensions that `dims` has must be as long. Raises Failure.
    """
    found = arrays_of(path)
    wanted = [name for name, _, _ in declared]
    for names, sentence in (
        ([name for name in wanted if name not in found], "the inputs lack %s: the model takes %s"),
        (
            [name for name in found if name not in wanted],
            "the inputs hold %s, which is none of the model's: it takes %s",
        ),
    ):
        if names:
            raise Failure("bad_request", sentence % (", ".join(names), ", ".join(wanted)))
    asked = [
        (name, element, [size if sized is None else sized for size, sized in zip(shape, sizes(name, shape, dims))])
        for name, element, shape in declared
    ]
    return {name: _checked(found[name], name, element, shape) for name, element, shape in asked}


def typed(array, element):
    """Return an array as ONNX Runtime takes it for this element type, None where it is of another."""
    kind = TYPES.get(element)
    if kind == "object" and array.dtype.kind in "US":
        return array.astype(object)
    return array if array.dtype == numpy.dtype(kind or "V") else None


def _checked(given, name, element, shape):
    array = typed(given, element)
    if array is None:
        raise Failure("bad_request", "the input %s is of type %s, the model takes %s" % (name, given.dtype, element))
    fits = len(array.shape) == len(shape) and all(
        not isinstance(size, int) or size < 0 or size == given for size, given in zip(shape, array.shape)
    )
    if not fits:
        raise Failure(
            "bad_request",
            "the input %s has the shape %s, the model takes %s" % (name, list(array.shape), written(name, shape)),
        )
    return numpy.asarray(array, order="C")


def written(name, shape):
    """Write the declared shape of an input with the names of its open dimensions: [batch, 3, x.2]."""
    named = (
        size if isinstance(size, int) and size >= 0 else dimension(name, axis, size) for axis, size in enumerate(shape)
    )
    return "[%s]" % ", ".join(map(str, named))


def batch(arrays, declared):
    """Return how many items one request holds: the size of the dimension called batch, else of the first one.

    The first one where it is open and not called a length: one that is fixed may be the channels of one image.
    Raises Failure where it holds none, which would be computed in no time.
    """
    for name, _, shape in declared:
        for axis, size in enumerate(shape):
            if isinstance(size, str) and "batch" in size.lower():
                return _items(name, arrays[name].shape[axis])
    first = next(((name, shape[0]) for name, _, shape in declared if arrays[name].ndim > 1), None)
    if first is None or (isinstance(first[1], int) and first[1] >= 0) or _LENGTH.search(str(first[1])):
        return 1
    return _items(first[0], arrays[first[0]].shape[0])


def _items(name, count):
    if not count:
        raise Failure("bad_request", "the input %s holds a batch of 0, of which nothing would be computed" % name)
    return count
