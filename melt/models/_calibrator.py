"""Compute a model's importance matrix with llama.cpp, in a process of its own.

    python -P _calibrator.py MODEL TEXT TARGET THREADS

Runs TEXT through the model in chunks of 512 tokens and sums the squares of what each weight matrix is multiplied with,
column by column, as llama.cpp's llama-imatrix does; TARGET is in the format of that tool. Imports nothing of melt. Ends
when stdin does, so that it never outlives who started it. Progress and errors go to stderr.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

CHUNK_TOKENS = 512
_LEAST_TOKENS = 16
"""A product with fewer columns than this is no prompt: llama-imatrix leaves it out too."""
_OBJECT_BYTES = 32
_F32 = 0
_ERROR = 4


class Tensor(ctypes.Structure):
    """`struct ggml_tensor` of ggml.h."""


Tensor._fields_ = [
    ("type", c_int),
    ("buffer", c_void_p),
    ("ne", c_int64 * 4),
    ("nb", c_size_t * 4),
    ("op", c_int),
    ("op_params", c_int32 * 16),
    ("flags", c_int32),
    ("src", POINTER(Tensor) * 10),
    ("view_src", c_void_p),
    ("view_offs", c_size_t),
    ("data", c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", c_void_p),
    ("padding", ctypes.c_char * 8),
]

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ggml_tensor_overhead": (c_size_t, []),
    "ggml_op_name": (c_char_p, [c_int]),
    "ggml_nbytes": (c_size_t, [POINTER(Tensor)]),
    "ggml_backend_tensor_get": (None, [POINTER(Tensor), c_void_p, c_size_t, c_size_t]),
    "ggml_new_tensor_2d": (POINTER(Tensor), [c_void_p, c_int, c_int64, c_int64]),
    "ggml_set_name": (c_void_p, [POINTER(Tensor), c_char_p]),
    "gguf_init_empty": (c_void_p, []),
    "gguf_set_val_str": (None, [c_void_p, c_char_p, c_char_p]),
    "gguf_set_val_u32": (None, [c_void_p, c_char_p, c_uint32]),
    "gguf_set_arr_str": (None, [c_void_p, c_char_p, POINTER(c_char_p), c_size_t]),
    "gguf_add_tensor": (None, [c_void_p, POINTER(Tensor)]),
    "gguf_write_to_file": (c_bool, [c_void_p, c_char_p, c_bool]),
}


class InitParams(ctypes.Structure):
    """`struct ggml_init_params` of ggml.h."""

    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


class Failed(Exception):
    """The matrix cannot be computed; the message says why."""


def load_ggml() -> Any:
    """Return ggml's library with the functions declared that are used here. Raises Failed for an unknown revision."""
    from llama_cpp._ggml import libggml

    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(libggml, name)
        function.restype, function.argtypes = result, arguments
    libggml.ggml_init.restype, libggml.ggml_init.argtypes = c_void_p, [InitParams]
    if libggml.ggml_tensor_overhead() != _OBJECT_BYTES + ctypes.sizeof(Tensor):
        raise Failed("this revision of llama-cpp-python lays its tensors out differently: install the one melt names")
    return libggml


class Collector:
    """The sums of squares of each weight matrix's inputs, and how many inputs were summed."""

    def __init__(self, ggml: Any) -> None:
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, Any] = {}
        self.error: BaseException | None = None
        self._ggml = ggml

    def on_node(self, address: int, ask: bool, _user: object) -> bool:
        """Say whether a node of the graph is wanted, or take what it was computed from: ggml's eval callback."""
        try:
            node = Tensor.from_address(address)
            wanted = self._wants(node)
            if wanted and not ask:
                self._take(node)
        except BaseException as error:  # noqa: BLE001
            # Raised here it would be printed and forgotten: ctypes has no way through C.
            self.error = error
            return False
        return wanted

    def _wants(self, node: Tensor) -> bool:
        op = self._ggml.ggml_op_name(node.op)
        if op == b"MUL_MAT_ID":
            return True
        if op != b"MUL_MAT":
            return False
        weights, inputs = node.src[0].contents, node.src[1].contents
        return bool(weights.name.startswith(b"blk.") and inputs.type == _F32 and inputs.ne[1] >= _LEAST_TOKENS)

    def _take(self, node: Tensor) -> None:
        weights, inputs = node.src[0].contents, self._read(node.src[1], "<f4")
        name = weights.name.decode()
        if node.src[2]:
            self._take_routed(name, weights.ne[2], inputs[0], self._read(node.src[2], "<i4")[0, 0])
        else:
            self._take_dense(name, (weights.ne[3], weights.ne[2]), inputs)

    def _take_dense(self, name: str, matrices: tuple[int, int], inputs: Any) -> None:
        import numpy as np

        sums, counts = self._entry(name, matrices[0] * matrices[1], inputs.shape[-1], 1)
        for i, outer in enumerate(inputs):
            for j, rows in enumerate(outer):
                matrix = i % matrices[0] * matrices[1] + j % matrices[1]
                sums[matrix] += np.einsum("tj,tj->j", rows, rows, dtype=np.float64)
        counts += inputs.size // inputs.shape[-1] // len(sums)

    def _take_routed(self, name: str, n_experts: int, inputs: Any, chosen: Any) -> None:
        """Give each expert the tokens that were routed to it: `inputs` by token, slot and column; `chosen` by both."""
        import numpy as np

        sums, counts = self._entry(name, n_experts, inputs.shape[-1], n_experts)
        for slot in range(chosen.shape[1]):
            rows = inputs[:, slot % inputs.shape[1]]
            for expert in np.unique(chosen[:, slot]):
                routed = rows[chosen[:, slot] == expert]
                sums[expert] += np.einsum("tj,tj->j", routed, routed, dtype=np.float64)
                counts[expert] += len(routed)

    def _entry(self, name: str, n_matrices: int, n_columns: int, n_counts: int) -> tuple[Any, Any]:
        import numpy as np

        if name not in self.sums:
            self.sums[name] = np.zeros((n_matrices, n_columns))
            self.counts[name] = np.zeros(n_counts)
        return self.sums[name], self.counts[name]

    def _read(self, pointer: Any, dtype: str) -> Any:
        """Copy a tensor from wherever it lies, outermost dimension first."""
        import numpy as np

        tensor = pointer.contents
        raw = np.empty(self._ggml.ggml_nbytes(pointer), np.uint8)
        self._ggml.ggml_backend_tensor_get(pointer, raw.ctypes.data, 0, raw.nbytes)
        return np.ndarray(tuple(tensor.ne)[::-1], dtype, raw, 0, tuple(tensor.nb)[::-1])


