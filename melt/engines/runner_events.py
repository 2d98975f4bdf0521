"""The events of agents/PROTOCOL.md, "Runner events", to windows and requests; shared by every engine of ours.

The rules for windows:

- `load` and `tokenize` are as the runner says, `prefill` too, with the prompt's tokens.
- `decode` after a prefill begins when the first token was known and ends with the last one: n - 1 tokens.
- `decode` without a prefill (tg128) begins at `submit_ns` and holds all n tokens.
- `inference` lasts from the first request of a repetition to a single-shot model until its last answer.

A torn last line, unknown events and unknown keys are passed over. Times that contradict each other make no window and
no generation; the first of them becomes the report's failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeGuard

from melt.engines.base import Generation, Inference, RunnerReport
from melt.engines.profile import ProfileReader
from melt.records import Reason, Window


class _Contradiction(Exception):
    """An event of a known kind whose fields cannot be true."""


def parse_events(lines: Iterable[bytes]) -> RunnerReport:
    """Read a runner's stdout, whole or any part of it. Never raises."""
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        event = _event(line)
        read = getattr(reader, f"on_{event.get('event')}", None)
        if read is None:
            continue
        try:
            read(event)
        except _Contradiction as error:
            reader.fail("contradictory_event", f"line {number} of the runner, {event['event']}: {error}")
    return reader.report()


def _event(line: bytes) -> dict[str, Any]:
    try:
        # NaN and infinity, which Python's JSON knows, are no measurements, and no document could hold them.
        event = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else {}


class _Reader:
    """Collects what the events say; one method for each kind of event."""

    def __init__(self) -> None:
        self._windows: list[Window] = []
        self._generations: list[Generation] = []
        self._inferences: list[Inference] = []
        self._used: dict[str, object] = {}
        self._memory: dict[str, int] = {}
        self._profile = ProfileReader()
        self._failure: Reason | None = None
        self._complete = False

    def report(self) -> RunnerReport:
        return RunnerReport(
            windows=tuple(self._windows),
            generations=tuple(self._generations),
            inferences=tuple(self._inferences),
            used=self._used,
            memory=self._memory,
            profile=self._profile.profile(),
            failure=self._failure,
            complete=self._complete,
        )

    def fail(self, code: str, message: str) -> None:
        """Note a failure; the first one counts, for the others follow from it."""
        self._failure = self._failure or Reason(code=code, message=message)

    def on_hello(self, event: Mapping[str, Any]) -> None:
        self._used.update({key: value for key, value in event.items() if key not in ("event", "pid")})

    def on_load(self, event: Mapping[str, Any]) -> None:
        self._used.update(_mapping(event, "used"))
        self._used["page_cache"] = _mapping(event, "page_cache")
        self._remember(_mapping(event, "memory"))
        self._windows.append(_window("load", event))

    def on_tokenize(self, event: Mapping[str, Any]) -> None:
        self._windows.append(_window("tokenize", event, event, n_tokens=_count(event, "n")))

    def on_generation(self, event: Mapping[str, Any]) -> None:
        submit_ns, token_ns = _time(event, "submit_ns"), _times(event, "token_ns")
        depth, n_prompt = _count(event, "depth"), _count(event, "n_prompt")
        _in_order((submit_ns, *token_ns), "times go backwards")
        token_ids = event.get("token_ids")
        generation = Generation(
            **_repetition(event),
            submit_ns=submit_ns,
            token_ns=token_ns,
            token_ids=tuple(i for i in token_ids if isinstance(i, int)) if isinstance(token_ids, list) else (),
            n_prompt=n_prompt,
            depth=depth,
            stop=str(event.get("stop", "length")),
            text=event["text"] if isinstance(event.get("text"), str) else None,
        )
        windows = []
        begun_ns, n_decoded = submit_ns, len(token_ns)
        if event.get("prefill") is not None:
            prefill = _window("prefill", _mapping(event, "prefill"), event, n_tokens=n_prompt, depth=depth)
            _in_order((submit_ns, prefill.t0_ns), "the prefill began before the request")
            _in_order((prefill.t1_ns, *token_ns), "the first token was known before the prefill had ended")
            windows.append(prefill)
            begun_ns, n_decoded, depth = (token_ns or (submit_ns,))[0], n_decoded - 1, depth + n_prompt
        if n_decoded > 0:
            span = {"t0_ns": begun_ns, "t1_ns": token_ns[-1]}
            windows.append(_window("decode", span, event, n_tokens=n_decoded, depth=depth))
        self._windows += windows
        self._generations.append(generation)

    def on_inferences(self, event: Mapping[str, Any]) -> None:
        t0_ns, t1_ns, batch = _times(event, "t0_ns"), _times(event, "t1_ns"), _count(event, "batch")
        if len(t0_ns) != len(t1_ns):
            raise _Contradiction(f"{len(t0_ns)} requests began and {len(t1_ns)} ended")
        if batch < 1:
            raise _Contradiction("batch is 0")
        _in_order([t for pair in zip(t0_ns, t1_ns, strict=True) for t in pair], "requests overlap or go backwards")
        found = Inference(**_repetition(event), t0_ns=t0_ns, t1_ns=t1_ns, batch=batch)
        before = self._inferences[-1] if self._inferences else None
        if before is not None and _key(before) == _key(found):
            # A line holds so many times and no more: this one goes on with the repetition.
            _in_order((*before.t1_ns[-1:], *t0_ns[:1]), "requests overlap or go backwards")
            found = replace(found, t0_ns=before.t0_ns + t0_ns, t1_ns=before.t1_ns + t1_ns)
            self._inferences.pop()
            self._windows = [w for w in self._windows if w.phase != "inference" or _key(w) != _key(found)]
        if found.t0_ns:
            self._windows.append(_window("inference", {"t0_ns": found.t0_ns[0], "t1_ns": found.t1_ns[-1]}, event))
        self._inferences.append(found)

    def on_operators(self, event: Mapping[str, Any]) -> None:
        try:
            self._profile.read(event)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise _Contradiction(str(error)) from error

    def on_raw_profile(self, event: Mapping[str, Any]) -> None:
        try:
            self._profile.read_raw(event)
        except ValueError as error:
            raise _Contradiction(str(error)) from error

    def on_error(self, event: Mapping[str, Any]) -> None:
        code, message = event.get("code"), event.get("message")
        self.fail(str(code or "internal"), str(message or "the runner gave no reason"))

    def on_finish(self, event: Mapping[str, Any]) -> None:
        self._complete = True
        self._remember({"peak_rss_bytes": event.get("peak_rss_bytes")})

    def _remember(self, memory: Mapping[str, Any]) -> None:
        self._memory.update({key: value for key, value in memory.items() if _is_whole(value) and value >= 0})


