"""A decoder with a key-value cache, by the names that optimum gives its inputs and outputs when it exports one.

`input_ids`, `attention_mask`, `position_ids`, `past_key_values.N.key` and `.value` go in, `logits`, `present.N.key` and
`.value` come out; merged decoders also take `use_cache_branch`. Runs on the device's own Python, 3.8 and later.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy
import onnx_cache
import onnx_inputs
from onnx_session import failure
from runner_io import Failure

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)$")
_PRESENT = "present.%s.%s"
_TOKENS, _LOGITS = "input_ids", "logits"
_ROWS = ("attention_mask", "position_ids", "cache_position", "token_type_ids")
_ONCE = ("use_cache_branch", "num_logits_to_keep", "logits_to_keep")
_LOGIT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


class Decoder:
    """The decoder of a session, for up to `n_ctx` tokens of one sequence."""

    def __init__(self, session, dims, n_ctx):
        self.session = session
        self.n_ctx = n_ctx
        self._past = {}
        self._other = {}
        for name, element, shape in session.declared:
            if _PAST.match(name):
                self._past[name] = numpy.zeros(_empty_cache(name, shape, dims), onnx_inputs.TYPES[element])
            else:
                self._other[name] = onnx_inputs.TYPES[element]
        self._check()
        self._present = [_PRESENT % _PAST.match(name).groups() for name in self._past]
        lacking = [name for name in (_LOGITS, *self._present) if name not in session.outputs]
        if lacking:
            raise Failure("unsupported_model", "the decoder has no output %s" % ", ".join(lacking[:3]))
        self._rows = {name: self._row(name, kind) for name, kind in self._other.items() if name in _ROWS}

    def _check(self):
        if not self._past or _TOKENS not in self._other:
            raise Failure(
                "bad_request",
                "tokens can be measured of a decoder with input_ids and past_key_values.N.key alone; this model takes "
                "%s: measure it with {infer: 50}" % ", ".join(name for name, _, _ in self.session.declared),
            )
        unknown = [name for name in self._other if name not in (_TOKENS, *_ROWS, *_ONCE)]
        if unknown:
            raise Failure("unsupported_model", "the decoder takes %s, which is not known" % ", ".join(unknown))

    @property
    def cache_bytes(self):
        """The size of the key-value cache for `n_ctx` tokens."""
        return sum(a.shape[1] * a.shape[3] * a.itemsize * self.n_ctx for a in self._past.values())

    @property
    def cache_type(self):
        """The type of the cache's elements, by numpy's name."""
        return str(next(iter(self._past.values())).dtype)

    def sample(self):
        """Return inputs of two tokens without a past, by name."""
        return dict(self._past, **self._feeds(numpy.zeros((1, 2), numpy.int64), 0))

    def open(self, logits_shape, n_batch, n_depth):
        """Make ready for steps of up to `n_batch` tokens behind a depth of `n_depth`; return the vocabulary's size.

        `logits_shape` is that of the logits of `sample`. Raises Failure.
        """
        kind = next(node.type for node in self.session.inner.get_outputs() if node.name == _LOGITS)
        if kind not in _LOGIT_TYPES or len(logits_shape) != 3:
            shape = ", ".join(map(str, logits_shape))
            raise Failure("unsupported_model", "the logits are %s [%s], not floats of each token" % (kind, shape))
        self._all_rows = logits_shape[1] > 1
        logits = SimpleNamespace(name=_LOGITS, n_vocab=logits_shape[2], kind=numpy.dtype(_LOGIT_TYPES[kind]))
        inner, caches = self.session.inner, list(self._past.values())
        names = list(zip(self._past, self._present))
        if self.session.settings.io_binding:
            room = {"device": self.session.device, "n_ctx": self.n_ctx, "n_rooms": 3 if n_depth else 2}
            n_rows = n_batch if self._all_rows else 1
            self._cache = onnx_cache.Bound(inner, names, caches, logits, n_rows=n_rows, **room)
        else:
            self._cache = onnx_cache.HandedOn(inner, names, caches, logits)
        self.empty, self.keep = self._cache.empty, self._cache.keep
        return logits.n_vocab

    def step(self, tokens, past, at):
        """Process `tokens`, an array [1, n], behind the `at` tokens of `past`.

        Returns the likeliest token behind the last of them, and the cache with all of them. Raises Failure.
        """
        n_new = tokens.shape[1]
        try:
            logits, past = self._cache.run(self._feeds(tokens, at), past, n_new, n_new if self._all_rows else 1)
        except Exception as error:
            raise failure(error, "internal", "ONNX Runtime failed at token %d" % at) from None
        return int(logits.argmax()), past

    def _feeds(self, tokens, at):
        end = at + tokens.shape[1]
        feeds = {_TOKENS: tokens.astype(self._other[_TOKENS], copy=False)}
        for name, row in self._rows.items():
            feeds[name] = row[..., :end] if name == "attention_mask" else row[..., at:end]
        if "use_cache_branch" in self._other:
            feeds["use_cache_branch"] = numpy.array([at > 0])
        for name in _ONCE[1:]:
            if name in self._other:
                feeds[name] = numpy.array(1, self._other[name])
        return feeds

    def _row(self, name, kind):
        if name == "attention_mask":
            return numpy.ones((1, self.n_ctx), kind)
        if name == "token_type_ids":
            return numpy.zeros((1, self.n_ctx), kind)
        row = numpy.arange(self.n_ctx, dtype=kind)
        return row if name == "cache_position" else row.reshape(1, -1)


def _empty_cache(name, shape, dims):
    """Return the shape of a cache without tokens: [1, heads, 0, size of a head]. Raises Failure."""
    if len(shape) != 4:
        raise Failure("unsupported_model", "%s has the shape %s, not [batch, heads, tokens, size]" % (name, shape))
    heads, size = (onnx_inputs.sizes(name, shape, dims)[axis] for axis in (1, 3))
    if heads is None or size is None:
        axis = 1 if heads is None else 3
        which = onnx_inputs.dimension(name, axis, shape[axis])
        raise Failure(
            "unsupported_model",
            "the model leaves the dimension %s of its cache open: export it with the heads and their size fixed"
            % which,
        )
    return 1, heads, 0, size
