"""Where the time went: what is taken together, what belongs to no phase, and what a runner may not say."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import make_bundle

from melt.analysis.earlier import earlier
from melt.analysis.history import histories
from melt.analysis.operators import (
    Profiler,
    Row,
    costs,
    document_of,
    operator_trace,
    phases,
    read_document,
)
from melt.engines import registry
from melt.engines.profile import Operator, Profile, without_profiler
from melt.engines.runner_events import parse_events
from melt.plan.expand import PROFILED, cell_key, expand
from melt.plan.flags import PlanFlags, plan_from_flags
from melt.records import Metric, Window
from melt.report.operators import Told, document, render_profile
from melt.store.selection import Selection
from melt.store.store import Store

_NODES = [
    ["MUL_MAT", "ffn_up-0", "q4_0", "CPU"],
    ["MUL_MAT", "ffn_up-11", "q4_0", "CPU"],
    ["ROPE", "Qcur-0", None, "CPU"],
    ["MUL_MAT", "result_output", "q6_K", "CUDA0"],
]


def event(node: list[int], after_ns: list[int], ns: list[int], **other: object) -> bytes:
    told = {"event": "operators", "repetition": 0, "warmup": False, "source": "a callback", "new": [], "t0_ns": 1_000}
    return json.dumps({**told, "node": node, "after_ns": after_ns, "ns": ns, **other}).encode()


def told(*events: bytes) -> Profile:
    report = parse_events(events)
    assert report.failure is None
    assert report.profile is not None
    return report.profile


WINDOWS = (
    Window(phase="prefill", t0_ns=500, t1_ns=900, repetition=0, warmup=True, n_tokens=8),
    Window(phase="prefill", t0_ns=1_000, t1_ns=2_000, repetition=0, n_tokens=8),
    Window(phase="decode", t0_ns=2_000, t1_ns=2_600, repetition=0, n_tokens=2),
    Window(phase="decode", t0_ns=3_000, t1_ns=3_400, repetition=1, n_tokens=2),
)


@pytest.fixture
def profile() -> Profile:
    return told(
        event([0, 1, 2], [-450, -400, -300], [10, 10, 10], new=_NODES[:3], warmup=True),
        event([0, 1, 2], [0, 400, 700], [400, 300, 100]),
        # The third node lies between two windows.
        event([0, 3, 2, 3], [1_000, 1_200, 1_700, 2_100], [100, 300, 50, 200], new=_NODES[3:]),
    )


def by(profile: Profile, name: str) -> list[list[Row]]:
    found = phases(operator_trace(profile), read_document(document_of(profile)), WINDOWS, name)
    return [list(phase.rows) for phase in found]


def test_time_is_counted_by_phase_without_warmups_and_what_lies_between(profile: Profile):
    prefill, decode = phases(operator_trace(profile), read_document(document_of(profile)), WINDOWS, "operator")
    assert (prefill.name, prefill.windows, prefill.n_tokens) == ("prefill", 1, 8)
    assert [(row.key, row.count) for row in prefill.rows] == [(("MUL_MAT",), 2), (("ROPE",), 1)]
    assert [round(row.total_s * 1e9) for row in prefill.rows] == [700, 100]
    assert [row.share for row in prefill.rows] == pytest.approx([7 / 8, 1 / 8])
    assert (prefill.wall_s, prefill.nodes_s) == pytest.approx((1e-6, 8e-7))
    assert (decode.windows, decode.n_tokens) == (2, 4)
    assert decode.wall_s == pytest.approx(1e-6)
    assert [(row.key, row.count, round(row.total_s * 1e9)) for row in decode.rows] == [(("MUL_MAT",), 3, 600)]


def test_phases_end_where_nodes_could_not_be_kept(profile: Profile):
    trace, profiler = operator_trace(profile), replace(read_document(document_of(profile)), left_out=1)
    # The last node ends at 3,300: within the second window of decode, before the one that follows.
    _, decode = phases(trace, profiler, (*WINDOWS, replace(WINDOWS[-1], t0_ns=4_000, t1_ns=5_000)), "operator")
    assert (decode.windows, decode.n_tokens, round(decode.wall_s * 1e9)) == (1, 2, 600)
    assert [(row.count, round(row.total_s * 1e9)) for row in decode.rows] == [(2, 400)]
    requests = [replace(w, phase="inference", n_tokens=None) for w in WINDOWS[2:]]
    (inference,) = phases(trace, profiler, requests, "operator")
    assert (inference.windows, round(inference.wall_s * 1e9)) == (2, 900)
    (alone,) = phases(trace, profiler, WINDOWS[3:], "operator")
    assert (alone.n_tokens, round(alone.wall_s * 1e9)) == (None, 300)


def test_layers_are_taken_together_as_parts_and_types_and_backends_apart(profile: Profile):
    assert by(profile, "part")[0][0].key == ("MUL_MAT", "ffn_up-*", "q4_0")
    assert [row.key for row in by(profile, "type")[1]] == [("MUL_MAT", "q6_K"), ("MUL_MAT", "q4_0")]
    assert [row.key for row in by(profile, "backend")[1]] == [("CUDA0", "MUL_MAT"), ("CPU", "MUL_MAT")]
    assert len(by(profile, "node")[0]) == 3


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("cache_k_l12 (view)", "cache_k_l* (view)"),
        ("/model/layers.3/mlp/down_proj/MatMul", "/model/layers.*/mlp/down_proj/MatMul"),
        ("kqv_out-7", "kqv_out-*"),
        ("node_31", ""),
        ("Conv_12", "Conv_12"),
    ],
)
def test_a_part_is_a_name_without_its_layer(name: str, part: str):
    profile = told(event([0], [100], [10], new=[["X", name, None, None]]))
    assert by(profile, "part")[0][0].key == ("X", part, None)


def test_a_computation_that_stood_still_is_told(profile: Profile):
    node, ns = [0, 1] * 9, [10, 20] * 8 + [10, 900]
    stalled = told(event(node, [i * 30 for i in range(18)], ns, new=_NODES[:2]))
    (phase,) = phases(operator_trace(stalled), read_document(document_of(stalled)), WINDOWS[1:2], "operator")
    assert (phase.stalled, round(phase.stalled_s * 1e9)) == (1, 900)
    shown = Told(
        bundle=make_bundle("r1"), profiler=read_document(document_of(stalled)), phases={"operator": [phase]}, costs=[]
    )
    assert "lies in 1 computation of more than ten times the median" in render_profile(shown, "table")
    quiet = phases(operator_trace(profile), read_document(document_of(profile)), WINDOWS, "operator")
    assert [one.stalled for one in quiet] == [0, 0]


def test_a_trace_keeps_every_nanosecond_in_order(profile: Profile):
    trace = operator_trace(profile)
    assert trace.t_ns.tolist() == sorted(profile.t0_ns)
    assert np.rint(trace.columns["duration_s"] * 1e9).sum() == sum(profile.ns)
    assert trace.columns["warmup"].sum() == 3


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (event([0], [1, 2], [1]), "1 nodes have 2 begins"),
        (event([0], [1], [1]), "a node was not introduced"),
        (event([0], [1], [-1], new=_NODES[:1]), "ended before it began"),
        (event([2**70], [1], [1], new=_NODES[:1]), "int too"),
        (b'{"event":"operators"}', "'new'"),
        (event([], [], [], new=[["only a name"]]), "missing 3 required"),
        (event([], [], [], new=[["A", {}, None, None]]), "not named by texts"),
        (event([], [], [], clock_uncertainty_ns=float("inf")), "clock_uncertainty_ns is not a whole number"),
        (event([], [], [], left_out=-1), "left_out is not a whole number"),
        (b'{"event":"raw_profile","name":{},"zlib_base64":"a"}', "no piece of a file"),
        (b'{"event":"raw_profile","name":"snapshot.json","zlib_base64":"a"}', "no piece of a file"),
    ],
)
def test_what_contradicts_itself_is_the_report_s_failure(wrong: bytes, complaint: str):
    failure = parse_events([wrong]).failure
    assert failure is not None
    assert failure.code == "contradictory_event"
    assert complaint in failure.message


def test_the_profiler_s_own_file_is_put_together_and_left_out_where_a_piece_is_lost():
    packed = base64.b64encode(zlib.compress(b'[{"cat": "Node"}]')).decode()
    pieces = [packed[:9], packed[9:]]
    name = "onnxruntime_profile.json"
    lines = [json.dumps({"event": "raw_profile", "name": name, "zlib_base64": one}).encode() for one in pieces]
    assert told(event([], [], []), *lines).raw == {name: '[{"cat": "Node"}]'}
    assert told(event([], [], []), lines[1]).raw == {}


def test_the_cost_is_told_by_the_rates_that_both_runs_have():
    slow = [Metric(name="decode_tps", value=20.0, unit="tok/s"), Metric(name="prefill_tps", value=None, unit="tok/s")]
    fast = [Metric(name="decode_tps", value=50.0, unit="tok/s"), Metric(name="prefill_tps", value=9.0, unit="tok/s")]
    (cost,) = costs(slow, fast, "r0")
    assert (cost.phase, cost.profiled, cost.unprofiled, cost.run_id) == ("decode", 20.0, 50.0, "r0")


def test_the_tables_say_where_the_time_went_and_how_far_they_are_to_be_believed(profile: Profile):
    profiler = read_document(document_of(profile))
    both = {name: phases(operator_trace(profile), profiler, WINDOWS, name) for name in ("operator", "part")}
    cost = costs(
        [Metric(name="decode_tps", value=20.0, unit="tok/s")],
        [Metric(name="decode_tps", value=50.0, unit="tok/s")],
        "r0",
    )
    shown = Told(bundle=make_bundle("r1"), profiler=replace(profiler, left_out=2), phases=both, costs=cost)
    text = render_profile(shown, "md", top=0)
    assert "| 2 more | 100 % | 800 ns | 3 | 267 ns |" in text
    text = render_profile(shown, "md", top=1)
    assert "| MUL_MAT | 87.5 % | 700 ns | 2 | 350 ns |" in text
    assert "| ROPE | 12.5 % | 100" in text
    assert "decode: 4 tokens, 1.00 µs, 60.0 % of it in nodes; the rest lies between them" in text
    assert "decode: 20.0 tok/s under the profiler, 40.0 % of the 50.0 tok/s without it in run r0" in text
    assert "prefill: what the profiler cost is not known" in text
    assert "at least 2 nodes at the end could not be kept" in text
    assert [p["phase"] for p in document(shown)["phases"]] == ["prefill", "decode"] * 2


def test_a_plan_under_the_profiler_has_one_session_of_each_cell_and_no_reference():
    flags = PlanFlags(models=("m.gguf",), n_gen=("8",), repeat={"sessions": "5"}, reference=True)
    plain, profiled = (
        expand(plan_from_flags(replace(flags, profile=on)), sweep_id="s", new_run_id=lambda: "r")
        for on in (False, True)
    )
    assert (len(plain), len(profiled)) == (8, 1)
    assert cell_key(profiled[0]) == PROFILED + cell_key(plain[0])
    assert not profiled[0].reference


def test_nothing_that_tells_how_fast_something_is_takes_a_profiled_run(tmp_path: Path):
    plain, other = make_bundle("r1"), make_bundle("r2")
    profiled = replace(other, start=replace(other.start, spec=replace(other.start.spec, profile=True)))
    with Store.open(tmp_path / "store") as store:
        for bundle in (plain, profiled):
            store.publish(bundle)
        assert store.run_ids(Selection(profiled=True)) == ["r2"]
        assert store.run_ids(Selection(profiled=False)) == ["r1"]
        assert store.run_ids(Selection(cell_key=cell_key(other.start.spec))) == ["r1"]
    assert [night.run_ids for one in histories([plain, profiled]) for night in one.nights] == [("r1",)]
    spec, artifact = plain.start.spec, plain.start.artifact
    assert earlier([plain, profiled], [spec], {spec.quant: artifact}, None) == [plain]


def test_engines_that_time_no_operators_say_so():
    assert without_profiler(registry.get("llama.cpp")) is None
    assert without_profiler(registry.get("onnxruntime")) is None
    assert "native runner times no operators" in (without_profiler(registry.get("llama.cpp-native")) or "")
    assert (without_profiler(registry.get("llama-bench:/bin/true")) or "").endswith("/bin/true times no operators")


def test_a_profiler_is_read_back_as_it_was_written():
    profiler = Profiler(source="s", operators=(Operator(op="A", name="a", place="CPU"),), left_out=3)
    profile = told(event([], [], [], source="s", new=[["A", "a", None, "CPU"]], left_out=3))
    assert read_document(document_of(profile)) == profiler
