"""One run, told in full: what was asked, on what, what came of it, and whether it may be believed."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from melt.analysis import derived, efficiency
from melt.analysis.last_samples import last_samples
from melt.analysis.names import METRICS
from melt.codec import to_dict
from melt.errors import UsageError
from melt.plan.fitting import OF_LLAMA_CPP, OF_ONNX_RUNTIME, OF_SAMPLING
from melt.records import (
    Apart,
    Battery,
    Calibration,
    DeviceFacts,
    Knob,
    Metric,
    RunSpec,
    RunStart,
    Session,
    Settings,
    Stream,
    TripLimit,
)
from melt.report.evidence import evidence_sections
from melt.report.meter import METER_DOCUMENT, meter_clock
from melt.report.scale import scale_for, with_uncertainty
from melt.report.table import render_table
from melt.report.words import arithmetic, engine_name, joined
from melt.traces import RunBundle
from melt.units import counted, human
from melt.verdicts import changed

_PER_REPETITION = (
    "ttft_s",
    "tpot_s",
    "itl_p95_s",
    "prefill_tps",
    "decode_tps",
    "mbu_ratio",
    "inference_p50_s",
    "inference_p99_s",
    "inferences_per_s",
    "temperature_max_c",
    "energy_per_token_j",
    "energy_per_inference_j",
)
"""What the table of repetitions shows, of what was measured; JSON has all."""


_IN_MWH_TOO = ("energy_response_j",)
"""What comes out of batteries, which are sold by watt hours."""

FOLLOWING = frozenset((*derived.NAMES, *efficiency.NAMES))
"""What is reckoned from other figures: where these are missing it would be a page of dashes."""

_FACT_INDENT = 20
_LEAST_WIDTH = 80
_SAID_ALREADY = ("engine", "engine_revision", "backend")


def render_run(bundle: RunBundle, fmt: str, *, evidence: bool = False) -> str:
    """Write a run as `table`, `md` or `json`; the text ends a line. JSON always has the evidence. Raises UsageError.

    `evidence` asks for it in words, the last samples of the bundle's traces too.
    """
    if fmt == "json":
        document = {key: to_dict(getattr(bundle, key)) for key in ("start", "stop", "windows", "metrics")}
        if METER_DOCUMENT in bundle.attachments:
            document["meter"] = json.loads(bundle.attachments[METER_DOCUMENT]).get("on_device_clock")
        return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if fmt not in ("table", "md"):
        raise UsageError(f"a run cannot be written as {fmt!r}: choose table, md or json")
    return "\n".join(_sections(bundle, fmt, evidence))


def _sections(bundle: RunBundle, fmt: str, evidence: bool) -> Iterator[str]:
    start, stop = bundle.start, bundle.stop
    bullet = "- " if fmt == "md" else "  "
    yield _fact_sheet(f"Run {start.spec.run_id}", facts(bundle), fmt)
    if stop.reasons:
        title = "Why it ended so, or may not be believed:"
        yield _lines(title, (f"{reason.code}: {reason.message}" for reason in stop.reasons), bullet)
    if bundle.metrics:
        yield _summary(bundle.metrics, fmt)
    repetitions = _repetitions(bundle.metrics, fmt)
    if repetitions is not None:
        yield repetitions
    if start.streams:
        headers = ("collector", "rate", "streams", "what")
        yield render_table("Sampled", headers, list(_collectors(start.streams)), fmt, numeric=(1, 2))
    if start.missing:
        yield _lines("Not to be had on this device:", start.missing, bullet)
    if evidence:
        yield from evidence_sections(stop.evidence, last_samples(bundle.traces), fmt)
    elif stop.evidence:
        yield f"Evidence is kept ({', '.join(stop.evidence)}): show it with --evidence\n"


def _lines(title: str, lines: Iterable[str], lead: str) -> str:
    return "\n".join((title, "", *(f"{lead}{line}" for line in lines))) + "\n"


def _fact_sheet(title: str, facts: Sequence[tuple[str, str]], fmt: str) -> str:
    if fmt == "md":
        return render_table(title, ("", ""), facts, fmt)
    room = max(_LEAST_WIDTH, shutil.get_terminal_size().columns)
    lead = "\n" + " " * _FACT_INDENT
    lines = [
        f"  {name:<{_FACT_INDENT - 2}}"
        + lead.join(textwrap.wrap(text, room - _FACT_INDENT, break_long_words=False, break_on_hyphens=False))
        for name, text in facts
    ]
    return "\n".join((title, "", *lines)) + "\n"


def facts(bundle: RunBundle) -> list[tuple[str, str]]:
    """Return what was asked, on what, with what, as names and texts; one without a name goes on with the last."""
    start, stop = bundle.start, bundle.stop
    spec, device, artifact = start.spec, start.device, start.artifact
    size = None if artifact.size_bytes is None else human(float(artifact.size_bytes), "bytes")
    bits = None if artifact.bits_per_weight is None else f"{artifact.bits_per_weight:.2f} bits per weight"
    model = (spec.model, spec.quant or artifact.quant, size, bits)
    repeat = spec.repeat
    return [
        ("outcome", f"{stop.outcome}, {stop.verdict}"),
        ("started", datetime.fromtimestamp(start.started_utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")),
        ("sweep", joined((f"{spec.sweep_id} ({spec.plan})", _block(spec), _order(spec)))),
        *([("session", _session(start.session))] if start.session else []),
        ("model", joined(model)),
        ("sha256", artifact.sha256),
        *(("", note) for note in artifact.notes),
        (
            "workload",
            f"{spec.workload.name}, {counted(repeat.repetitions, 'repetition')}"
            + (f" after {repeat.warmup} to warm up" if start.imported is None else ""),
        ),
        *([("profile", "its rates are those under the profiler; --profile shows where the time went")] * spec.profile),
        ("device", joined((device.name, device.soc, device.arch, _cpus(start), device.virtualization))),
        ("system", joined((device.os, device.os_build, device.kernel))),
        *([("power mode", _power_mode(device))] if device.power_mode else []),
        ("memory bandwidth", human(device.memory_bandwidth_bytes_per_s, "bytes/s")),
        *([("arithmetic", arithmetic(device.compute))] if device.compute else []),
        *([("battery", _battery(device.battery))] if device.battery else []),
        (
            "engine",
            joined(
                (engine_name(spec.engine, _text(stop.used.get("engine_revision"))), _text(stop.used.get("backend")))
            ),
        ),
        ("asked", _settings(spec) if start.imported is None else _told_settings(spec)),
        *([("conditions", joined(_knob(knob) for knob in start.knobs))] if start.knobs else []),
        *([("judged by", by)] if (by := changed(spec.thresholds)) else []),
        *(("calibration", _calibration(calibration)) for calibration in start.calibrations),
        *([("trip limits", _trips(start.trips))] if start.trips else []),
        ("used", _used(stop.used)),
        *(("nodes", said) for said in _nodes(stop.used)),
        *(("inputs" if first else "", said) for first, said in _inputs(stop.used)),
        ("clock", _clock(start)),
        *(("power meter", said) for said in _meter(bundle)),
    ]


_BEFORE = {
    Apart.START: "began with melt",
    Apart.BOOT: "after a boot",
    Apart.COOL_DOWN: "after a cool-down",
    Apart.PAUSE: "after a pause",
    Apart.BLOCK: "right after the one before",
}
"""What lay before a session, for people."""


def _block(spec: RunSpec) -> str:
    if spec.reference:
        return "reference run"
    at_most = "" if spec.repeat.until_ci is None else "at most "
    return f"block {spec.block + 1} of {at_most}{spec.repeat.sessions}"


def _session(session: Session) -> str:
    rested = None if session.rested_s is None else f"device had rested for {human(session.rested_s, 's')}"
    warm = None if session.temperature_c is None else f"{human(session.temperature_c, 'c')} at its start"
    return joined((f"number {session.number + 1} on this device", _BEFORE[session.apart], rested, warm))


def _order(spec: RunSpec) -> str | None:
    """Say where the run stood in its sweep, and how the order came about."""
    if spec.order is None:
        return None
    seed = "" if spec.order_seed is None else f" (seed {spec.order_seed})"
    return f"run {spec.position + 1} in {spec.order} order{seed}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _cpus(start: RunStart) -> str | None:
    cpus = start.device.cpus
    if not cpus:
        return None
    governors = sorted({cpu.governor for cpu in cpus if cpu.governor})
    return counted(len(cpus), "CPU") + (f" (governor {', '.join(governors)})" if governors else "")


def _power_mode(device: DeviceFacts) -> str:
    clocks = {True: "clocks fixed", False: None, None: None}[device.clocks_locked]
    return joined((device.power_mode, clocks))


def _battery(battery: Battery) -> str:
    """Write what a full battery holds, in the units that batteries are sold by."""
    held = human(battery.charge_coulomb, "c_coulomb", 4)
    if battery.energy_j is not None:
        held = f"{battery.energy_j / 3600:.3g} Wh"
    return f"{held} when full, {'as its gauge found' if battery.basis == 'measured' else 'by its design'}"


def _settings(spec: RunSpec) -> str:
    """Write the settings, but those of another engine that nobody has touched."""
    asked, default = to_dict(spec.settings), to_dict(Settings())
    others = OF_LLAMA_CPP if spec.engine == "onnxruntime" else OF_ONNX_RUNTIME
    if spec.workload.kind == "inference":
        others |= OF_SAMPLING
    shown = {
        key: value
        for key, value in asked.items()
        if value not in (None, []) and (key not in others or value != default[key])
    }
    return joined(f"{key}={'+'.join(value) if isinstance(value, list) else value}" for key, value in shown.items())


def _told_settings(spec: RunSpec) -> str:
    """Write what another program's result says of the settings: those at melt's defaults it need not have told."""
    asked, default = to_dict(spec.settings), to_dict(Settings())
    told = [f"{key}={value}" for key, value in asked.items() if value != default[key]]
    rest = "not told, or at melt's defaults"
    return f"{joined(told)}; others {rest}" if told else rest


def _calibration(calibration: Calibration) -> str:
    doubt = "" if calibration.certain else " (not certain)"
    return f"{calibration.column}: {calibration.basis}{doubt}"


def _knob(knob: Knob) -> str:
    found = "unknown" if knob.before is None else knob.before
    return f"{knob.name.replace('_', ' ')} {knob.asked} (found {found})"


def _trips(trips: Sequence[TripLimit]) -> str:
    """Write the limits, thermometers of the same limit together: a board has thirty."""
    sites: dict[str, list[str]] = {}
    for trip in trips:
        limit = f"{trip.limit:g}" if trip.unit == "1" else human(trip.limit, trip.unit)
        sites.setdefault(limit, []).append(trip.site)
    return joined(
        f"{names[0]} {limit}" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more {limit}"
        for limit, names in sites.items()
    )


def _used(used: object) -> str:
    """Write what was in force; long texts and lists are for JSON."""
    flat = to_dict(used)
    shown = {k: v for k, v in flat.items() if k not in _SAID_ALREADY and (isinstance(v, (int, float)) or _is_short(v))}
    return joined(f"{key}={value}" for key, value in shown.items()) or "-"


def _nodes(used: Mapping[str, object]) -> Iterator[str]:
    """Write how many nodes of a graph each execution provider really runs: what one cannot, another one does."""
    nodes, asked = used.get("nodes_by_provider"), used.get("providers_asked")
    if isinstance(nodes, Mapping) and nodes:
        wanted = f"; asked for {', '.join(map(str, asked))}" if isinstance(asked, (list, tuple)) and asked else ""
        yield joined(f"{count} on {name}" for name, count in nodes.items()) + wanted


def _inputs(used: Mapping[str, object]) -> Iterator[tuple[bool, str]]:
    """Write the shape of each tensor that the model was given, and which is the first."""
    inputs = used.get("inputs")
    for i, (name, tensor) in enumerate(inputs.items() if isinstance(inputs, Mapping) else ()):
        shape = tensor.get("shape") if isinstance(tensor, Mapping) else None
        if isinstance(shape, (list, tuple)):
            yield (
                i == 0,
                f"{name}: {tensor.get('type', 'tensor')} {' x '.join(map(str, shape)) or 'scalar'}",
            )


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 40


def _clock(start: RunStart) -> str:
    if start.clock_uncertainty_ns is None:
        return "offset to the host not measured"
    return f"offset to the host known to ±{human(start.clock_uncertainty_ns / 1e9, 's')}"


def _meter(bundle: RunBundle) -> Iterator[str]:
    document = bundle.attachments.get(METER_DOCUMENT)
    said = None if document is None else meter_clock(document)
    if said is not None:
        yield said


def _summary(metrics: Sequence[Metric], fmt: str) -> str:
    """Write the run's own figures; what would follow from others but could not be told stands below, by its reason."""
    own = [m for m in metrics if m.repetition is None]
    wanting = [m for m in own if m.name in FOLLOWING and m.value is None]
    rows = [row for m in own if m not in wanting for row in _metric_rows(m)]
    table = render_table("Metrics", ("metric", "value", "source", "note"), rows, fmt, numeric=(1,))
    told = {m.note for m in own if m not in wanting}
    why: dict[str, list[str]] = {}
    for m in wanting:
        # Why there is no power stands in the table already; an intensity is missed by who wants one.
        if m.note and m.note not in (*told, derived.NO_GRID):
            why.setdefault(m.note, []).append(title_of(m.name))
    return table + "".join(f"Not told: {', '.join(titles)} ({note}).\n" for note, titles in why.items())


