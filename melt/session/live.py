"""What a journal tells while it is still being written: progress and temperature for whoever watches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from melt.engines.base import Engine, Generation
from melt.events import Observer, Reading, RunProgress
from melt.records import RunSpec, Stream
from melt.telemetry.base import FileSource
from melt.telemetry.journal import Event, Line, Record, Tick
from melt.telemetry.schedule import Schedule

RUNNER_STDOUT = 0
_READING_EVERY_NS = 1_000_000_000
_PLAUSIBLE_C = (1.0, 150.0)


class Live:
    """Turns journal records into events. Nothing here enters a result: results come from the whole journal."""

    def __init__(self, spec: RunSpec, engine: Engine, schedule: Schedule, observe: Observer) -> None:
        self._spec = spec
        self._engine = engine
        self._observe = observe
        # A sustained workload counts seconds, every other one requests.
        self._duration_s = spec.workload.duration_s
        self._began_ns: int | None = None
        requests = (spec.repeat.warmup + spec.repeat.repetitions) * max(1, len(spec.workload.prompts))
        self._total = requests if self._duration_s is None else round(self._duration_s)
        self._done = 0
        self._thermometers = {
            group.gid: [(i, file.source) for i, file in enumerate(group.files) if _is_thermometer(file.source)]
            for group in schedule.groups
        }
        # Where no file has a temperature: of several programs the one that knows most, for a mixture would jump.
        programs = [] if any(self._thermometers.values()) else schedule.programs
        self._program = max(programs, key=lambda one: len(_temperatures(one.source.streams)), default=None)
        self._last_reading_ns = 0

    def see(self, records: Iterable[Record]) -> None:
        """Look at records in the order of the journal."""
        for record in records:
            if isinstance(record, Line) and record.source == RUNNER_STDOUT:
                self._runner_said(record.data)
            elif isinstance(record, Line) and self._program is not None and record.source == self._program.sid:
                source = self._program.source
                values = source.parse(record.data)
                self._felt(record.t_ns, (values[i] for i in _temperatures(source.streams)))
            elif isinstance(record, Tick):
                self._tick(record)
            elif isinstance(record, Event) and record.name == "runner_started":
                self._say("loading")

    def _say(self, phase: str, prefill_tps: float | None = None, decode_tps: float | None = None) -> None:
        self._observe(RunProgress(self._spec.run_id, phase, self._done, self._total, prefill_tps, decode_tps))

    def _runner_said(self, line: bytes) -> None:
        report = self._engine.parse([line])
        rates = {w.phase: w.n_tokens / w.duration_s for w in report.windows if w.n_tokens and w.duration_s > 0}
        if report.generations:
            latest = report.generations[-1]
            self._count(latest)
            self._say("warm-up" if latest.warmup else "measuring", rates.get("prefill"), rates.get("decode"))
        elif any(w.phase == "load" for w in report.windows):
            self._say("loaded")

    def _count(self, generation: Generation) -> None:
        if self._duration_s is None:
            self._done += 1
        elif not generation.warmup and generation.token_ns:
            self._began_ns = self._began_ns or generation.submit_ns
            self._done = min(self._total, (generation.token_ns[-1] - self._began_ns) // 1_000_000_000)

    def _tick(self, tick: Tick) -> None:
        thermometers = self._thermometers.get(tick.gid)
        if thermometers and self._is_due(tick.t_ns):
            read = ((source, raw) for i, source in thermometers if (raw := tick.contents[i]) is not None)
            self._felt(tick.t_ns, (value for source, raw in read for value in source.parse(raw)))

    def _felt(self, t_ns: int, values: Iterable[float]) -> None:
        """Tell the highest of what thermometers say, once a second."""
        seen = [value for value in values if not math.isnan(value) and _PLAUSIBLE_C[0] < value < _PLAUSIBLE_C[1]]
        if seen and self._is_due(t_ns):
            self._last_reading_ns = t_ns
            self._observe(Reading(self._spec.run_id, max(seen)))

    def _is_due(self, t_ns: int) -> bool:
        return t_ns - self._last_reading_ns >= _READING_EVERY_NS


def _temperatures(streams: Sequence[Stream]) -> list[int]:
    return [i for i, stream in enumerate(streams) if stream.quantity == "temperature"]


def _is_thermometer(source: FileSource) -> bool:
    return bool(source.streams) and all(s.quantity == "temperature" for s in source.streams)
