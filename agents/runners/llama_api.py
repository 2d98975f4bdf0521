"""llama.cpp through the low-level bindings of llama-cpp-python: a model, a context, and what they say of themselves.

Runs on the device's own Python, 3.8 and later. Written against llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import sys
import types

from runner_io import Failure

CACHE_TYPES = {
    "f32": 0,
    "f16": 1,
    "bf16": 30,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
}
"""Names of the key-value cache's types -> enum ggml_type, as llama-bench's -ctk takes them."""

_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_LOG_INFO, _LOG_WARN, _LOG_ERROR = 2, 3, 4
_SPECIAL = ~4
"""Every bit of enum llama_token_attr but NORMAL: a token with none of them is a piece of text."""

_CAUSES = (
    (
        "unsupported_model",
        ("model architecture", "unknown pre-tokenizer", "unknown tokenizer", "only supports up to version"),
    ),
    (
        "out_of_memory",
        (
            "failed to allocate",
            "unable to allocate",
            "allocate memory",
            "insufficient memory",
            "out of memory",
            "bad_alloc",
        ),
    ),
    ("bad_request", ("requires flash_attn", "requires flash attention", "does not divide", "different k (")),
)
"""What llama.cpp's log says (src/llama-model.cpp, llama-context.cpp, ggml-alloc.c) -> the code of the failure."""


_AbortCallback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


class _ThreadpoolParams(ctypes.Structure):
    # ggml.h: struct ggml_threadpool_params
    _fields_ = [
        ("cpumask", ctypes.c_bool * 512),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    ]


