"""A run in Perfetto: its own trace processor finds every value, time, slice and fact as the store has it."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_samples import make_bundle, make_stream, make_trace
from trace_processor import trace_processor

from melt.analysis.operators import DOCUMENT, document_of, operator_trace
from melt.cli.main import main
from melt.engines.profile import Operator, Profile
from melt.records import Knob, Window
from melt.store.store import Store
from melt.traces import RunBundle, Trace

HOSTILE = "run <b>\"'\\ \U0001f525 \x07"


def make_tokens() -> Trace:
    t_ns = 6_000_000_000 + np.cumsum([0, 31_250_001, 29_999_999, 400_000_000, 33_333_333])
    columns = {
        "repetition": np.array([0.0, 0, 0, 1, 1]),
        "index": np.array([0.0, 1, 2, 0, 1]),
        "itl_s": np.array([np.nan, 0.031250001, 0.029999999, np.nan, 0.033333333]),
        "token_id": np.array([9.0, 8, 7, np.nan, 5]),
    }
    return Trace(collector="tokens", t_ns=t_ns.astype(np.int64), columns=columns)


def make_meter() -> Trace:
    """A channel that falls silent for a second, and ends before the others; another that never measured anything."""
    t_ns = 5_000_000_123 + np.arange(120, dtype=np.int64) * 100_000_000
    t_ns[60:] += 1_000_000_000
    columns = {"power_w": np.linspace(-1e-9, 1e9, 120), "dead_w": np.full(120, np.nan)}
    streams = tuple(replace(make_stream(name, "power", "w"), collector="meter") for name in columns)
    return Trace(collector="meter", t_ns=t_ns, columns=columns, streams=streams)


def make_profile() -> Profile:
    """Nodes back to back, as a profiler of microseconds has them, the last two beside each other."""
    operators = (Operator(op="MUL_MAT", name=HOSTILE, detail="q4_0", place="CPU"), Operator(op="ROPE", name="Qcur-0"))
    begins_ns, lengths_ns = [0, 1_000, 3_000, 3_001], [1_000, 2_000, 500, 999]
    return Profile(
        source="a callback",
        operators=operators,
        node=array("q", [0, 1, 0, 1]),
        t0_ns=array("q", [6_100_000_000 + begin for begin in begins_ns]),
        ns=array("q", lengths_ns),
        repetition=array("q", [0] * 4),
        warmup=array("q", [0] * 4),
    )


def make_run() -> RunBundle:
    profile = make_profile()
    document = json.dumps({"facts": {"name": "M1"}, "on_device_clock": {"clock_uncertainty_ns": 123_456}})
    bundle = make_bundle(
        "r1",
        traces=(make_trace(200), make_meter(), make_tokens(), operator_trace(profile)),
        attachments={"meter.json": document, DOCUMENT: document_of(profile)},
    )
    knobs = (Knob(name="governor", before=None, asked=HOSTILE),)
    # One that overlaps, one without length: no runner should say so, some will.
    odd = (
        Window(phase="tokenize", t0_ns=6_000_000_500, t1_ns=6_000_000_500),
        Window(phase="load", t0_ns=1, t1_ns=7 * 10**9),
    )
    start = replace(bundle.start, knobs=knobs, clock_offset_ns=-1999, clock_uncertainty_ns=5417)
    return replace(bundle, start=start, windows=(*bundle.windows, *odd))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("perfetto") / "store") as store:
        store.publish(make_run())
        yield store


@pytest.fixture(scope="module")
def exported(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "run.pftrace"
    assert main(["export", "--perfetto", "r1", "-o", str(path), "--store", str(store.root)]) == 0
    return path


@pytest.fixture(scope="module")
def ask(exported: Path) -> Iterator[Any]:
    with trace_processor(exported) as processor:
        yield lambda sql: [tuple(vars(row).values()) for row in processor.query(sql)]


@pytest.mark.slow
def test_nothing_is_lost_on_the_way(ask: Any) -> None:
    assert ask("SELECT name, value FROM stats WHERE severity != 'info' AND value != 0") == []


@pytest.mark.slow
def test_every_value_and_time(ask: Any, store: Store) -> None:
    found = defaultdict(list)
    rows = "SELECT t.name, t.unit, c.ts, c.value FROM counter c JOIN counter_track t ON c.track_id = t.id ORDER BY c.ts"
    for name, unit, t_ns, value in ask(rows):
        found[name, unit].append((t_ns, value))
    expected = {}
    for trace in (store.trace("r1", "sensors"), store.trace("r1", "meter")):
        for stream in trace.streams:
            values = trace.columns[stream.name]
            kept = np.isfinite(values)
            if kept.any():
                expected[stream.name, stream.unit] = list(
                    zip(trace.t_ns[kept].tolist(), values[kept].tolist(), strict=True)
                )
    assert dict(found) == expected
    described = dict(ask("SELECT name, description FROM counter_track"))
    assert (
        described["package_j"] == "energy of package, from /sys/class/package_j, collector sensors at 10 Hz, counts up"
    )


@pytest.mark.slow
def test_phases_and_tokens(ask: Any, store: Store) -> None:
    rows = "SELECT s.name, s.ts, s.dur FROM slice s JOIN track t ON s.track_id = t.id WHERE t.name = '{}'"
    phases = sorted((w.phase, w.t0_ns, w.t1_ns - w.t0_ns) for w in store.bundle("r1").windows)
    assert sorted(ask(rows.format("phases"))) == phases
    t_ns = make_tokens().t_ns.tolist()
    since = [0, *np.diff(t_ns).tolist()]
    since[3] = 0
    assert ask(rows.format("tokens")) == [("token", t - dt, dt) for t, dt in zip(t_ns, since, strict=True)]
    ids = ask(
        "SELECT s.ts + s.dur, int_value FROM slice s LEFT JOIN args ON args.arg_set_id = s.arg_set_id"
        " AND args.key = 'debug.token_id' WHERE s.name = 'token'"
    )
    assert ids == list(zip(t_ns, [9, 8, 7, None, 5], strict=True))


@pytest.mark.slow
def test_nodes_of_a_profile(ask: Any) -> None:
    profile = make_profile()
    found = ask(
        "SELECT s.name, s.ts, s.dur, s.depth, a.display_value FROM slice s JOIN track t ON s.track_id = t.id"
        " JOIN args a ON a.arg_set_id = s.arg_set_id AND a.key = 'debug.node' WHERE t.name = 'operators' ORDER BY s.ts"
    )
    told = [profile.operators[node] for node in profile.node]
    rows = zip(told, profile.t0_ns, profile.ns, strict=True)
    assert found == [(one.op, t_ns, ns, 0, one.name) for one, t_ns, ns in rows]


@pytest.mark.slow
def test_where_nothing_was_measured(ask: Any, store: Store) -> None:
    gaps = ask(
        "SELECT t.name, s.ts, s.ts + s.dur FROM slice s JOIN track t ON s.track_id = t.id"
        " WHERE s.name = 'not measured' ORDER BY t.name, s.ts"
    )
    meter_ns, sensors_ns = (store.trace("r1", collector).t_ns.tolist() for collector in ("meter", "sensors"))
    end_ns = max(sensors_ns[-1], *(w.t1_ns for w in store.bundle("r1").windows))
    assert gaps == [
        ("power_w not measured", meter_ns[59], meter_ns[60]),
        ("power_w not measured", meter_ns[-1], end_ns),
        ("zone0_c not measured", sensors_ns[2], sensors_ns[5]),
    ]


@pytest.mark.slow
def test_what_is_known_of_the_run(ask: Any) -> None:
    facts = dict(ask("SELECT key, display_value FROM args JOIN slice USING (arg_set_id) WHERE slice.name = 'run'"))
    assert facts["debug.clock"] == "the device's monotonic clock"
    assert facts["debug.clock host less device ns"] == "-1999"
    assert facts["debug.clock uncertainty ns"] == "5417"
    assert facts["debug.meter on_device_clock clock_uncertainty_ns"] == "123456"
    assert facts["debug.device cpu0 max_hz"] == "3100000000.0"
    assert facts["debug.knob governor"] == f"unknown -> {HOSTILE}"
    assert "debug.device soc" not in facts
    assert ask("SELECT name FROM process WHERE pid = 1") == [("tiny q8_0 pp512+tg128 on local (r1)",)]


def test_the_protobuf_library_reads_it_too(exported: Path, store: Store) -> None:
    protos = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    trace = protos.Trace.FromString(exported.read_bytes())
    names = {p.track_descriptor.uuid: p.track_descriptor.name for p in trace.packet if p.HasField("track_descriptor")}
    events = [(p.timestamp, p.track_event) for p in trace.packet if p.HasField("track_event")]
    power = [
        (t_ns, event.double_counter_value)
        for t_ns, event in events
        if event.type == event.TYPE_COUNTER and names[event.track_uuid] == "power_w"
    ]
    meter = store.trace("r1", "meter")
    assert power == list(zip(meter.t_ns.tolist(), meter.columns["power_w"].tolist(), strict=True))


def test_a_run_that_left_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(tmp_path / "store") as store:
        store.publish(replace(make_bundle("empty"), windows=()))
        store.publish(make_bundle("other"))
    words = ["--store", str(tmp_path / "store"), "-o", str(tmp_path / "out.pftrace")]
    assert main(["export", "-f", "perfetto", "empty", *words]) == 0
    assert (tmp_path / "out.pftrace").stat().st_size > 0
    assert main(["export", "-f", "perfetto", *words]) == 2
    assert "a Perfetto trace is of one run, and 2 are selected" in capsys.readouterr().err