def run_text(model_path: str, text: bytes, threads: int, collector: Collector) -> int:
    """Evaluate all whole chunks of a text and return how many there were. Raises Failed."""
    import llama_cpp as lib

    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(os.fsencode(model_path), params)
    if not model:
        raise Failed("llama.cpp cannot load the model")
    on_node = lib.ggml_backend_sched_eval_callback(collector.on_node)
    options = lib.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = CHUNK_TOKENS
    options.n_threads = options.n_threads_batch = threads
    options.offload_kqv = options.op_offload = False
    options.cb_eval = on_node
    context = lib.llama_init_from_model(model, options)
    if not context:
        raise Failed("llama.cpp cannot set the model up")
    vocab = lib.llama_model_get_vocab(model)
    tokens = (lib.llama_token * (len(text) + 2))()
    n_tokens: int = lib.llama_tokenize(vocab, text, len(text), tokens, len(tokens), True, False)
    n_chunks = n_tokens // CHUNK_TOKENS
    if n_chunks < 1:
        raise Failed(f"the calibration text has {max(n_tokens, 0)} tokens, one chunk takes {CHUNK_TOKENS}")
    first = lib.llama_vocab_bos(vocab) if lib.llama_vocab_get_add_bos(vocab) else None
    batch = lib.llama_batch_init(CHUNK_TOKENS, 0, 1)
    for chunk in range(n_chunks):
        _fill(batch, tokens[chunk * CHUNK_TOKENS : (chunk + 1) * CHUNK_TOKENS], first)
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        status = lib.llama_decode(context, batch)
        if collector.error is not None:
            raise collector.error
        if status:
            raise Failed(f"llama.cpp cannot evaluate chunk {chunk + 1}: status {status}")
        _say(f"[{chunk + 1:4}/{n_chunks:4}]")
    return n_chunks


def _fill(batch: Any, tokens: list[int], first: int | None) -> None:
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i] = first if i == 0 and first is not None else token
        batch.pos[i] = i
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        # Without them the last layer would be computed for the last token alone.
        batch.logits[i] = True


def write(ggml: Any, collector: Collector, n_chunks: int, dataset: str, target: str) -> None:
    """Write the matrix as llama-imatrix does. Raises Failed."""
    import numpy as np

    out = ggml.gguf_init_empty()
    ggml.gguf_set_val_str(out, b"general.type", b"imatrix")
    ggml.gguf_set_arr_str(out, b"imatrix.datasets", (c_char_p * 1)(dataset.encode()), 1)
    ggml.gguf_set_val_u32(out, b"imatrix.chunk_count", n_chunks)
    ggml.gguf_set_val_u32(out, b"imatrix.chunk_size", CHUNK_TOKENS)
    overhead = ggml.ggml_tensor_overhead() + 64
    need = sum(4 * (s.size + collector.counts[n].size) + 2 * overhead for n, s in collector.sums.items())
    memory = ggml.ggml_init(InitParams(need, None, False))
    for name in sorted(collector.sums):
        sums, counts = collector.sums[name], collector.counts[name]
        if not np.isfinite(sums).all():
            raise Failed(f"the inputs of {name} are not finite")
        for suffix, values in ((b"in_sum2", sums), (b"counts", counts)):
            tensor = ggml.ggml_new_tensor_2d(memory, _F32, values.size // counts.size, counts.size)
            ggml.ggml_set_name(tensor, b"%s.%s" % (name.encode(), suffix))
            flat = np.ascontiguousarray(values, np.float32)
            ctypes.memmove(tensor.contents.data, flat.ctypes.data, flat.nbytes)
            ggml.gguf_add_tensor(out, tensor)
    if not ggml.gguf_write_to_file(out, os.fsencode(target), False):
        raise Failed("iostream error: the matrix cannot be written")


def main() -> int:
    """Compute as the arguments say; the status is 0 when the matrix was written."""
    model, text, target, threads = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import llama_cpp

    log = llama_cpp.llama_log_callback(_write_errors)
    llama_cpp.llama_log_set(log, None)
    try:
        ggml = load_ggml()
        collector = Collector(ggml)
        n_chunks = run_text(model, Path(text).read_bytes(), int(threads), collector)
        if not collector.sums:
            raise Failed("no weights of this model are multiplied with a prompt")
        write(ggml, collector, n_chunks, Path(text).name, target)
    except (Failed, OSError) as error:
        _say(f"failed to calibrate: {error}")
        return 1
    return 0


def _say(line: str) -> None:
    os.write(2, f"{line}\n".encode())


def _write_errors(level: int, text: bytes, _user: object) -> None:
    if level == _ERROR:
        os.write(2, text)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
