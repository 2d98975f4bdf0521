"""Quantize one file with llama.cpp, in a process of its own: llama.cpp may abort, and writes its log where it likes.

    python -P _quantizer.py ORIGIN TARGET FTYPE THREADS [IMATRIX DATASET]

IMATRIX is an importance matrix in the format of llama-imatrix, DATASET the name of the text that it was computed on.
Imports nothing of melt. Ends when stdin does, so that it never outlives who started it. The log goes to stderr.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import c_bool, c_char_p, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

_STRING, _INT = 3, 0


def main() -> int:
    """Quantize as the arguments say; the status is that of llama_model_quantize, 0 when the file was written."""
    origin, target, ftype, threads, *weighed = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import llama_cpp

    log = llama_cpp.llama_log_callback(_write_log)
    llama_cpp.llama_log_set(log, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = int(ftype)
    params.nthread = int(threads)
    params.allow_requantize = True
    if weighed:
        matrix, dataset = weighed
        entries, n_chunks = read_matrix(matrix)
        keep = _weigh(llama_cpp, params, entries)
        keep += _mark(llama_cpp, params, Path(matrix).name, dataset, len(entries), n_chunks)
    return int(llama_cpp.llama_model_quantize(os.fsencode(origin), os.fsencode(target), ctypes.byref(params)))


def read_matrix(path: str) -> tuple[dict[str, Any], int]:
    """Return the mean squared input of each weight matrix, by its name, and how many chunks they are the mean of."""
    import numpy as np

    gguf = _gguf()
    file = gguf.gguf_init_from_file(os.fsencode(path), _InitParams(True, None))
    if not file:
        raise SystemExit(f"failed to quantize: {path} is no importance matrix")
    start = gguf.gguf_get_data_offset(file)
    tensors: dict[str, Any] = {}
    for i in range(gguf.gguf_get_n_tensors(file)):
        offset = start + gguf.gguf_get_tensor_offset(file, i)
        count = gguf.gguf_get_tensor_size(file, i) // 4
        tensors[gguf.gguf_get_tensor_name(file, i).decode()] = np.fromfile(path, "<f4", count, offset=offset)
    entries = {}
    for name in (name.removesuffix(".counts") for name in tensors if name.endswith(".counts")):
        counts = tensors[f"{name}.counts"][:, None]
        sums = tensors[f"{name}.in_sum2"].reshape(len(counts), -1)
        # An expert that no token was routed to has all its columns alike, as llama-quantize has it.
        entries[name] = np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0).ravel()
    key = gguf.gguf_find_key(file, b"imatrix.chunk_count")
    return entries, gguf.gguf_get_val_u32(file, key) if key >= 0 else 0


class _InitParams(ctypes.Structure):
    """`struct gguf_init_params` of gguf.h."""

    _fields_ = (("no_alloc", c_bool), ("ctx", c_void_p))


def _gguf() -> Any:
    from llama_cpp._ggml import libggml

    libggml.gguf_init_from_file.restype = c_void_p
    libggml.gguf_init_from_file.argtypes = [c_char_p, _InitParams]
    for name, result, arguments in (
        ("get_data_offset", c_size_t, []),
        ("get_n_tensors", c_int64, []),
        ("get_tensor_offset", c_size_t, [c_int64]),
        ("get_tensor_size", c_size_t, [c_int64]),
        ("get_tensor_name", c_char_p, [c_int64]),
        ("find_key", c_int64, [c_char_p]),
        ("get_val_u32", ctypes.c_uint32, [c_int64]),
    ):
        function = getattr(libggml, f"gguf_{name}")
        function.restype, function.argtypes = result, [c_void_p, *arguments]
    return libggml


def _weigh(lib: Any, params: Any, entries: dict[str, Any]) -> list[Any]:
    """Hand the matrix over; what is returned must live as long as `params` is used."""
    kind = lib.llama_cpp.llama_model_imatrix_data
    rows = (kind * (len(entries) + 1))()
    for row, (name, values) in zip(rows, entries.items(), strict=False):
        row.name = name.encode()
        row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        row.size = values.size
    params.imatrix = rows
    return [rows, entries]


def _mark(lib: Any, params: Any, file: str, dataset: str, n_entries: int, n_chunks: int) -> list[Any]:
    """Have the file say what it was made with, in the keys that llama-quantize writes."""
    marks = (lib.llama_cpp.llama_model_kv_override * 5)()
    facts = (("file", file), ("dataset", dataset), ("entries_count", n_entries), ("chunks_count", n_chunks))
    for mark, (key, fact) in zip(marks, facts, strict=False):
        mark.key = f"quantize.imatrix.{key}".encode()
        if isinstance(fact, str):
            mark.tag = _STRING
            mark.value.val_str = fact.encode()[:127]
        else:
            mark.tag = _INT
            mark.value.val_i64 = fact
    params.kv_overrides = marks
    return [marks]


def _write_log(_level: int, text: bytes, _user: object) -> None:
    os.write(2, text)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
