"""What every Python runner shares: reading its job, printing its events, naming its failures, ending when told to.

Runs on the device's own Python, 3.8 and later, standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

_NUMBER = (int, float)
_JOB = {
    "workload": {
        "kind": (str, "synthetic"),
        "n_prompt": (int, 0),
        "n_gen": (int, 0),
        "n_depth": (int, 0),
        "duration_s": (_NUMBER, None),
        "prompts": (list, ()),
        "n_infer": (int, 0),
        "dims": (dict, {}),
        "inputs": (str, None),
    },
    "settings": {
        "threads": (int, None),
        "threads_batch": (int, None),
        "n_batch": (int, 2048),
        "n_ubatch": (int, 512),
        "cache_type_k": (str, "f16"),
        "cache_type_v": (str, "f16"),
        "flash_attn": (str, "auto"),
        "n_gpu_layers": (int, 0),
        "mmap": (bool, True),
        "page_cache": (str, "warm"),
        "seed": (int, 0),
        "temperature": (_NUMBER, 0.0),
        "ignore_eos": (bool, True),
        "providers": (list, ()),
        "graph_optimization": (str, "all"),
        "arena": (bool, True),
        "io_binding": (bool, False),
        "inter_op_threads": (int, None),
    },
    "repeat": {"warmup": (int, 1), "repetitions": (int, 5)},
}
_CHOICES = {
    "kind": ("synthetic", "prompts", "sustained", "inference"),
    "flash_attn": ("auto", "on", "off"),
    "page_cache": ("warm", "cold"),
    "graph_optimization": ("disabled", "basic", "extended", "all"),
}
_AT_LEAST_ONE = ("threads", "threads_batch", "inter_op_threads", "n_batch", "n_ubatch", "repetitions")
_MAY_BE_NEGATIVE = ("n_gpu_layers", "seed")
_NEVER_NS = 2**63
_TOLD_TO_END = 143


class Failure(Exception):
    """A run that cannot be, with one of the codes of agents/PROTOCOL.md and one sentence for a person."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


def first_line(error):
    """Return the first line of what a library says of an error, which may be pages; its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


class Stop:
    """When to end: a point of the monotonic clock, so that a timed loop asks one question for deadline and signal.

    `at_ns` lies in the past once the process was told to end.
    """

    def __init__(self):
        self.at_ns = _NEVER_NS
        self.told = False
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, _number, _frame):
        self.told = True
        self.at_ns = 0

    def set(self, at_ns):
        """Set a deadline, or None for none. A signal that already came stays."""
        self.at_ns = _NEVER_NS if at_ns is None else at_ns
        if self.told:  # asked last: the signal may come at any moment
            self.at_ns = 0

    @property
    def reason(self):
        """Why a loop that met `at_ns` ends, as the generation's `stop` says it."""
        return "stopped" if self.told else "time"


def stay_awake():
    """Keep a Mac from going to sleep of itself while this process lives; other systems are left as they are."""
    if sys.platform != "darwin":
        return
    nowhere = subprocess.DEVNULL
    with contextlib.suppress(OSError):
        subprocess.Popen(("caffeinate", "-i", "-w", str(os.getpid())), stdin=nowhere, stdout=nowhere, stderr=nowhere)


def end_with_parent():
    """End this process when its stdin is closed, so that it never outlives who started it and holds that open."""

    def watch():
        while os.read(0, 1024):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


class Events:
    """The events of the protocol, one JSON object a line, on what was stdout when the process started.

    From then on file descriptor 1 is stderr: a stray print of a library cannot come between two events.
    """

    def __init__(self):
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        sys.stdout.flush()
        os.dup2(2, 1)

    def say(self, event, **fields):
        """Print one event at once. Never called inside a timed phase."""
        self._out.write(json.dumps(dict(event=event, **fields), separators=(",", ":")) + "\n")
        self._out.flush()

    def fail(self, failure):
        """Print a Failure as an `error` event."""
        self.say("error", code=failure.code, message=failure.message)


