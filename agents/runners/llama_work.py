"""Requests to a loaded model, timed: prefill in batches, then a token at a time.

Inside a timed phase there is nothing but llama.cpp, the clock and appending to two lists: no printing, no garbage
collection, no object that could be made beforehand. Runs on the device's own Python, 3.8 and later.
"""

from __future__ import annotations

import ctypes
import gc
import time

from runner_io import Failure


class Worker:
    """Runs requests on one engine, one after the other."""

    def __init__(self, engine, settings, stop):
        self._engine = engine
        self._api = engine.api
        self._context = engine.context
        self._memory = engine.api.llama_get_memory(engine.context)
        self._stop = stop
        self._ignore_eos = settings.ignore_eos
        self._n_batch = engine.api.llama_n_batch(engine.context)
        self._sampler = None if settings.temperature <= 0 else _sampler(engine.api, settings)
        self._sample = _greedy(engine) if self._sampler is None else self._sample_by_chain
        self._cell = ctypes.c_int32()
        # No positions, no sequence ids, no output flags: llama.cpp then continues sequence 0 and keeps the logits
        # of the last token only.
        self._single = engine.api.llama_batch_get_one(ctypes.pointer(self._cell), 1)
        self._prepared_depth = None

    def prepare(self, depth_tokens):
        """Leave exactly `depth_tokens` in the context, outside any measurement, and the sampler as new.

        What an earlier request added behind them is cut off where the memory allows that without loss (not with
        sliding windows or recurrent states); else they are prefilled anew.
        """
        api, depth = self._api, len(depth_tokens)
        kept = depth and self._prepared_depth == depth and self._can_cut()
        if not (kept and api.llama_memory_seq_rm(self._memory, 0, depth, -1)):
            api.llama_memory_clear(self._memory, False)
            self._prefill(depth_tokens)
            self._prepared_depth = depth
        if self._sampler is not None:
            api.llama_sampler_reset(self._sampler)
        gc.collect()

    def request(self, tokens, first_token, n_gen, submit_ns=None):
        """Prefill `tokens`, decode up to `n_gen` tokens, and return the times as fields of a `generation` event.

        With tokens, the first generated one is sampled from the prefill, also when none are asked for, so that a
        time to first token exists. Without, `first_token` is what decoding begins with, and each of the `n_gen` is
        decoded. `submit_ns` is when the request was made, if it began before (its text had to be tokenized).
        """
        token_ns, token_ids = [], []
        clock = time.monotonic_ns
        prefill, stop = None, "length"
        submit_ns = clock() if submit_ns is None else submit_ns
        if len(tokens):
            begun_ns = clock()
            batches = self._prefill(tokens)
            token = self._sample()
            token_ns.append(clock())
            token_ids.append(token)
            prefill = {"t0_ns": begun_ns, "t1_ns": batches[-1][1], "batches": batches}
            if n_gen > 1:
                stop = self._ending(token, token_ns[0]) or self._decode(token, n_gen - 1, token_ns, token_ids)
        else:
            stop = self._decode(first_token, n_gen, token_ns, token_ids)
        return {
            "submit_ns": submit_ns,
            "n_prompt": len(tokens),
            "prefill": prefill,
            "token_ns": token_ns,
            "token_ids": token_ids,
            "stop": stop,
        }

    def _prefill(self, tokens):
        """Decode tokens in pieces of n_batch; return [size, end of its computation] for each."""
        api, context, clock = self._api, self._context, time.monotonic_ns
        batches = []
        for begin in range(0, len(tokens), self._n_batch):
            size = min(self._n_batch, len(tokens) - begin)
            first = ctypes.cast(ctypes.byref(tokens, begin * ctypes.sizeof(ctypes.c_int32)), api.llama_token_p)
            status = api.llama_decode(context, api.llama_batch_get_one(first, size))
            if status:
                raise self._broken(status)
            # Backends other than the CPU return before they are done.
            api.llama_synchronize(context)
            batches.append([size, clock()])
        return batches

    def _decode(self, token, count, token_ns, token_ids):
        """Decode `count` tokens, or fewer when the sequence or the time ends; return why it ended."""
        decode, sample, clock = self._api.llama_decode, self._sample, time.monotonic_ns
        context, batch, cell, stop = self._context, self._single, self._cell, self._stop
        keep_ns, keep_id = token_ns.append, token_ids.append
        may_end = not self._ignore_eos
        for _ in range(count):
            cell.value = token
            status = decode(context, batch)
            if status:
                raise self._broken(status)
            token = sample()
            now_ns = clock()
            keep_ns(now_ns)
            keep_id(token)
            if now_ns >= stop.at_ns or may_end:
                ending = self._ending(token, now_ns)
                if ending:
                    return ending
        return "length"

    def _sample_by_chain(self):
        return self._api.llama_sampler_sample(self._sampler, self._context, -1)

    def _ending(self, token, now_ns):
        if now_ns >= self._stop.at_ns:
            return self._stop.reason
        if not self._ignore_eos and self._api.llama_vocab_is_eog(self._engine.vocab, token):
            return "eos"
        return None

    def _can_cut(self):
        api, model = self._api, self._engine.model
        return not (
            api.llama_model_n_swa(model) or api.llama_model_is_recurrent(model) or api.llama_model_is_hybrid(model)
        )

    def _broken(self, status):
        # llama.h, llama_decode: 1 no room in the cache, -2 a graph could not be allocated.
        code = {1: "context_too_long", -2: "out_of_memory"}.get(status, "internal")
        return self._engine.log.failure(code, "llama_decode failed with status %d" % status)


def _greedy(engine):
    """Return a function that picks the likeliest token of the last logits, the first of equals.

    llama.cpp's own greedy sampler first copies every logit into a candidate: 0.2 ms for 49,000 tokens, a percent of
    a small model's time per token. llama-cpp-python always brings numpy.
    """
    import numpy

    logits_at, context = engine.api.llama_get_logits_ith, engine.context
    row = ctypes.c_float * engine.api.llama_vocab_n_tokens(engine.vocab)

    def sample():
        logits = ctypes.cast(logits_at(context, -1), ctypes.c_void_p).value
        return int(numpy.frombuffer(row.from_address(logits), numpy.float32).argmax())

    return sample


def _sampler(api, settings):
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    if not chain:
        raise Failure("out_of_memory", "llama.cpp cannot make a sampler")
    api.llama_sampler_chain_add(chain, api.llama_sampler_init_temp(settings.temperature))
    api.llama_sampler_chain_add(chain, api.llama_sampler_init_dist(settings.seed % 2**32))
    return chain