def _metric_rows(metric: Metric) -> Iterator[tuple[str, str, str, str]]:
    yield title_of(metric.name), written(metric), metric.source, metric.note or ""
    if metric.name in _IN_MWH_TOO and metric.value is not None and metric.uncertainty is not None:
        yield "", with_uncertainty(metric.value, metric.uncertainty, "mwh"), "", ""
    if metric.name == derived.CARBON and metric.value is not None:
        off = None if metric.uncertainty is None else 1000 * metric.uncertainty
        yield "", written(replace(metric, value=1000 * metric.value, uncertainty=off)), "", "for 1,000 responses"


def written(metric: Metric) -> str:
    """Write the value of a figure with its unit, and its uncertainty where there is one."""
    if metric.value is not None and metric.uncertainty is not None:
        return with_uncertainty(metric.value, metric.uncertainty, metric.unit)
    if metric.unit == "1" and metric.value is not None and metric.value.is_integer():
        return str(int(metric.value))
    return human(metric.value, metric.unit)


def title_of(name: str) -> str:
    """Return what people call a metric."""
    return METRICS[name].title if name in METRICS else name


def _repetitions(metrics: Sequence[Metric], fmt: str) -> str | None:
    """Write a row for each repetition, None when none was measured."""
    headers, rows = repetition_rows(metrics)
    return render_table("Repetitions", headers, rows, fmt, numeric=range(len(headers))) if rows else None


