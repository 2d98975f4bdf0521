"""Requests to a decoder, timed: prefill in batches, then a token at a time, the likeliest each time.

Runs on the device's own Python, 3.8 and later.
"""

from __future__ import annotations

import gc
import time

import numpy


def made_up(count, seed, n_vocab):
    """Make `count` tokens, the same for a seed on every device: see agents/PROTOCOL.md, "Runner events".

    An .onnx file does not tell which tokens are text, so that none is passed over.
    """
    tokens = numpy.empty((1, count), numpy.int64)
    state = seed % 2**64
    for place in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        tokens[0, place] = (state >> 33) % n_vocab
    return tokens


class Worker:
    """Runs requests on one decoder, one after the other."""

    def __init__(self, decoder, n_batch, stop):
        self._decoder = decoder
        self._n_batch = n_batch
        self._stop = stop
        self._cell = numpy.zeros((1, 1), numpy.int64)
        self._depth = 0
        self._kept = decoder.empty

    def prepare(self, depth_tokens):
        """Leave exactly `depth_tokens` in the cache, outside any measurement.

        What a request adds lies elsewhere: the cache of the depth stays as it was.
        """
        depth = depth_tokens.shape[1]
        if depth != self._depth:
            self._kept, self._depth = self._prefill(depth_tokens, self._decoder.empty, 0)[2], depth
            self._decoder.keep(self._kept)
        gc.collect()

    def request(self, tokens, first_token, n_gen):
        """Prefill `tokens`, decode up to `n_gen` tokens, and return the times as fields of a `generation` event.

        With tokens, the first generated one comes from the prefill, also when none are asked for, so that a time to
        first token exists. Without, `first_token` is what decoding begins with, and each of the `n_gen` is decoded.
        """
        token_ns, token_ids = [], []
        clock = time.monotonic_ns
        prefill, stop, past, at = None, "length", self._kept, self._depth
        submit_ns = clock()
        if tokens.shape[1]:
            batches, token, past = self._prefill(tokens, past, at)
            at += tokens.shape[1]
            token_ns.append(clock())
            token_ids.append(token)
            prefill = {"t0_ns": submit_ns, "t1_ns": batches[-1][1], "batches": batches}
            if token_ns[0] >= self._stop.at_ns:
                stop = self._stop.reason
            elif n_gen > 1:
                stop = self._decode(token, n_gen - 1, past, at, token_ns, token_ids)
        else:
            stop = self._decode(first_token, n_gen, past, at, token_ns, token_ids)
        return {
            "submit_ns": submit_ns,
            "n_prompt": tokens.shape[1],
            "prefill": prefill,
            "token_ns": token_ns,
            "token_ids": token_ids,
            "stop": stop,
        }

    def _prefill(self, tokens, past, at):
        """Process tokens in pieces of n_batch; return [size, end] of each, the token behind them and the cache."""
        batches, token = [], None
        for begin in range(0, tokens.shape[1], self._n_batch):
            piece = tokens[:, begin : begin + self._n_batch]
            token, past = self._decoder.step(piece, past, at + begin)
            batches.append([piece.shape[1], time.monotonic_ns()])
        return batches, token, past

    def _decode(self, token, count, past, at, token_ns, token_ids):
        """Decode `count` tokens, or fewer when the time ends; return why it ended."""
        step, clock, cell, stop = self._decoder.step, time.monotonic_ns, self._cell, self._stop
        keep_ns, keep_id = token_ns.append, token_ids.append
        for place in range(at, at + count):
            cell[0, 0] = token
            token, past = step(cell, past, place)
            now_ns = clock()
            keep_ns(now_ns)
            keep_id(token)
            if now_ns >= stop.at_ns:
                return stop.reason
        return "length"
