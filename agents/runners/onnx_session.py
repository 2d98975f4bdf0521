"""A session of ONNX Runtime: how it is asked for, what it says of itself, and what its failures mean.

Runs on the device's own Python, 3.8 and later. Written against onnxruntime 1.19 to 1.23.
"""

from __future__ import annotations

import os
import re

import onnx_inputs
import onnxruntime as ort
from runner_io import Failure, affinity

CPU = "CPUExecutionProvider"
_SUFFIX = "ExecutionProvider"
_ON_DEVICE = {
    "CUDA": "cuda",
    "Tensorrt": "cuda",
    "NvTensorRTRTX": "cuda",
    "ROCM": "cuda",
    "MIGraphX": "cuda",
    "Dml": "dml",
}
"""Providers whose tensors have memory of their own -> what OrtValue calls it; all others compute in the host's."""

_LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_CAUSES = (
    (
        "out_of_memory",
        ("failed to allocate memory", "bad_alloc", "memoryerror", "out of memory", "cannot allocate memory"),
    ),
    ("bad_model", ("no such file or directory", "file doesn't exist", "file_size", "external data")),
    (
        "unsupported_model",
        (
            "not_implemented",
            "not a registered function/op",
            "no op registered for",
            "unsupported model ir version",
            "is under development and support for this is limited",
            "exception during initialization",
        ),
    ),
    (
        "bad_model",
        ("invalid_protobuf", "invalid_graph", "no_model", "load model from", "deserialize tensor"),
    ),
)
"""What ONNX Runtime says (onnxruntime/core/common/status.h, graph/model.cc, graph/graph.cc) -> the failure's code."""

_SOURCE = (
    re.compile(r"\S+\.(?:cc|cpp|h):\d+ \S.*?\) (?=[A-Z\[])"),
    re.compile(r"\[with .*?\] (?=[A-Z\[])"),
    re.compile(r"(?:Exception from )?\S+\.(?:cc|cpp|h):\d+:? "),
)
"""Where in its own source something went wrong: file, line, signature, the types of a template."""
_MAX_MESSAGE = 400


def named(asked):
    """Return the execution providers asked for by their full names. Raises Failure for one that this build lacks."""
    available = ort.get_available_providers()
    names = {name.lower(): name for name in available}
    names.update({name[: -len(_SUFFIX)].lower(): name for name in available if name.endswith(_SUFFIX)})
    for name in asked:
        if not isinstance(name, str) or name.lower() not in names:
            raise Failure(
                "provider_missing",
                "the onnxruntime of this device has no execution provider %s: it has %s" % (name, ", ".join(available)),
            )
    return [names[name.lower()] for name in asked]


def options(settings):
    """Make the options of a session from the job's settings."""
    made = ort.SessionOptions()
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[settings.graph_optimization])
    made.enable_cpu_mem_arena = settings.arena
    made.intra_op_num_threads = settings.threads or _default_threads()
    if settings.inter_op_threads is not None:
        made.inter_op_num_threads = settings.inter_op_threads
        if settings.inter_op_threads > 1:
            made.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    return made


def _default_threads():
    # Of itself the engine takes a thread for each core of the machine, also where it may run on one alone.
    allowed = affinity()
    return len(allowed) if allowed is not None and len(allowed) < (os.cpu_count() or 1) else 0


class Session:
    """A model that is loaded. `threads` is the number of its intra-op threads, None where that cannot be known."""

    def __init__(self, path, settings, made):
        self.settings = settings
        before = _tasks()
        asked = named(settings.providers)
        # What no provider before it takes runs on the CPU, said or not.
        self.inner = _opened(path, made, asked if CPU in asked else [*asked, CPU])
        self.providers = self.inner.get_providers()
        counts = before and settings.inter_op_threads in (None, 1) and self.providers == [CPU]
        # The calling thread computes too.
        self.threads = made.intra_op_num_threads or (_tasks() - before + 1 if counts else None)
        self.outputs = [node.name for node in self.inner.get_outputs()]

    @property
    def declared(self):
        """The inputs as (name, element type, shape)."""
        return _declared(self.inner)

    @property
    def device(self):
        """Where tensors are to lie for the first provider, in OrtValue's words."""
        return _ON_DEVICE.get(self.providers[0].replace(_SUFFIX, ""), "cpu")


def _opened(path, made, chosen):
    """Return an InferenceSession. Raises Failure."""
    try:
        return ort.InferenceSession(path, made, providers=chosen)
    except Exception as error:
        raise failure(error, "bad_model", "ONNX Runtime cannot load %s" % path) from None


def _declared(session):
    """Return the inputs of an InferenceSession as (name, element type, shape). Raises Failure for what is no tensor."""
    found = []
    for node in session.get_inputs():
        element = onnx_inputs.element_type(node.type)
        if element is None:
            raise Failure("unsupported_model", "the input %s is a %s, which cannot be given" % (node.name, node.type))
        found.append((node.name, element, node.shape))
    return found


def failure(error, code, sentence):
    """Make a Failure of what ONNX Runtime raised; `code` where its text tells nothing better."""
    text = " ".join((str(error) or type(error).__name__).split())
    for cause, texts in _CAUSES:
        if any(known in text.lower() for known in texts):
            code = cause
            break
    said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    for noise in _SOURCE:
        said = noise.sub("", said)
    return Failure(code, "%s: %s" % (sentence, said[:_MAX_MESSAGE]))


def backend(nodes_by_provider, asked):
    """Return the short name of the provider that did the work: the first of `asked` that ran a node, else CPU."""
    ran = [name for name in asked if nodes_by_provider.get(name) and name != CPU]
    return (ran[0] if ran else CPU).replace(_SUFFIX, "")


def used(session, look):
    """Say what is in force, as the load event's `used`."""
    settings = session.settings
    nodes = look["nodes_by_provider"]
    return {
        "threads": session.threads,
        "inter_op_threads": settings.inter_op_threads or 1,
        "providers_asked": named(settings.providers),
        "providers": session.providers,
        "nodes_by_provider": nodes,
        "graph_optimization": settings.graph_optimization,
        "arena": settings.arena,
        "io_binding": settings.io_binding,
        "backend": backend(nodes, session.providers),
        "affinity": affinity(),
    }


def _tasks():
    """Return how many threads this process has, 0 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0
