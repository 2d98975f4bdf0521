"""Runs as a session would hand them over, made up but whole: for every test that needs something in a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from melt.records import (
    Artifact,
    Cpu,
    DeviceFacts,
    Metric,
    Outcome,
    Reason,
    Repeat,
    RunSpec,
    RunStart,
    RunStop,
    Sampling,
    Settings,
    Stream,
    Verdict,
    Window,
    Workload,
)
from melt.traces import RunBundle, Trace

STARTED_UTC_NS = 1_763_700_000_000_000_000


def make_stream(name: str, quantity: str, unit: str, *, cumulative: bool = False) -> Stream:
    return Stream(
        collector="sensors",
        name=name,
        quantity=quantity,
        unit=unit,
        site=name.rpartition("_")[0] or name,
        source=f"/sys/class/{name}",
        rate_hz=10.0,
        cumulative=cumulative,
        wraps_at=262143.328850 if cumulative else None,
    )


def make_trace(rows: int = 200, seed: int = 1, collector: str = "sensors") -> Trace:
    """A second of sensors as Linux gives them: millidegrees, kHz, microjoules, kB, with a gap in the temperature."""
    random = np.random.default_rng(seed)
    temperature = (45_000 + 500 * np.cumsum(random.integers(-1, 2, rows))) / 1000
    temperature[3:5] = np.nan
    columns = {
        "zone0_c": temperature,
        "cpu0_hz": random.choice([800_000, 1_800_000, 3_100_000], rows) * 1000.0,
        "package_j": np.cumsum(random.integers(900_000, 1_100_000, rows)) / 1e6,
        "available_bytes": (8_000_000 - np.cumsum(random.integers(0, 9, rows))) * 1024.0,
        "odd_ratio": random.random(rows),
    }
    streams = (
        make_stream("zone0_c", "temperature", "c"),
        make_stream("cpu0_hz", "frequency", "hz"),
        make_stream("package_j", "energy", "j", cumulative=True),
        make_stream("available_bytes", "memory", "bytes"),
        make_stream("odd_ratio", "utilization", "ratio"),
    )
    t_ns = 5_000_000_000 + np.arange(rows, dtype=np.int64) * 100_000_000 + random.integers(0, 40_000, rows)
    return Trace(collector=collector, t_ns=t_ns, columns=columns, streams=streams)


def make_bundle(
    run_id: str = "r0",
    *,
    sweep_id: str = "s0",
    block: int = 0,
    position: int = 0,
    quant: str | None = "q8_0",
    model: str = "tiny",
    device: str = "local",
    outcome: Outcome = Outcome.OK,
    verdict: Verdict = Verdict.VALID,
    traces: tuple[Trace, ...] = (),
    journal: Path | None = None,
    attachments: dict[str, str] | None = None,
    decode_tps: float | None = 31.25,
    n_prompt: int = 512,
    n_gen: int = 128,
    repetitions: int = 3,
) -> RunBundle:
    started = STARTED_UTC_NS + position * 60_000_000_000
    spec = RunSpec(
        run_id=run_id,
        sweep_id=sweep_id,
        plan="demo",
        block=block,
        position=position,
        device=device,
        model=model,
        quant=quant,
        engine="llama_cpp",
        workload=Workload(n_prompt=n_prompt, n_gen=n_gen),
        settings=Settings(threads=2),
        repeat=Repeat(warmup=1, repetitions=repetitions),
        sampling=Sampling(),
    )
    artifact = Artifact(
        name=f"{model}-{quant}",
        quant=quant,
        format="gguf",
        sha256=f"{model}{quant}".encode().hex().ljust(64, "0"),
        size_bytes=144_000_000,
        path=f"/models/{model}-{quant}.gguf",
        architecture="llama",
        n_params=134_515_008,
        bits_per_weight=8.5,
        tensor_types={"q8_0": 140_000_000, "f32": 4_000_000},
    )
    facts = DeviceFacts(
        device_id=f"id-{device}",
        kind="local",
        name=device,
        os="linux",
        os_build="Debian 12",
        kernel="6.1",
        arch="x86_64",
        cpus=(Cpu(index=0, max_hz=3.1e9),),
        memory_total_bytes=16 << 30,
        boot_id="b1",
    )
    start = RunStart(
        spec=spec,
        started_utc_ns=started,
        artifact=artifact,
        device=facts,
        agent_version="a1",
        melt_version="0.1.0",
        streams=tuple(s for t in traces for s in t.streams),
    )
    bad = outcome is not Outcome.OK
    stop = RunStop(
        run_id=run_id,
        ended_utc_ns=started + 30_000_000_000,
        outcome=outcome,
        verdict=verdict,
        reasons=(Reason(code="killed_by_oom", message="The kernel killed it.", figures={"rss_bytes": 9e9}),) * bad,
        used={"threads": 2, "backend": "CPU", "engine_revision": "b9999"},
        evidence={"exit": "9"} if bad else {},
    )
    windows: list[Window] = [] if bad else _windows(repetitions, n_prompt, n_gen)
    return RunBundle(
        start=start,
        stop=stop,
        windows=tuple(windows),
        metrics=(
            *(
                Metric(name="decode_tps", value=decode_tps, unit="tok/s", repetition=i)
                for i in range(0 if bad else repetitions)
            ),
            Metric(name="prefill_tps", value=None if bad else 512.0, unit="tok/s"),
            Metric(name="decode_tps", value=None if bad else decode_tps, unit="tok/s"),
            Metric(name="package_energy", value=None, unit="j", source="telemetry", note="no energy sensor"),
        ),
        traces=traces,
        journal=journal,
        attachments=attachments or {},
    )


def _windows(repetitions: int, n_prompt: int, n_gen: int) -> list[Window]:
    windows = [Window(phase="load", t0_ns=1_000_000_000, t1_ns=1_400_000_000)]
    for i in range(-1, repetitions):
        begin = 2_000_000_000 * (i + 2)
        first = begin + 1_000_000_000
        for phase, t0_ns, n_tokens, depth in (("prefill", begin, n_prompt, 0), ("decode", first, n_gen, n_prompt)):
            length_ns = 1_000_000_000 if phase == "prefill" else 500_000_000
            if n_tokens:
                windows.append(
                    Window(
                        phase=phase,
                        t0_ns=t0_ns,
                        t1_ns=t0_ns + length_ns + i,
                        repetition=max(i, 0),
                        warmup=i < 0,
                        n_tokens=n_tokens,
                        depth=depth,
                    )
                )
    return windows