def _window(
    phase: str,
    span: Mapping[str, Any],
    event: Mapping[str, Any] | None = None,
    *,
    n_tokens: int | None = None,
    depth: int | None = None,
) -> Window:
    """Make the window of a span; `event` says to which repetition it belongs."""
    t0_ns, t1_ns = _time(span, "t0_ns"), _time(span, "t1_ns")
    _in_order((t0_ns, t1_ns), "it ended before it began")
    window = Window(phase=phase, t0_ns=t0_ns, t1_ns=t1_ns, n_tokens=n_tokens, depth=depth)
    return replace(window, **_repetition(event)) if event else window


def _key(one: Window | Inference) -> tuple[int | None, bool]:
    return one.repetition, one.warmup


def _repetition(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"repetition": _count(event, "repetition"), "warmup": event.get("warmup") is True}


def _in_order(times_ns: Sequence[int], complaint: str) -> None:
    if any(later < earlier for earlier, later in pairwise(times_ns)):
        raise _Contradiction(complaint)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _time(event: Mapping[str, Any], name: str) -> int:
    value: object = event.get(name)
    if not _is_whole(value):
        raise _Contradiction(f"{name} is not a time: {value!r}")
    return value


def _times(event: Mapping[str, Any], name: str) -> tuple[int, ...]:
    values = event.get(name)
    if not isinstance(values, list) or not all(map(_is_whole, values)):
        raise _Contradiction(f"{name} is not a list of times")
    return tuple(values)


def _count(event: Mapping[str, Any], name: str) -> int:
    value: object = event.get(name, 0)
    if not _is_whole(value) or value < 0:
        raise _Contradiction(f"{name} is not a count: {value!r}")
    return value


def _mapping(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return value if isinstance(value, dict) else {}
