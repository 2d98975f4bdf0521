"""Run a model in a loop as its user would, without melt: `python bare_onnx.py MODEL INPUTS.npz (loop|timeit)`.

`loop` reads the clock behind many requests, `timeit` around each one as onnxruntime's own benchmarks do
(onnxruntime/transformers/benchmark_helper.py). Prints after each batch of about a twentieth of a second when it ended,
in nanoseconds, and how many requests it was, until it is ended itself.
"""

from __future__ import annotations

import sys
import time
import timeit

import numpy
import onnxruntime

_BATCH_S = 0.05
_WARMUPS = 20


def main(model: str, inputs: str, way: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with numpy.load(inputs) as archive:
        arrays = dict(archive)
    took_s = timeit.repeat(lambda: session.run(None, arrays), number=1, repeat=_WARMUPS)
    size = max(1, round(_BATCH_S / min(took_s)))
    while True:
        if way == "loop":
            for _ in range(size):
                session.run(None, arrays)
        else:
            timeit.repeat(lambda: session.run(None, arrays), number=1, repeat=size)
        print(time.monotonic_ns(), size, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