def repetition_rows(metrics: Sequence[Metric]) -> tuple[list[str], list[list[str]]]:
    """Return the headers, title and unit on a line each, and a row for each repetition; no row where none was measured.

    Repetitions count from 1 here.
    """
    values = {(m.name, m.repetition): m.value for m in metrics if m.repetition is not None and m.value is not None}
    numbers = sorted({repetition for _, repetition in values if repetition is not None})
    names = [name for name in _PER_REPETITION if any((name, n) in values for n in numbers)]
    if not names:
        return [], []
    scales = {n: scale_for([v for (name, _), v in values.items() if name == n], METRICS[n].unit) for n in names}
    headers = ["repetition", *(f"{title_of(name)}\n{scales[name].symbol}" for name in names)]
    rows = [
        [str(n + 1), *(scales[name].write(v) if (v := values.get((name, n))) is not None else "-" for name in names)]
        for n in numbers
    ]
    return headers, rows


def _collectors(streams: Sequence[Stream]) -> Iterator[tuple[str, str, str, str]]:
    found: dict[str, list[Stream]] = {}
    for stream in streams:
        found.setdefault(stream.collector, []).append(stream)
    for collector, members in found.items():
        quantities = ", ".join(dict.fromkeys(stream.quantity for stream in members))
        yield collector, f"{members[0].rate_hz:g} Hz", str(len(members)), quantities
