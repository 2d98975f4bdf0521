"""How a decoder's key-value cache gets from one step to the next: as values of ONNX Runtime, or in memory bound to it.

Both take a step with `run(feeds, past, n_new, rows)`: `past` is the cache as an earlier step returned it, or `empty`;
`rows` is how many rows of logits the step computes. They return the last of those rows, valid until the next step, and
the cache behind it. Runs on the device's own Python, 3.8 and later.
"""

from __future__ import annotations

import ctypes

import numpy
import onnxruntime

_value = onnxruntime.OrtValue.ortvalue_from_numpy


class HandedOn:
    """The present of a step is the past of the next, by reference. On the CPU nothing is copied."""

    def __init__(self, inner, names, caches, logits):
        self._inner = inner
        self._past, self._wanted = [past for past, _ in names], [logits.name, *(present for _, present in names)]
        self._kind = logits.kind
        self._row = ctypes.c_char * (logits.n_vocab * logits.kind.itemsize)
        self.empty = [_value(cache) for cache in caches]

    def keep(self, past):
        """Nothing to do: a step leaves its past as it was."""

    def run(self, feeds, past, _n_new, rows):
        """Run a step; see the module."""
        values = {name: _value(array) for name, array in feeds.items()}
        values.update(zip(self._past, past))
        self._logits, *present = self._inner.run_with_ort_values(self._wanted, values)
        # Looked at where they lie: those of a whole prompt may be a hundred megabytes, of which one row counts.
        at = self._logits.data_ptr() + (rows - 1) * ctypes.sizeof(self._row)
        return numpy.frombuffer(self._row.from_address(at), self._kind), present


class Bound:
    """Room for the whole cache two or three times, on the device that computes: a step reads one and writes another."""

    def __init__(self, inner, names, caches, logits, *, device, n_ctx, n_rows, n_rooms):
        self._binding = inner.io_binding()
        self._inner = inner
        self._names, self._caches, self._device = names, caches, device
        self._logits_name, self._logits = logits.name, numpy.zeros((n_rows, logits.n_vocab), logits.kind)
        sizes = [cache.shape[1] * n_ctx * cache.shape[3] for cache in caches]
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._rooms = [
            [make([size], cache.dtype.type, device, 0) for size, cache in zip(sizes, caches)] for _ in range(n_rooms)
        ]
        self._kept = None
        self.empty = (0, 0)

    def keep(self, past):
        """Write no step over this one."""
        self._kept = past[0] if past[1] else None

    def run(self, feeds, past, n_new, rows):
        """Run a step; see the module."""
        source, length = past
        target = next(i for i in range(len(self._rooms)) if i not in (source, self._kept))
        binding, device, logits = self._binding, self._device, self._logits[:rows]
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for (old, new), cache, read, written in zip(
            self._names, self._caches, self._rooms[source], self._rooms[target]
        ):
            _, heads, _, size = cache.shape
            binding.bind_input(old, device, 0, cache.dtype.type, (1, heads, length, size), read.data_ptr())
            binding.bind_output(new, device, 0, cache.dtype.type, (1, heads, length + n_new, size), written.data_ptr())
        shape = (1, *logits.shape)
        binding.bind_output(self._logits_name, "cpu", 0, logits.dtype.type, shape, logits.ctypes.data)
        self._inner.run_with_iobinding(binding)
        if device != "cpu":
            binding.synchronize_outputs()
        return logits[-1], (target, length + n_new)
