"""A run whose every figure is known beforehand: two requests' worth of round numbers, and channels to go with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from store_samples import make_bundle

from melt.analysis.evaluate import Evaluation, evaluate
from melt.engines.runner_events import parse_events
from melt.records import Reason, RunStart, Settings, Stream, Workload
from melt.telemetry.journal import Event
from melt.telemetry.meters.recording import Recording
from melt.traces import Trace

MS = 1_000_000
S = 1_000 * MS
BOOT_NS = 86_400 * 400 * S
"""Four hundred days after boot: a float64 can no longer hold such a time to the nanosecond."""

USED = {
    "threads": 2,
    "n_gpu_layers": 0,
    "backend": "CPU",
    "cache_type_k": "f16",
    "cache_type_v": "f16",
    "flash_attn": "on",
}


def at(seconds: float) -> int:
    return BOOT_NS + round(seconds * S)


def make_start(**spec: Any) -> RunStart:
    """pp512+tg128 with two threads on a device of 10 GB/s, a model of 100 MB of weights."""
    start = make_bundle().start
    spec = {"workload": Workload(n_prompt=512, n_gen=128), "settings": Settings(threads=2), **spec}
    return replace(
        start,
        spec=replace(start.spec, **spec),
        artifact=replace(
            start.artifact, weight_bytes=110_000_000, embedding_bytes=10_000_000, kv_bytes_per_token=20_000
        ),
        device=replace(start.device, memory_bandwidth_bytes_per_s=20e9),
    )


def generation(
    begin_s: float, repetition: int, *, warmup: bool = False, gap_ms: float = 10, n: int = 128
) -> dict[str, Any]:
    """A request: submitted, 10 ms later prefilled for 1 s, 10 ms later the first token, then one every `gap_ms`."""
    return {
        "event": "generation",
        "repetition": repetition,
        "warmup": warmup,
        "submit_ns": at(begin_s),
        "depth": 0,
        "n_prompt": 512,
        "prefill": {"t0_ns": at(begin_s + 0.01), "t1_ns": at(begin_s + 1.01), "batches": []},
        "token_ns": [at(begin_s + 1.02) + round(i * gap_ms * MS) for i in range(n)],
        "token_ids": list(range(n)),
        "stop": "length",
        "text": None,
    }


def runner_said(
    *, used: Mapping[str, Any] | None = None, gaps_ms: Sequence[float] = (10, 10, 10)
) -> list[dict[str, Any]]:
    """Load from 1.0 to 1.4 s, a warm-up that is twice as slow, then a request for each gap, every 4 s from 10 s on."""
    load = {
        "event": "load",
        "t0_ns": at(1.0),
        "t1_ns": at(1.4),
        "page_cache": {"asked": "warm", "resident_before": 1.0},
        "used": {**USED, **(used or {})},
        "memory": {"model_bytes": 105_000_000, "kv_cache_bytes": 13_000_000, "compute_bytes": None},
    }
    requests = [generation(10 + 4 * i, i, gap_ms=gap) for i, gap in enumerate(gaps_ms)]
    return [load, generation(4, 0, warmup=True, gap_ms=20), *requests, {"event": "finish", "t_ns": at(60)}]


def channel(
    name: str,
    quantity: str,
    value: Callable[[np.ndarray], Any],
    *,
    site: str = "cpu0",
    unit: str = "1",
    cumulative: bool = False,
    wraps_at: float | None = None,
    rate_hz: float = 10.0,
    drop: tuple[float, float] | None = None,
) -> Trace:
    """A trace with one column, sampled from 0 to 60 s; `value` is a function of the seconds. `drop` leaves a hole."""
    t_ns = BOOT_NS + np.arange(0, 60 * S, round(S / rate_hz), np.int64)
    seconds = (t_ns - BOOT_NS) / 1e9
    kept = np.ones(len(t_ns), bool) if drop is None else (seconds < drop[0]) | (seconds > drop[1])
    stream = Stream(
        collector=f"{name}_collector",
        name=name,
        quantity=quantity,
        unit=unit,
        site=site,
        source=f"/sys/{name}",
        rate_hz=rate_hz,
        cumulative=cumulative,
        wraps_at=wraps_at,
    )
    values = np.broadcast_to(np.asarray(value(seconds), np.float64), seconds.shape)
    return Trace(collector=stream.collector, t_ns=t_ns[kept], columns={name: values[kept]}, streams=(stream,))


COMPLETED = {"reason": "completed", "t_ns": at(60), "exit_code": 0, "signal": None, "restored": []}


def agent_events(**exited: Any) -> list[Event]:
    return [
        Event("runner_started", at(0.5), {"pid": 7, "affinity_asked": None, "affinity": "0-1"}),
        Event("self", at(1), {"cpu_ns": 5 * MS, "rss_bytes": 700_000, "missed": {"0": 0}, "ticks": {"0": 10}}),
        Event("self", at(51), {"cpu_ns": 505 * MS, "rss_bytes": 800_000, "missed": {"0": 2}, "ticks": {"0": 510}}),
        Event(
            "runner_exited",
            at(60),
            {"exit_code": 0, "signal": None, "max_rss_bytes": 300_000_000, "oom_kill": False} | exited,
        ),
    ]


def run(
    said: Sequence[Mapping[str, Any]] | None = None,
    *,
    start: RunStart | None = None,
    traces: Sequence[Trace] = (),
    events: Sequence[Event] | None = None,
    end: Mapping[str, object] | None = COMPLETED,
    torn: bool = False,
    stderr: str = "",
    recording: Recording | Reason | None = None,
) -> Evaluation:
    """Evaluate the sample run, or one that differs from it in what is given."""
    lines = [json.dumps(event).encode() for event in (runner_said() if said is None else said)]
    return evaluate(
        start or make_start(),
        parse_events(lines),
        traces,
        agent_events() if events is None else events,
        torn=torn,
        end=end,
        stderr=stderr,
        recording=recording,
    )


def figures(evaluation: Evaluation, repetition: int | None = None) -> dict[str, float | None]:
    return {m.name: m.value for m in evaluation.metrics if m.repetition == repetition}


def notes(evaluation: Evaluation) -> dict[str, str | None]:
    return {m.name: m.note for m in evaluation.metrics if m.repetition is None}


def origins(evaluation: Evaluation) -> dict[str, str]:
    """Source and note of each metric of the whole run."""
    return {m.name: f"{m.source}: {m.note}" for m in evaluation.metrics if m.repetition is None}
