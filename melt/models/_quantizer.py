"""Quantize one file with llama.cpp, in a process of its own: llama.cpp may abort, and writes its log where it likes.

    python -P _quantizer.py ORIGIN TARGET FTYPE THREADS

Imports nothing of melt. Ends when stdin does, so that it never outlives who started it. The log goes to stderr.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading


def main() -> int:
    """Quantize as the arguments say; the status is that of llama_model_quantize, 0 when the file was written."""
    origin, target, ftype, threads = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import llama_cpp

    log = llama_cpp.llama_log_callback(_write_log)
    llama_cpp.llama_log_set(log, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = int(ftype)
    params.nthread = int(threads)
    params.allow_requantize = True
    return int(llama_cpp.llama_model_quantize(os.fsencode(origin), os.fsencode(target), ctypes.byref(params)))


def _write_log(_level: int, text: bytes, _user: object) -> None:
    os.write(2, text)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
