"""What is shown while a run goes on, from journal records as they arrive."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.engines.registry import get
from melt.events import Event as Seen
from melt.events import Reading, RunProgress
from melt.records import Repeat, Stream, Workload
from melt.session.live import Live
from melt.telemetry.base import Discovery, FileSource, LineSource
from melt.telemetry.journal import Event, Line, Record, Tick
from melt.telemetry.parsers import number
from melt.telemetry.schedule import Schedule, make_schedule

S = 1_000_000_000


def _stream(quantity: str, unit: str, site: str = "x") -> Stream:
    return Stream(collector="c", name=quantity, quantity=quantity, unit=unit, site=site, source="/f", rate_hz=10.0)


_SCHEDULE = make_schedule(
    Discovery(
        files=(
            FileSource("/load", 10.0, (_stream("count", "1"),), number()),
            FileSource("/temp", 10.0, (_stream("temperature", "c"),), number(1000.0)),
        )
    )
)


def _watch(workload: Workload, records: list[Record], schedule: Schedule = _SCHEDULE) -> list[Seen]:
    spec = replace(make_bundle().start.spec, workload=workload, repeat=Repeat(warmup=1, repetitions=2))
    seen: list[Seen] = []
    Live(spec, get("llama.cpp"), schedule, seen.append).see(records)
    return seen


def _request(begin_s: float, end_s: float, *, warmup: bool = False) -> Line:
    event = {
        "event": "generation",
        "repetition": 0,
        "warmup": warmup,
        "submit_ns": int(begin_s * S),
        "depth": 0,
        "n_prompt": 0,
        "prefill": None,
        "token_ns": [int((begin_s + (end_s - begin_s) * part) * S) for part in (0.5, 1.0)],
        "token_ids": [1, 2],
        "stop": "length",
        "text": None,
    }
    return Line(0, int(end_s * S), False, json.dumps(event).encode())


def test_requests_are_counted_and_rates_are_of_the_last() -> None:
    seen = _watch(
        Workload(n_gen=2),
        [
            Event("runner_started", 0, {}),
            Line(0, 0, False, b'{"event": "load", "t0_ns": 0, "t1_ns": 5}'),
            _request(0, 1, warmup=True),
            _request(1, 2),
            _request(2, 2.5),
            Event("runner_exited", 3, {}),
        ],
    )
    progress = [event for event in seen if isinstance(event, RunProgress)]
    assert [(p.phase, p.done, p.total) for p in progress] == [
        ("load", 0, 3),
        ("warm-up", 0, 3),
        ("decode", 1, 3),
        ("decode", 2, 3),
        ("decode", 3, 3),
        ("collecting", 3, 3),
    ]
    assert progress[-2].decode_tps == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("workload", "phase"),
    [
        (Workload(n_prompt=8), "prefill"),
        (Workload(n_prompt=8, n_gen=2), "prefill+decode"),
        (Workload(kind="prompts", prompts=("a", "b"), n_gen=2), "prefill+decode"),
    ],
)
def test_what_goes_on_is_what_the_workload_measures(workload: Workload, phase: str) -> None:
    warmups = [_request(0, 1, warmup=True)] * max(1, len(workload.prompts))
    seen = [event.phase for event in _watch(workload, warmups) if isinstance(event, RunProgress)]
    assert seen == ["warm-up"] * (len(warmups) - 1) + [phase]


def test_a_sustained_workload_counts_seconds() -> None:
    seen = _watch(
        Workload(kind="sustained", n_gen=2, duration_s=10.0),
        [_request(0, 4, warmup=True), _request(5, 8.5), _request(8.5, 12), _request(12, 20)],
    )
    assert [(p.done, p.total) for p in seen if isinstance(p, RunProgress)] == [(0, 10), (3, 10), (7, 10), (10, 10)]


def test_a_temperature_is_shown_once_a_second_and_nonsense_never() -> None:
    def tick(t_s: float, raw: bytes | None) -> Tick:
        return Tick(0, int(t_s * S), 1000, (b"5", raw))

    seen = _watch(
        Workload(n_gen=2),
        [
            tick(10.0, b"45000\n"),
            tick(10.5, b"99000\n"),
            tick(11.5, b"51500\n"),
            tick(13, b"-273000\n"),
            tick(15, None),
        ],
    )
    assert [event.temperature_c for event in seen if isinstance(event, Reading)] == [45.0, 51.5]


def test_a_program_tells_the_temperature_where_no_file_does() -> None:
    def program(name: str, *quantities: str) -> LineSource:
        units = {"temperature": "c", "power": "w"}
        streams = tuple(replace(_stream(q, units[q]), collector=name) for q in quantities)
        return LineSource(name, (name,), streams, lambda line: tuple(float(word) for word in line.split()))

    said = [Line(2, 10 * S, False, b"31"), Line(3, 10 * S, False, b"4.5 61"), Line(3, 12 * S, False, b"4.5 nan")]
    meter = program("meter", "power", "temperature")
    for lines, expected in (((program("battery", "power"), meter), [61.0]), ((program("other", "power"),), [])):
        seen = _watch(Workload(n_gen=2), [*said], make_schedule(Discovery(lines=lines)))
        assert [event.temperature_c for event in seen if isinstance(event, Reading)] == expected


def test_the_battery_comes_with_the_temperature_and_alone_where_there_is_none() -> None:
    gauge = FileSource("/capacity", 1.0, (replace(_stream("level", "ratio", "BAT0"), collector="slow"),), number(100.0))
    warm = FileSource("/temp", 10.0, (_stream("temperature", "c"),), number(1000.0))
    ticks = [Tick(0, 2 * S, 1000, (b"83",)), Tick(1, 3 * S, 1000, (b"45000",))]
    seen = _watch(Workload(n_gen=2), [*ticks], make_schedule(Discovery(files=(gauge, warm))))
    assert [event for event in seen if isinstance(event, Reading)] == [Reading("local", 45.0, 0.83)]
    seen = _watch(Workload(n_gen=2), [*ticks[:1]], make_schedule(Discovery(files=(gauge,))))
    assert [event for event in seen if isinstance(event, Reading)] == [Reading("local", None, 0.83)]


def _inferences(repetition: int, begin_s: float, end_s: float, *, warmup: bool = False) -> Line:
    times = {"t0_ns": [int(begin_s * S)], "t1_ns": [int(end_s * S)]}
    event = {"event": "inferences", "repetition": repetition, "warmup": warmup, "batch": 1, **times}
    return Line(0, int(end_s * S), False, json.dumps(event).encode())


def test_requests_to_a_single_shot_model_count_by_repetitions_or_by_the_time_that_they_fill() -> None:
    lines: list[Record] = [
        _inferences(0, 0, 1, warmup=True),
        _inferences(0, 1, 4),
        _inferences(0, 4, 5.5),
        _inferences(1, 6, 7),
    ]
    seen = _watch(Workload(kind="inference", n_infer=5), lines)
    assert [(p.phase, p.done, p.total) for p in seen if isinstance(p, RunProgress)] == [
        ("inference", 1, 3),
        ("inference", 2, 3),
        ("inference", 2, 3),
        ("inference", 3, 3),
    ]
    rates = [p.inferences_per_s for p in seen if isinstance(p, RunProgress)]
    assert rates == pytest.approx([1, 1 / 3, 1 / 1.5, 1])
    seen = _watch(Workload(kind="inference", duration_s=10.0), lines[:3])
    assert [(p.done, p.total) for p in seen if isinstance(p, RunProgress)] == [(0, 10), (3, 10), (4, 10)]