def import_bindings():
    """Return the module llama_cpp.llama_cpp and the package's version. Raises Failure.

    The package's own __init__ is passed over: it imports numpy, jinja2 and a server's worth of helpers, which costs
    a quarter of a second in every run and serves nothing here.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise Failure("engine_missing", "llama-cpp-python is not installed for %s" % sys.executable)
    package = types.ModuleType("llama_cpp")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["llama_cpp"] = package
    try:
        api = importlib.import_module("llama_cpp.llama_cpp")
    except (ImportError, RuntimeError, OSError) as error:
        starved = any(text in str(error) for text in ("allocate memory", "failed to map segment"))
        code = "out_of_memory" if starved else "internal"
        raise Failure(code, "llama-cpp-python does not load: %s" % error) from None
    with open(os.path.join(package.__path__[0], "__init__.py"), encoding="utf-8") as file:
        version = re.search(r'__version__ = "([^"]+)"', file.read())
    return api, version.group(1) if version else None


class Log:
    """What llama.cpp logs. Warnings and errors go to stderr at once; the rest is kept, for it says what was done."""

    def __init__(self, api):
        self.lines = []
        self.errors = []
        self._callback = api.llama_log_callback(self._take)
        api.llama_log_set(self._callback, None)

    def _take(self, level, text, _user):
        # Debug lines come in thousands while a context is made; nothing of them is used.
        if level < _LOG_INFO:
            return
        line = text.decode("utf-8", "replace")
        self.lines.append(line)
        if level in (_LOG_WARN, _LOG_ERROR):
            sys.stderr.write(line)
        if level == _LOG_ERROR:
            self.errors.append(line.strip())

    def failure(self, code, sentence):
        """Make a Failure of what was logged last as an error; `code` where the text tells nothing better."""
        for error in self.errors:
            for cause, texts in _CAUSES:
                if any(text in error.lower() for text in texts):
                    return Failure(cause, "%s: %s" % (sentence, error))
        return Failure(code, "%s: %s" % (sentence, self.errors[0]) if self.errors else sentence)

    def find(self, pattern):
        """Return every match of a regular expression in what was logged."""
        return re.findall(pattern, "".join(self.lines))


class Engine:
    """One model and one context of llama.cpp.

    Where ggml can only abort the process, `aborting` is called with the Failure just before.
    """

    def __init__(self, api, aborting):
        self.api = api
        self.log = Log(api)
        self.model = self.context = self.vocab = None
        # In place of ggml's own callback, which starts a debugger on the process if there is one.
        self._abort = _AbortCallback(lambda text: aborting(self._aborted(text)))
        api._lib.ggml_set_abort_callback(self._abort)
        api.llama_backend_init()

    def _aborted(self, text):
        place = re.sub(r"^\S*/", "", text.decode("utf-8", "replace"))
        return self.log.failure("internal", "llama.cpp aborted at %s" % place)

    def check_file(self, path):
        """Refuse what is plainly no GGUF file, before the engine touches it. Raises Failure."""
        try:
            with open(path, "rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise Failure("bad_request", "cannot read the model %s: %s" % (path, error.strerror)) from None
        if magic != b"GGUF":
            raise Failure("bad_model", "%s is not a GGUF file: it begins with %r" % (path, magic))

    def load(self, path, settings, vocab_only=False):
        """Load the model, or only its vocabulary and metadata. Raises Failure."""
        api = self.api
        mode = api.LLAMA_LOAD_MODE_MMAP if settings.mmap else api.LLAMA_LOAD_MODE_NONE
        params = api.llama_model_default_params()
        _set(params, n_gpu_layers=settings.n_gpu_layers, load_mode=mode, vocab_only=vocab_only)
        self.model = api.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise self.log.failure("bad_model", "llama.cpp cannot load %s" % path)
        self.vocab = api.llama_model_get_vocab(self.model)

    def unload(self):
        """Free the model."""
        self.api.llama_model_free(self.model)
        self.model = self.vocab = None

    @property
    def n_ctx_train(self):
        """The context length that the model was trained for, 0 if it does not say."""
        buffer = ctypes.create_string_buffer(64)
        read = self.api.llama_model_meta_val_str
        if read(self.model, b"general.architecture", buffer, 64) < 0:
            return 0
        found = read(self.model, buffer.value + b".context_length", buffer, 64)
        return int(buffer.value) if found > 0 and buffer.value.isdigit() else 0

    def open(self, n_ctx, settings, callback=None):
        """Make the context for `n_ctx` tokens, with its threads; `callback` is called for each node. Raises Failure."""
        api = self.api
        params = api.llama_context_default_params()
        for name in (settings.cache_type_k, settings.cache_type_v):
            if name not in CACHE_TYPES:
                raise Failure("bad_request", "unknown cache type %r: one of %s" % (name, ", ".join(CACHE_TYPES)))
        _set(
            params,
            n_ctx=n_ctx,
            n_batch=settings.n_batch,
            n_ubatch=settings.n_ubatch,
            type_k=CACHE_TYPES[settings.cache_type_k],
            type_v=CACHE_TYPES[settings.cache_type_v],
            flash_attn_type=_FLASH_ATTENTION[settings.flash_attn],
            # Only the last token of a prompt is ever looked at: without this llama.cpp reserves room for the logits
            # of a whole batch, which for a large vocabulary is more than the model's own work needs.
            n_outputs_max=1,
            # Else a build with a GPU (Metal, CUDA) computes long prompts on it though no layer was to run there.
            op_offload=settings.n_gpu_layers != 0,
        )
        if callback is not None:
            _set(params, cb_eval=callback)
        if settings.threads is not None:
            _set(params, n_threads=settings.threads, n_threads_batch=settings.threads)
        if settings.threads_batch is not None:
            _set(params, n_threads_batch=settings.threads_batch)
        self.context = api.llama_init_from_model(self.model, params)
        if not self.context:
            raise self.log.failure("internal", "llama.cpp cannot make a context of %d tokens" % n_ctx)
        self._attach_threads()

    def _attach_threads(self):
        # Without a pool of its own, a build without OpenMP starts its threads anew for every token.
        lib, context = self.api._lib, self.context
        if not hasattr(lib, "ggml_threadpool_new"):
            return  # the CPU backend is a plug-in that is loaded at run time
        lib.ggml_threadpool_params_default.restype = _ThreadpoolParams
        lib.ggml_threadpool_new.restype = ctypes.c_void_p
        lib.llama_attach_threadpool.argtypes = [ctypes.c_void_p] * 3
        n_threads = max(self.api.llama_n_threads(context), self.api.llama_n_threads_batch(context))
        params = lib.ggml_threadpool_params_default(ctypes.c_int(n_threads))
        pool = lib.ggml_threadpool_new(ctypes.byref(params))
        if not pool:
            raise Failure("out_of_memory", "llama.cpp cannot start %d threads" % n_threads)
        lib.llama_attach_threadpool(context, pool, None)

    def tokenize(self, text):
        """Return a text's tokens as an array, with the special tokens that the model wants in front. Raises Failure."""
        data = text.encode("utf-8")
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        count = self.api.llama_tokenize(self.vocab, data, len(data), tokens, room, True, True)
        if count <= 0:
            raise Failure("bad_request", "the prompt %r gives no tokens" % text[:40])
        return (ctypes.c_int32 * count).from_buffer(tokens)

    def text(self, tokens):
        """Return the text of generated tokens; bytes that are not UTF-8 are replaced."""
        piece = ctypes.create_string_buffer(1024)
        parts = []
        for token in tokens:
            size = self.api.llama_token_to_piece(self.vocab, token, piece, len(piece), 0, True)
            parts.append(piece.raw[: max(size, 0)])
        return b"".join(parts).decode("utf-8", "replace")

    def synthetic(self, count, seed):
        """Make `count` tokens of plain text, the same for a seed on every device and in every language.

        x = x * 6364136223846793005 + 1442695040888963407 mod 2**64, begun with the seed; token = (x >> 33) mod the
        vocabulary's size; special, unused and byte tokens are passed over.
        """
        attributes, vocab = self.api.llama_vocab_get_attr, self.vocab
        size = self.api.llama_vocab_n_tokens(vocab)
        tokens = (ctypes.c_int32 * count)()
        state, done = seed % 2**64, 0
        for _ in range(1000 * count):
            if done == count:
                break
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            token = (state >> 33) % size
            if not attributes(vocab, token) & _SPECIAL:
                tokens[done] = token
                done += 1
        if done < count:
            raise Failure("bad_model", "the model's vocabulary has no plain tokens")
        return tokens


def _set(params, **fields):
    # A ctypes structure takes any attribute in silence: a field that this version lacks would be ignored.
    for name, value in fields.items():
        if not hasattr(type(params), name):
            raise Failure(
                "internal", "this llama-cpp-python has no %s.%s: install 0.3.36" % (type(params).__name__, name)
            )
        setattr(params, name, value)
