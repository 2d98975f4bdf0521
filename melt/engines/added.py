"""An engine of another package: what it says of a run is looked at before anything is computed of it."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from melt.engines.base import Command, Generation, Inference, RunnerReport
from melt.engines.profile import Profile
from melt.errors import EngineError, MeltError
from melt.plugins import Guarded
from melt.records import Reason, Window

PHASES = frozenset({"load", "tokenize", "prefill", "decode", "inference"})
SAMPLED = frozenset({"prefill_tps", "decode_tps", "inferences_per_s"})
"""What a runner that knows no times may say of each repetition."""


class AddedEngine(Guarded):
    """Guards an engine. A run whose lines it cannot read, or misreads, has failed: its journal is kept as any other."""

    def runner_files(self) -> tuple[Path, ...]:
        """Return the engine's files. Raises EngineError where they are no paths."""
        files = self.__getattr__("runner_files")()
        if not isinstance(files, tuple) or not all(isinstance(file, Path) for file in files):
            raise EngineError(f"the {self._who} gave runner_files that are no tuple of paths: {files!r}")
        return files

    def command(self, *given: Any, **named: Any) -> Command:
        """Return how the engine starts its runner. Raises EngineError where nobody could start it."""
        command = self.__getattr__("command")(*given, **named)
        if not isinstance(command, Command):
            raise EngineError(f"the {self._who} gave a command that is a {type(command).__name__}, not a Command")
        for words in (tuple(command.argv), (*command.env, *command.env.values(), *command.files)):
            if odd := [word for word in words if not isinstance(word, str)]:
                raise EngineError(f"the {self._who} gave a command with {odd[0]!r} in it, which is no text")
        return command

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        """Return the engine's report, or one of a failure that names the engine."""
        try:
            report = self.__getattr__("parse")(lines)
        except MeltError as error:
            return RunnerReport(failure=Reason(code="engine_broken", message=str(error)))
        wrong = faults(report)
        if not wrong:
            return RunnerReport(**{field.name: getattr(report, field.name) for field in fields(RunnerReport)})
        message = f"the {self._who} gave a report that cannot be: {'; '.join(wrong[:3])}"
        return RunnerReport(failure=Reason(code="engine_broken", message=message))


def faults(report: object) -> list[str]:
    """Say what cannot be in a report of an engine; nothing where it can be evaluated."""
    if not isinstance(report, RunnerReport):
        return [f"it is a {type(report).__name__}, not a RunnerReport"]
    try:
        return [*_faults(report)]
    except (TypeError, AttributeError, ValueError) as error:
        return [f"a field holds something else than it is declared to: {error}"]


def _faults(report: RunnerReport) -> Iterator[str]:
    for window in report.windows:
        yield from _of_window(window)
    for generation in report.generations:
        yield from _of_generation(generation)
    for inference in report.inferences:
        yield from _of_inference(inference)
    for name, values in report.samples.items():
        if name not in SAMPLED:
            yield f"samples of {name!r}: a runner without times tells {', '.join(sorted(SAMPLED))} only"
        elif not all(_is_number(value) and value > 0 for value in values):
            yield f"samples of {name} that are no positive numbers: {values!r}"
    for name, size in report.memory.items():
        if not _is_whole(size) or size < 0:
            yield f"memory {name!r} is no number of bytes: {size!r}"
    yield from _of_profile(report.profile)
    failure: object = report.failure
    if not isinstance(failure, Reason | None):
        yield f"failure is a {type(failure).__name__}, not a Reason"
    # What was in force is kept as JSON.
    json.dumps(dict(report.used), allow_nan=False)


def _of_window(window: Window) -> Iterator[str]:
    if window.phase not in PHASES:
        yield f"a window of phase {window.phase!r}: there are {', '.join(sorted(PHASES))}"
    if not (_is_whole(window.t0_ns) and _is_whole(window.t1_ns)):
        yield f"a {window.phase} window whose times are no whole nanoseconds: {window.t0_ns!r}, {window.t1_ns!r}"
    elif window.t1_ns < window.t0_ns:
        yield f"a {window.phase} window that ends before it begins"
    if not all(count is None or (_is_whole(count) and count >= 0) for count in _counts(window)):
        yield f"a {window.phase} window with a count that is none: {_counts(window)!r}"


def _counts(window: Window) -> tuple[int | None, ...]:
    return (window.repetition, window.n_tokens, window.depth)


def _of_generation(generation: Generation) -> Iterator[str]:
    times = (generation.submit_ns, *generation.token_ns)
    if not all(map(_is_whole, times)):
        yield f"a generation whose times are no whole nanoseconds: {times[:4]!r}"
    elif any(later < earlier for earlier, later in pairwise(times)):
        yield "a generation whose times go backwards"
    if not (_is_whole(generation.repetition) and generation.repetition >= 0):
        yield f"a generation of repetition {generation.repetition!r}"


def _of_inference(inference: Inference) -> Iterator[str]:
    times = [time for pair in zip(inference.t0_ns, inference.t1_ns, strict=True) for time in pair]
    if not all(map(_is_whole, times)):
        yield f"inferences whose times are no whole nanoseconds: {times[:4]!r}"
    elif any(later < earlier for earlier, later in pairwise(times)):
        yield "inferences that overlap or go backwards"
    if not (_is_whole(inference.batch) and inference.batch > 0):
        yield f"inferences of a batch of {inference.batch!r}"


def _of_profile(profile: object) -> Iterator[str]:
    if not isinstance(profile, Profile | None):
        yield f"profile is a {type(profile).__name__}, not a Profile"
    elif profile is not None:
        columns = (profile.node, profile.t0_ns, profile.ns, profile.repetition, profile.warmup)
        if not all(isinstance(one, array) and len(one) == len(profile.node) for one in columns):
            yield "a profile whose columns are no arrays of one length"
        elif not all(0 <= node < len(profile.operators) for node in set(profile.node)):
            yield "a profile with nodes that it does not describe"
        elif min(profile.ns, default=0) < 0:
            yield "a profile with nodes that end before they begin"


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
