"""Runs for pages: nights of several levels on two devices, one that was killed, traces with all that is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from heat_samples import BOOT_NS, S, tokens
from store_samples import make_bundle

from melt.records import Metric, Outcome, Reason, Stream, Verdict, Window
from melt.traces import Trace

HOSTILE = (
    '</script><script>window.hostile=1</script><img src=x onerror="window.hostile=1">',
    "\"quotes' & <b>&amp;</b> {{ braces }} ${template}",
    "\u202eright to left\u202c \u2067אבג\u2069",
    "long " + "name " * 60,
    "-->]]><!--",
)
"""Names of devices and models as nobody would give them, or somebody who means harm."""

QUANTS = {"q8_0": 60.0, "q4_k_m": 75.0, "q4_0": 90.0, "q2_k": 95.0}
DAY_NS = 86_400 * S


def nights(n_nights: int = 3, devices: tuple[str, ...] = ("pixel", "orin"), sessions: int = 2, traces: int = 1):
    """Sweeps night after night, each cell in each of its sessions; the last run of the last night was killed.

    The newest `traces` runs of a cell have traces.
    """
    made = []
    random = np.random.default_rng(7)
    for night in range(n_nights):
        for session in range(sessions):
            for device in devices:
                for quant, rate in QUANTS.items():
                    rate_tps = rate * (0.5 if device == "orin" else 1.0) * random.normal(1, 0.01)
                    newest = (n_nights - night - 1) * sessions + sessions - session - 1
                    made.append(_run(len(made), night, session, device, quant, rate_tps, newest < traces))
    made[-1] = killed(made[-1].start)
    return made


def _run(number, night, session, device, quant, rate_tps, traced):
    bundle = make_bundle(
        f"r{number:05}",
        sweep_id=f"s{night:03}",
        block=session,
        position=number,
        quant=quant,
        device=device,
        decode_tps=rate_tps,
        traces=(sensors(8.0, number), tokens(lambda t: rate_tps, 6.0)) if traced else (),
        verdict=Verdict.SUSPECT if number % 7 == 3 else Verdict.VALID,
    )
    start = replace(bundle.start, started_utc_ns=bundle.start.started_utc_ns + night * DAY_NS)
    reasons = (Reason(code="throttled", message="the clock of cpu7 was held at 1.8 GHz for 3 s"),) * (number % 7 == 3)
    windows = (
        Window(phase="load", t0_ns=BOOT_NS - 2 * S, t1_ns=BOOT_NS - S),
        *(
            Window(phase=phase, t0_ns=BOOT_NS + t0 * S // 10, t1_ns=BOOT_NS + t1 * S // 10, repetition=i, n_tokens=64)
            for i in range(3)
            for phase, t0, t1 in (("prefill", i * 20, i * 20 + 4), ("decode", i * 20 + 4, i * 20 + 20))
        ),
    )
    more = (
        Metric(name="peak_rss_bytes", value=2.0e8 + 1e6 * session, unit="bytes", source="kernel"),
        Metric(name="temperature_max_c", value=61.5 + session, unit="c", source="telemetry"),
        Metric(name="energy_per_token_j", value=0.21, unit="j/tok", source="battery", uncertainty=0.01),
    )
    return replace(
        bundle,
        start=start,
        stop=replace(bundle.stop, reasons=reasons),
        windows=windows if traced else bundle.windows,
        metrics=(*bundle.metrics, *more),
    )


def killed(start):
    """The same run, killed by the kernel, with what it left."""
    bundle = make_bundle(start.spec.run_id, outcome=Outcome.OOM, verdict=Verdict.INVALID)
    stderr = "\n".join([*(f"line {i}" for i in range(60)), "ggml: failed to allocate <4096 MiB> & gave up"])
    exit_document = '{"reason": "completed", "signal": 9, "oom_kill": true}'
    stop = replace(bundle.stop, evidence={"exit": exit_document, "stderr": stderr})
    return replace(bundle, start=start, stop=stop, traces=())


def sensors(lasts_s: float, seed: int = 0, rate_hz: float = 10.0, channels: int = 8) -> Trace:
    """Return a trace from 2 s before the tokens on: clocks, temperatures, power and memory, in turns."""
    random = np.random.default_rng(seed)
    n = int((lasts_s + 2) * rate_hz)
    t_s = np.arange(n) / rate_hz - 2
    busy = 1 / (1 + np.exp(-4 * t_s))
    kinds = (
        ("frequency", "hz", lambda i: (0.8e9 + 1.6e9 * busy + 1e8 * random.standard_normal(n)).round(-5)),
        ("temperature", "c", lambda i: (38 + i + 14 * (1 - np.exp(-np.maximum(t_s, 0) / 20))).round(1)),
        ("power", "w", lambda i: (1.2 + 4 * busy + 0.2 * random.standard_normal(n)).round(3)),
        ("memory", "bytes", lambda i: (3e9 - 2e8 * busy).round(-3)),
    )
    columns, streams = {}, []
    for i in range(channels):
        quantity, unit, values = kinds[i % len(kinds)]
        site = {"frequency": f"cpu{i}", "temperature": f"soc-{i}", "power": "battery", "memory": "memory"}[quantity]
        name = f"{site}_{i}_{unit}"
        columns[name] = values(i)
        streams.append(
            Stream(
                collector="sensors",
                name=name,
                quantity=quantity,
                unit=unit,
                site=site,
                source=f"/sys/class/{name}",
                rate_hz=rate_hz,
            )
        )
    t_ns = BOOT_NS + (t_s * S).round().astype(np.int64)
    return Trace(collector="sensors", t_ns=t_ns, columns=columns, streams=tuple(streams))


def publish(store, bundles):
    for bundle in bundles:
        store.publish(bundle)
