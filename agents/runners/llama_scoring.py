"""What a model thinks of given tokens, with llama.cpp: rows of log-probabilities, and log-likelihoods of texts.

Runs on the device's own Python, 3.8 and later, with llama-cpp-python and the numpy that it brings.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
from llama_api import Engine
from runner_io import Failure

N_BATCH = 512
"""Tokens that are computed at once: bounds the memory for logits, whatever the length of the context."""

_ROWS = 64
"""Rows of the vocabulary's size that are worked on at once, for the same reason."""

_PLAIN = SimpleNamespace(mmap=True, n_gpu_layers=0)


class Scorer:
    """A model whose logits are asked for. `open` makes the context; without it there is only the vocabulary."""

    def __init__(self, api, path, aborting):
        self._api = api
        self.path = path
        self._engine = Engine(api, aborting)
        self._engine.check_file(path)
        self._engine.load(path, _PLAIN)
        self._vocab = self._engine.vocab
        self.n_ctx_train = self._engine.n_ctx_train
        self.n_vocab = api.llama_vocab_n_tokens(self._vocab)
        self.adds_bos = bool(api.llama_vocab_get_add_bos(self._vocab))
        self.bos = api.llama_vocab_bos(self._vocab)
        self._context = self._batch = None
        self._held = []
        if api.llama_vocab_get_add_eos(self._vocab):
            raise Failure("unsupported_model", "%s ends every text with a token of its own: not scored" % path)

    def open(self, n_ctx, n_outputs, threads):
        """Make the context, for at most `n_outputs` rows of logits a batch. Raises Failure."""
        params = self._api.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = min(N_BATCH, n_ctx)
        params.n_outputs_max = min(params.n_batch, n_outputs)
        params.n_threads = params.n_threads_batch = threads
        params.op_offload = False
        self._context = self._api.llama_init_from_model(self._engine.model, params)
        if not self._context:
            raise self._engine.log.failure("internal", "llama.cpp cannot make a context of %d tokens" % n_ctx)
        self._batch = self._api.llama_batch_init(params.n_batch, 0, 1)

    def close(self):
        """Free everything."""
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
        self._engine.unload()

    def tokenize(self, text, special):
        """Return a text's tokens, with those that the model wants in front; `special`: markup in it is read as such."""
        data = text.encode("utf-8")
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        count = self._api.llama_tokenize(self._vocab, data, len(data), tokens, room, True, special)
        if count < 0:
            raise Failure("bad_request", "%s cannot tokenize the text" % self.path)
        return tokens[:count]

    def first_token(self):
        """Return what stands before a text that has nothing before it: the token for a beginning, else for an end."""
        return self.bos if self.bos >= 0 else self._api.llama_vocab_eos(self._vocab)

    def forget(self):
        """Begin anew."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        self._held = []

    def rows(self, tokens, begin, end):
        """Go on with tokens, N_BATCH at most, and return the logits behind those from index `begin` to before `end`.

        The array is the engine's own, float32, shape (end - begin, n_vocab): good until the next call. Raises Failure.
        """
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = len(self._held) + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = begin <= i < end
        status = self._api.llama_decode(self._context, batch)
        if status:
            raise self._engine.log.failure("internal", "llama.cpp cannot compute %s: status %d" % (self.path, status))
        self._held += tokens
        if begin >= end:
            return np.empty((0, self.n_vocab), np.float32)
        found = np.ctypeslib.as_array(self._api.llama_get_logits(self._context), (end - begin, self.n_vocab))
        if not np.isfinite(found.sum()):
            raise Failure("bad_model", "%s computes logits that are no numbers" % self.path)
        return found

    def log_likelihood(self, given, wanted):
        """Return the log-likelihood of tokens behind others, in nats. What both calls begin with is computed once."""
        tokens = given + wanted
        self._keep(_common(self._held, tokens[: len(given) - 1]))
        total = 0.0
        while len(self._held) < len(tokens) - 1:
            place = len(self._held)
            part = tokens[place : min(place + N_BATCH, len(tokens) - 1)]
            begin = min(max(len(given) - 1 - place, 0), len(part))
            logits = self.rows(part, begin, len(part))
            if len(logits):
                total -= float(nll(logits, tokens[place + begin + 1 : place + len(part) + 1]).sum())
        return total

    def _keep(self, count):
        memory = self._api.llama_get_memory(self._context)
        # A recurrent model cannot forget the end alone.
        if count and self._api.llama_memory_seq_rm(memory, 0, count, -1):
            self._held = self._held[:count]
        else:
            self.forget()


def nll(logits, tokens):
    """Return the negative log-likelihood of each row's token, in nats."""
    wanted = np.take_along_axis(logits, np.asarray(tokens)[:, None], axis=1)[:, 0]
    return _log_sums(logits) - wanted.astype(np.float64)


def remembered(logits):
    """Return a copy of logits, and the logarithms of what their rows' exponentials add up to, for `divergence`."""
    return logits.copy(), _log_sums(logits)


def divergence(reference, logits):
    """Return KL(reference || model) of each row in nats, and whether both hold the same token for the likeliest.

    `reference` is what `remembered` gave. With p normalized, KL = sum p * (x - y) - (log sum exp x - log sum exp y):
    only differences of logits are rounded to float32, not log-probabilities, whose error would be a hundredth of a
    small KL.
    """
    rows, sums = reference
    kl = _log_sums(logits) - sums
    for at in range(0, len(logits), _ROWS):
        block = slice(at, at + _ROWS)
        p = np.exp(rows[block] - sums[block, None].astype(np.float32))
        expected = np.sum(p * (rows[block] - logits[block]), axis=1, dtype=np.float64)
        kl[block] += expected / np.sum(p, axis=1, dtype=np.float64)
    return kl, rows.argmax(axis=1) == logits.argmax(axis=1)


def _log_sums(logits):
    sums = np.empty(len(logits))
    for at in range(0, len(logits), _ROWS):
        rows = logits[at : at + _ROWS]
        most = rows.max(axis=1)
        sums[at : at + _ROWS] = most + np.log(np.sum(np.exp(rows - most[:, None]), axis=1, dtype=np.float64))
    return sums


def _common(held, tokens):
    count, shorter = 0, min(len(held), len(tokens))
    while count < shorter and held[count] == tokens[count]:
        count += 1
    return count
