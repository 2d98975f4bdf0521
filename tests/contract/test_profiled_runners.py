"""Runners under the profiler: what they say of each node holds against the requests that it is of."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from melt._layout import agents_dir
from melt.engines import registry
from melt.engines.base import RunnerReport
from melt.engines.profile import Profile

pytestmark = pytest.mark.slow  # a model is loaded again and again

_MODEL = Path(__file__).parents[2] / "melt" / "models" / "data" / "tiny-pydoc-f16.gguf"
_DEADLINE_S = 120
_RUNNERS = agents_dir() / "runners"
_STARVED = """\
import runpy, sys
sys.path.append({folder!r})
import llama_profile
llama_profile.MOST = 100
sys.argv = [{runner!r}, sys.argv[1]]
runpy.run_path({runner!r}, run_name="__main__")
"""


def run(folder: Path, engine: str, job: dict[str, object], argv: Sequence[str] = ()) -> RunnerReport:
    adapter = registry.get(engine)
    path = folder / "job.json"
    path.write_text(json.dumps({"settings": {"threads": 1}, **job}))
    words = argv or (str(adapter.runner_files()[0]),)
    done = subprocess.run([sys.executable, *words, path], capture_output=True, timeout=_DEADLINE_S, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    report = adapter.parse(done.stdout.splitlines())
    assert report.failure is None
    assert report.complete
    return report


def spans(profile: Profile, *, warmup: int = 0) -> list[tuple[int, int, str]]:
    """Return begin, end and operation of each node that was computed."""
    rows = zip(profile.t0_ns, profile.ns, profile.node, profile.warmup, strict=True)
    return [(t0, t0 + ns, profile.operators[node].op) for t0, ns, node, warm in rows if warm == warmup]


_TOKENS = {
    "model": str(_MODEL),
    "workload": {"n_depth": 24, "n_prompt": 20, "n_gen": 5},
    "repeat": {"warmup": 1, "repetitions": 2},
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> RunnerReport:
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed (extra: llama)")
    return run(tmp_path_factory.mktemp("llama"), "llama.cpp", {**_TOKENS, "profile": True})


def test_every_node_of_a_request_is_told_once_and_within_it(llama: RunnerReport):
    profile = llama.profile
    assert profile is not None
    measured = [w for w in llama.windows if w.phase in ("prefill", "decode") and not w.warmup]
    told = spans(profile)
    # One graph for each piece of the prompt and one for each token behind the first; none for the depth.
    per_graph = len(told) / (2 * 5)
    assert per_graph == len(spans(profile, warmup=1)) / 5
    assert per_graph.is_integer()
    assert all(any(w.t0_ns <= t0 and t1 <= w.t1_ns for w in measured) for t0, t1, _ in told)
    assert all(end <= begin for (_, end, _), (begin, _, _) in pairwise(told))
    inside_s = sum(t1 - t0 for t0, t1, _ in told) / 1e9
    assert 0.2 < inside_s / sum(w.duration_s for w in measured) <= 1.0


def test_nodes_are_what_the_model_is_made_of(llama: RunnerReport):
    assert llama.profile is not None
    nodes = {(one.op, one.name): (one.detail, one.place) for one in llama.profile.operators}
    assert {("MUL_MAT", f"ffn_up-{layer}") for layer in range(4)} <= {*nodes}
    assert nodes["MUL_MAT", "ffn_up-0"] == ("f16", "CPU")
    assert nodes["RMS_NORM+MUL", "attn_norm-0"] == ("f32", "CPU")
    assert not {"VIEW", "RESHAPE", "PERMUTE", "RMS_NORM"} & {op for op, _ in nodes}
    counts = Counter(op for _, _, op in spans(llama.profile))
    assert counts["RMS_NORM+MUL"] == 2 * 5 * (2 * 4 + 1)


def test_the_profiler_changes_no_token(llama: RunnerReport, tmp_path: Path):
    plain = run(tmp_path, "llama.cpp", _TOKENS)
    assert plain.profile is None
    assert {g.token_ids for g in plain.generations} == {g.token_ids for g in llama.generations}


def test_what_there_is_no_room_for_is_counted(llama: RunnerReport, tmp_path: Path):
    assert llama.profile is not None
    runner = str(registry.get("llama.cpp").runner_files()[0])
    program = _STARVED.format(folder=str(_RUNNERS), runner=runner)
    starved = run(tmp_path, "llama.cpp", {**_TOKENS, "profile": True}, ("-c", program))
    assert starved.profile is not None
    assert len(starved.profile.node) == 100
    assert starved.profile.left_out == len(llama.profile.node) - 100
    assert {g.token_ids for g in starved.generations} == {g.token_ids for g in llama.generations}


def test_nodes_of_onnx_models_are_brought_to_the_device_s_clock(tmp_path: Path):
    pytest.importorskip("onnxruntime", reason="not installed: onnxruntime (extra: onnx)")
    onnx = pytest.importorskip("onnx", reason="not installed: onnx (extra: onnx)")
    from onnx_samples import Graph

    # In each branch a product; which one is taken is known when it runs.
    info, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    g = Graph()
    weights = g.constant(np.ones((64, 64)), "float32")
    branches = [
        onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", [first, second], ["y"], name=f"inside_{first}")],
            f"of_{first}",
            [],
            [info("y", floats, ["rows", 64])],
        )
        for first, second in (("x", weights), ("v0", weights))
    ]
    g("Relu", "x")
    any_ = g("Greater", g("ReduceSum", "x", keepdims=0), g.constant(0, "float32"))
    g("If", any_, name="out", then_branch=branches[0], else_branch=branches[1])
    onnx.save(g.model([info("x", floats, ["rows", 64])], [info("out", floats, ["rows", 64])]), tmp_path / "m.onnx")

    workload = {"kind": "inference", "n_infer": 7, "dims": {"rows": 8}}
    job = {"model": str(tmp_path / "m.onnx"), "workload": workload, "repeat": {"warmup": 1, "repetitions": 2}}
    settings = {"threads": 1, "graph_optimization": "disabled"}
    report = run(tmp_path, "onnxruntime", {**job, "settings": settings, "profile": True})
    profile = report.profile
    assert profile is not None
    requests = [span for i in report.inferences if not i.warmup for span in zip(i.t0_ns, i.t1_ns, strict=True)]
    assert len(requests) == 14
    told = spans(profile)
    assert Counter(op for _, _, op in told) == {"Relu": 14, "ReduceSum": 14, "Greater": 14, "MatMul": 14}
    off_ns = profile.clock_uncertainty_ns
    assert 0 < off_ns < 1_000_000
    assert all(any(a - off_ns <= t0 and t1 <= b + off_ns for a, b in requests) for t0, t1, _ in told)
    assert {one.place for one in profile.operators} == {"CPUExecutionProvider"}
    (raw,) = profile.raw.values()
    assert sum(event.get("cat") == "Node" for event in json.loads(raw)) >= len(told)
