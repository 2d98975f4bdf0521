"""What each node of llama.cpp's graphs costs, by the callback that its scheduler offers for every node.

ggml_backend_sched_compute_splits (ggml/src/ggml-backend.cpp) asks of each node whether somebody wants to see it. Where
the answer is yes, the nodes up to it are computed by themselves and the backend is waited for before it calls again:
the time between the two calls is that of the node. What is lost by that, for each node the start of a graph and a
wait, is inside its time; the callback itself lies outside.

Runs on the device's own Python, 3.8 and later. Written against llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import ctypes
import time
from array import array

from llama_work import Worker
from runner_io import Failure

SOURCE = "ggml_backend_sched_eval_callback"
MOST = 2000000
"""How many nodes of a run are kept: 48 MB here, 40 MB of journal. SmolLM2-135M has 500 for each token."""

_PART = 20000
"""Nodes in one event: half of what the agent takes for a line."""

_NOTHING_TO_DO = (b"NONE", b"RESHAPE", b"VIEW", b"PERMUTE", b"TRANSPOSE")
"""Operations that compute nothing (ggml-impl.h, ggml_op_is_empty): they go with the node behind them."""

_JOINS = b"RMS_NORM"
"""ggml's CPU backend computes it together with the MUL behind it: asked for alone, it would cost more than it does."""

_TIME, _JOIN, _PASS_OVER = range(3)
"""What is done with a node: time it, leave it to the one behind it and say so, or leave it to that one in silence."""


class _Tensor(ctypes.Structure):
    # ggml.h: struct ggml_tensor, up to its name
    pass


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.POINTER(_Tensor)),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]
_OP_AT, _NAME_AT = _Tensor.op.offset, _Tensor.name.offset


class Profiler:
    """Times the nodes of one context, which is made with its `callback`, while `on`.

    Nothing may be raised inside the callback: ctypes would print it and llama.cpp leave out the rest of the graph.
    """

    def __init__(self, api):
        self.on = False
        self.callback = api.ggml_backend_sched_eval_callback(self._called)
        self._ask = _Questions(api._lib)
        self._wrong_layout = False
        self._ops = {}
        self._joined = []
        self._numbers = {}
        self._nodes = []
        self._told = 0
        self._now = 0
        self._begun_ns = 0
        self._room = MOST
        self._left_out = 0
        self._clear()

    def events(self):
        """Give the fields of `operators` events for what was timed since the last call, and forget it. Raises Failure.

        Each holds the nodes that are met for the first time, and for each time a node was computed its number, its
        begin after `t0_ns` and how long it took.
        """
        if self._wrong_layout:
            raise Failure("internal", "this llama-cpp-python lays out its tensors otherwise: install 0.3.36")
        numbers, begins, lengths, left_out = self._number, self._begin_ns, self._length_ns, self._left_out
        self._clear()
        for at in range(0, len(numbers) or (1 if left_out else 0), _PART):
            part = slice(at, at + _PART)
            new, self._told = self._nodes[self._told :], len(self._nodes)
            first_ns = begins[at] if at < len(begins) else 0
            yield {
                "source": SOURCE,
                "new": new,
                "t0_ns": first_ns,
                "node": numbers[part].tolist(),
                "after_ns": [begin - first_ns for begin in begins[part]],
                "ns": lengths[part].tolist(),
                "left_out": left_out if at == 0 else 0,
            }

    def _clear(self):
        self._number, self._begin_ns, self._length_ns = array("q"), array("q"), array("q")
        self._left_out = 0

    def _called(self, address, asks, _user):
        if not asks:
            end_ns = time.monotonic_ns()
            self._number.append(self._now)
            self._begin_ns.append(self._begun_ns)
            self._length_ns.append(end_ns - self._begun_ns)
            self._room -= 1
            return True
        if not self.on:
            return False
        op = ctypes.c_int.from_address(address + _OP_AT).value
        deed = self._ops.get(op)
        if deed is None:
            deed = self._ops[op] = self._deed(address)
        if deed == _JOIN:
            self._joined.append(op)
        if deed != _TIME:
            return False
        if self._room <= 0:
            self._left_out += 1
            self._joined.clear()
            return False
        key = (op, tuple(self._joined), ctypes.string_at(address + _NAME_AT))
        self._joined.clear()
        self._now = self._numbers.get(key, -1)
        if self._now < 0:
            self._now = self._numbers[key] = len(self._nodes)
            self._nodes.append(self._describe(address, len(key[1])))
        self._begun_ns = time.monotonic_ns()
        return True

    def _deed(self, address):
        """Say what is to be done with an operation that was not met before."""
        tensor = _Tensor.from_address(address)
        count = tensor.ne[0] * tensor.ne[1] * tensor.ne[2] * tensor.ne[3]
        if (tensor.name, count) != (self._ask.name(address), self._ask.elements(address)):
            self._wrong_layout = True
        if self._wrong_layout:
            return _PASS_OVER
        name = self._ask.op(address)
        return _PASS_OVER if name in _NOTHING_TO_DO else _JOIN if name == _JOINS else _TIME

    def _describe(self, address, joined):
        """Say what a node is: operation, name, type of the weights it reads, and where its result lies."""
        tensor = _Tensor.from_address(address)
        weights = next((s.contents for s in tensor.src if s and s.contents.name.endswith(b".weight")), None)
        buffer = tensor.buffer or (tensor.view_src.contents.buffer if tensor.view_src else None)
        told = (
            b"+".join([_JOINS] * joined + [self._ask.op(address)]),
            tensor.name,
            None if weights is None else self._ask.type(weights.type),
            self._ask.buffer(buffer) if buffer else None,
        )
        return [None if one is None else one.decode("utf-8", "replace") for one in told]


class ProfiledWorker(Worker):
    """A worker whose requests are profiled; what prepares them is not."""

    def __init__(self, engine, settings, stop, profiler):
        super().__init__(engine, settings, stop)
        self._profiler = profiler

    def request(self, tokens, first_token, n_gen, submit_ns=None):
        """Do what a Worker does, with every node timed."""
        self._profiler.on = True
        try:
            return super().request(tokens, first_token, n_gen, submit_ns)
        finally:
            self._profiler.on = False


class _Questions:
    """ggml's own answers about a tensor."""

    def __init__(self, lib):
        tensor, text = [ctypes.c_void_p], ctypes.c_char_p
        self.op = _function(lib.ggml_op_desc, tensor, text)
        self.name = _function(lib.ggml_get_name, tensor, text)
        self.elements = _function(lib.ggml_nelements, tensor, ctypes.c_int64)
        self.type = _function(lib.ggml_type_name, [ctypes.c_int], text)
        self.buffer = _function(lib.ggml_backend_buffer_name, [ctypes.c_void_p], text)


def _function(function, takes, gives):
    function.argtypes, function.restype = takes, gives
    return function