def run_job(argv, run):
    """Run the job named on the command line with `run(job, events, stop)` and return the exit code.

    0 when `run` says that it did all of it, 143 when it was told to end, 1 when it failed: that is the last event then.
    """
    if len(argv) != 2:
        print("usage: %s JOB.json" % argv[0], file=sys.stderr)
        return 2
    events, stop = Events(), Stop()
    stay_awake()
    try:
        return 0 if run(read_job(argv[1]), events, stop) else _TOLD_TO_END
    except Failure as failure:
        events.fail(failure)
    except MemoryError:
        events.fail(Failure("out_of_memory", "Python ran out of memory"))
    except BrokenPipeError:
        print("nobody reads the events any more", file=sys.stderr)
    except Exception as error:
        sys.excepthook(*sys.exc_info())
        events.fail(Failure("internal", "%s: %s" % (type(error).__name__, error)))
    return 1


def read_job(path):
    """Read a job: `model`, `n_ctx_train`, `profile`, the fields of a Workload, Settings and Repeat. Raises Failure.

    Returns a namespace of namespaces; what the job leaves out has the same default as in melt/records/spec.py.
    """
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError) as error:
        raise Failure("bad_request", "cannot read the job %s: %s" % (path, error)) from None
    if not isinstance(data, dict):
        raise Failure("bad_request", "the job %s is not a JSON object" % path)
    job = SimpleNamespace(
        model=_field(data, "model", str, None),
        n_ctx_train=_field(data, "n_ctx_train", int, None),
        profile=_field(data, "profile", bool, False),
        path=path,
    )
    if not job.model:
        raise Failure("bad_request", "the job %s names no model" % path)
    for section, fields in _JOB.items():
        values = data.get(section, {})
        if not isinstance(values, dict):
            raise Failure("bad_request", "%s must be an object" % section)
        setattr(job, section, SimpleNamespace(**{n: _field(values, n, *kind) for n, kind in fields.items()}))
    _check_together(job.workload)
    return job


def repetitions(repeat):
    """Yield the number of each repetition and whether it is a warm-up; both count from 0."""
    yield from ((number, True) for number in range(repeat.warmup))
    yield from ((number, False) for number in range(repeat.repetitions))


def affinity():
    """Return the CPUs that this process may run on, None where the system has no question for it."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def peak_rss_bytes():
    """Return the most memory that this process ever had resident."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _field(values, name, kind, default):
    value = values.get(name)
    if value is None:
        return default
    # bool is an int to Python, not to a job.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Failure("bad_request", "%s has the wrong type: %r" % (name, value))
    if name in _CHOICES and value not in _CHOICES[name]:
        raise Failure("bad_request", "%s must be one of %s, not %r" % (name, ", ".join(_CHOICES[name]), value))
    least = 1 if name in _AT_LEAST_ONE else 0
    if isinstance(value, _NUMBER) and name not in _MAY_BE_NEGATIVE and not least <= value < 2**31:
        raise Failure("bad_request", "%s is out of range: %r" % (name, value))
    return value


def _check_together(workload):
    if workload.kind == "prompts":
        if not workload.prompts or not all(isinstance(text, str) and text for text in workload.prompts):
            raise Failure("bad_request", "a workload of prompts needs a list of texts that are not empty")
    elif workload.kind == "inference":
        if not workload.n_infer and not workload.duration_s:
            raise Failure("bad_request", "an inference workload needs n_infer or duration_s")
        if not all(isinstance(size, int) and size >= 1 for size in workload.dims.values()):
            raise Failure("bad_request", "dims must be whole numbers from 1 on: %r" % workload.dims)
    elif workload.n_prompt + workload.n_gen == 0:
        raise Failure("bad_request", "the workload asks for no tokens: n_prompt and n_gen are both 0")
    if workload.kind == "sustained" and not workload.duration_s:
        raise Failure("bad_request", "a sustained workload needs duration_s")
