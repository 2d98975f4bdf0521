"""What each node of an ONNX model costs, by ONNX Runtime's own profiler.

It writes begin and length of every node in microseconds after a start of its own, on whatever std::chrono calls its
finest clock: that of the day on Linux, the monotonic one on a Mac. Which one it was is found out, and its times are
brought to the device's monotonic clock by readings of both at the begin and at the end.

Runs on the device's own Python, 3.8 and later. Written against onnxruntime 1.19 to 1.23.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
import time
import zlib

from runner_io import Failure

SOURCE = "onnxruntime's profiler"
RAW = "onnxruntime_profile.json"
_MOST_EVENTS = 1000000
"""How many the profiler keeps (onnxruntime/core/common/profiler.cc): it drops the rest in silence."""

_MOST_RAW_BYTES = 32 * 1024 * 1024
_PART = 20000
_RAW_PART = 384 * 1024
_READINGS = 5
_TICK_NS = 1000
_KERNEL = "_kernel_time"

_HOLDERS = ("If", "Loop", "Scan")
"""Nodes whose time is that of the nodes inside them, which are told too."""


class Profiler:
    """Profiles one session, which is made with the options that it was given; the file goes into `folder`."""

    def __init__(self, options, folder):
        self._folder = tempfile.mkdtemp(prefix="profile-", dir=folder)
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(self._folder, "profile")
        self._before = _Reading()
        self._spans = []

    def began(self, session):
        """Find out on which clock the profiler of a session that was just made is. Raises Failure."""
        self._session = session
        after = _Reading()
        self._start_ns = session.get_profiling_start_time_ns()
        clocks = range(len(after.clocks))
        found = [i for i in clocks if self._before.clocks[i] <= self._start_ns <= after.clocks[i]]
        if not found:
            raise Failure("internal", "the clock of onnxruntime's profile is none of this system's: it cannot be used")
        self._clock = found[0]
        self._at_begin = after

    def watching(self, events):
        """Return events to say, from which it is seen when requests began and ended."""
        return _Watched(events, self._spans)

    def events(self):
        """End the profile; give each event of it, what it is called and its fields."""
        path = self._session.end_profiling()
        at_end = _Reading()
        offsets = [reading.clocks[0] - reading.clocks[self._clock] for reading in (self._at_begin, at_end)]
        # The offset of the middle, which is no farther from the truth than half of what it moved between the ends.
        around_ns = max(self._at_begin.around_ns, at_end.around_ns) if self._clock else 0
        uncertainty_ns = (abs(offsets[1] - offsets[0]) + 1) // 2 + around_ns + _TICK_NS
        nodes, left_out, raw = _read(path, self._start_ns + (offsets[0] + offsets[1]) // 2)
        shutil.rmtree(self._folder, ignore_errors=True)
        yield from _operators(nodes, sorted(self._spans), uncertainty_ns, left_out)
        for at in range(0, len(raw), _RAW_PART):
            yield (
                "raw_profile",
                {"name": RAW, "zlib_base64": base64.b64encode(raw[at : at + _RAW_PART]).decode("ascii")},
            )


def _read(path, begin_ns):
    """Read the profiler's file line by line, for it may have a million of them, an event each.

    Returns begin, length and description of each node by their begins; how many lines had no room, or cannot be read;
    and the file compressed, empty where that is too large.
    """
    nodes, known, n_lines, unread, packer, raw = [], {}, 0, 0, zlib.compressobj(), bytearray()
    with open(path, "rb") as file:
        for line in file:
            n_lines += 1
            raw += packer.compress(line)
            # A name with quotation marks in it is written as it is.
            try:
                event = json.loads(line.rstrip(b",\r\n")) if line.startswith(b"{") else {}
            except ValueError:
                unread += 1
                continue
            if event.get("cat") != "Node" or not event["name"].endswith(_KERNEL):
                continue
            operator = _operator(event)
            if operator[0] not in _HOLDERS:
                nodes.append((begin_ns + event["ts"] * 1000, event["dur"] * 1000, known.setdefault(operator, operator)))
    raw += packer.flush()
    nodes.sort(key=lambda node: node[0])
    return nodes, unread + int(n_lines >= _MOST_EVENTS), raw if len(raw) <= _MOST_RAW_BYTES else b""


def _operators(nodes, spans, uncertainty_ns, left_out):
    """Give `operators` events for the nodes that lie in requests."""
    known, at = {}, 0
    for first_ns, last_ns, repetition, warmup in spans:
        rows, new = [], []
        while at < len(nodes) and _middle(nodes[at]) <= last_ns + uncertainty_ns:
            t_ns, length_ns, operator = nodes[at]
            at += 1
            if _middle((t_ns, length_ns)) < first_ns - uncertainty_ns:
                continue
            if operator not in known:
                known[operator] = len(known)
                new.append(operator)
            rows.append((known[operator], t_ns, length_ns))
        for begin in range(0, len(rows), _PART):
            part = rows[begin : begin + _PART]
            fields = {
                "repetition": repetition,
                "warmup": warmup,
                "source": SOURCE,
                "clock_uncertainty_ns": uncertainty_ns,
                "new": new,
                "t0_ns": part[0][1],
                "node": [row[0] for row in part],
                "after_ns": [row[1] - part[0][1] for row in part],
                "ns": [row[2] for row in part],
                "left_out": left_out,
            }
            yield "operators", fields
            new, left_out = [], 0


def _middle(node):
    return node[0] + node[1] // 2


def _operator(event):
    """Say what a node is: operation, name, types of its inputs, and the provider that computed it."""
    args = event["args"]
    op, name = args.get("op_name") or "?", event["name"][: -len(_KERNEL)]
    types = dict.fromkeys(kind for one in args.get("input_type_shape") or () for kind in one)
    return op, name or "%s %s" % (op, args.get("node_index", "")), "+".join(types) or None, args.get("provider")


class _Watched:
    """Events that pass through, with the spans of the requests that they tell of: begin, end, repetition, warm-up."""

    def __init__(self, events, spans):
        self._events = events
        self._spans = spans

    def say(self, event, **fields):
        if event == "inferences" and fields["t0_ns"]:
            self._spans.append((fields["t0_ns"][0], fields["t1_ns"][-1], fields["repetition"], fields["warmup"]))
        elif event == "generation" and fields["token_ns"]:
            self._spans.append((fields["submit_ns"], fields["token_ns"][-1], fields["repetition"], fields["warmup"]))
        self._events.say(event, **fields)

    def fail(self, failure):
        self._events.fail(failure)


class _Reading:
    """The clocks that a profile may be on, the monotonic one first, all read within `around_ns` of each other."""

    def __init__(self):
        best = None
        for _ in range(_READINGS):
            before_ns = time.monotonic_ns()
            day_ns = time.time_ns()
            after_ns = time.monotonic_ns()
            if best is None or after_ns - before_ns < best[0]:
                best = (after_ns - before_ns, (before_ns + after_ns) // 2, day_ns)
        self.around_ns = (best[0] + 1) // 2
        self.clocks = best[1:]
