"""The runner of ONNX Runtime: what agents/PROTOCOL.md promises, and what it does with bad input."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_samples import Decoder, Graph

from melt._layout import agents_dir
from melt.engines import registry
from melt.plan.values import providers

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra: onnx)")
pytestmark = pytest.mark.slow  # each run starts two interpreters

_DEADLINE_S = 60
_ONCE = {"warmup": 0, "repetitions": 1}


class Run:
    """A finished runner: its events, and the report that its adapter makes of them."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]):
        self.exit_code = done.returncode
        self.stderr = done.stderr.decode()
        self.events = [json.loads(line) for line in done.stdout.splitlines()]
        self.report = registry.get("onnxruntime").parse(done.stdout.splitlines())

    def all(self, event: str) -> list[dict]:
        return [e for e in self.events if e["event"] == event]

    @property
    def failure(self) -> tuple[int, str, str]:
        error = self.events[-1]
        return self.exit_code, error["code"], error["message"]


def _command() -> list[str]:
    return [sys.executable, str(registry.get("onnxruntime").runner_files()[0])]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    def start(model: Path | str, *, address_space: int | None = None, **job: object) -> Run:
        settings = {"threads": 1, **job.pop("settings", {})}
        path = tmp_path / "job.json"
        path.write_text(json.dumps({"model": str(model), "settings": settings, **job}))
        limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (address_space,) * 2)) if address_space else None
        words = [*_command(), str(path)]
        return Run(subprocess.run(words, capture_output=True, timeout=_DEADLINE_S, preexec_fn=limit, check=False))

    return start


def _save(folder: Path, g: Graph, result: str, shape: list[int | str], *, rank: int = 1) -> Path:
    """Write a model that makes `result`, of that many dimensions, from x."""
    info = helper.make_tensor_value_info
    sizes = [f"size{axis}" for axis in range(rank)]
    made = g.model([info("x", TensorProto.FLOAT, shape)], [info(result, TensorProto.FLOAT, sizes)])
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A model of two nodes: [batch, 4] to [batch, 3]."""
    g = Graph()
    weights = g.constant(np.arange(12).reshape(4, 3), "float32")
    return _save(tmp_path, g, g("Relu", g("MatMul", "x", weights)), ["batch", 4], rank=2)


def test_every_request_is_timed_and_all_are_told_after_their_repetition(run, layer):
    workload = {"kind": "inference", "n_infer": 20, "dims": {"batch": 6}}
    done = run(layer, workload=workload, repeat={"warmup": 1, "repetitions": 2})
    assert (done.exit_code, done.stderr) == (0, "")
    assert [e["event"] for e in done.events] == ["hello", "load", *["inferences"] * 3, "finish"]
    assert [(e["warmup"], e["repetition"], e["batch"]) for e in done.all("inferences")] == [
        (True, 0, 6), (False, 0, 6), (False, 1, 6)
    ]  # fmt: skip
    times = [done.all("load")[0]["t1_ns"]]
    for e in done.all("inferences"):
        assert len(e["t0_ns"]) == len(e["t1_ns"]) == 20
        times += chain.from_iterable(zip(e["t0_ns"], e["t1_ns"], strict=True))
    assert all(a <= b for a, b in pairwise([*times, done.all("finish")[0]["t_ns"]]))
    assert done.report.complete
    used = done.report.used
    assert used["nodes_by_provider"] == {"CPUExecutionProvider": 2}
    assert used["inputs"] == {"x": {"type": "float32", "shape": [6, 4]}}
    assert (used["threads"], used["backend"], used["providers_asked"]) == (1, "CPU", [])


def test_a_provider_that_takes_no_node_is_seen_and_one_that_lacks_is_named(run, layer):
    """The provider for Azure is in every build and runs no node of a model: the engine falls back to the CPU."""
    once = {"workload": {"kind": "inference", "n_infer": 1, "dims": {"batch": 1}}, "repeat": _ONCE}
    used = run(layer, settings={"providers": ["azure"]}, **once).report.used
    assert used["providers_asked"] == ["AzureExecutionProvider"]
    assert used["nodes_by_provider"] == {"CPUExecutionProvider": 2}
    assert used["backend"] == "CPU"
    exit_code, code, message = run(layer, settings={"providers": ["CUDAExecutionProvider"]}, **once).failure
    assert (exit_code, code) == (1, "provider_missing")
    assert "has no execution provider CUDAExecutionProvider: it has" in message
    assert message.endswith("CPUExecutionProvider")


def test_every_provider_that_onnxruntime_knows_goes_by_its_short_name():
    names = onnxruntime.get_all_providers()
    assert [providers(name.removesuffix("ExecutionProvider").lower()) for name in names] == [(name,) for name in names]


def test_settings_are_taken_and_the_graph_is_as_optimized_as_asked(run, tmp_path):
    g = Graph()
    model = _save(tmp_path, g, g("Identity", g("Add", g("Identity", "x"), g.constant(1, "float32"))), [2])
    workload = {"kind": "inference", "n_infer": 3}
    nodes = {}
    for level in ("disabled", "all"):
        settings = {
            "graph_optimization": level,
            "arena": False,
            "io_binding": True,
            "inter_op_threads": 2,
            "threads": 2,
        }
        done = run(model, settings=settings, workload=workload, repeat=_ONCE)
        assert done.exit_code == 0, done.events
        used = done.report.used
        assert {key: used[key] for key in settings} == settings
        nodes[level] = used["nodes_by_provider"]["CPUExecutionProvider"]
    assert nodes == {"disabled": 3, "all": 1}


def test_requests_go_on_for_the_time_and_stop_when_told_to(run, layer, tmp_path):
    workload = {"kind": "inference", "duration_s": 0.3, "dims": {"batch": 1}}
    done = run(layer, workload=workload, repeat={"warmup": 1, "repetitions": 1})
    warmup, timed = done.report.inferences
    assert len(warmup.t0_ns) == 1
    # The time begins before the first request; how late the last one ends is the machine's affair.
    assert (timed.t1_ns[-1] - timed.t0_ns[0]) / 1e9 > 0.25
    # Pieces of a repetition too long for one line are one again.
    assert len(timed.t0_ns) == sum(len(e["t0_ns"]) for e in done.all("inferences")[1:]) > 100

    job = {"model": str(layer), "workload": {**workload, "duration_s": 60}, "repeat": _ONCE}
    (tmp_path / "job.json").write_text(json.dumps(job))
    with subprocess.Popen([*_command(), str(tmp_path / "job.json")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        lines += process.stdout.read().splitlines()
    assert process.returncode == 143
    assert [json.loads(line)["event"] for line in lines[:2]] == ["hello", "load"]
    assert {json.loads(line)["event"] for line in lines[2:]} <= {"inferences"}


@pytest.mark.parametrize("io_binding", [False, True])
def test_a_decoder_generates_with_its_cache_what_numpy_generates_without(run, tmp_path, io_binding):
    decoder = Decoder()
    model = decoder.write(tmp_path / "decoder.onnx")
    workload = {"n_depth": 11, "n_prompt": 9, "n_gen": 8}
    done = run(
        model,
        workload=workload,
        settings={"n_batch": 4, "io_binding": io_binding},
        repeat={"warmup": 1, "repetitions": 1},
    )
    assert (done.exit_code, done.stderr) == (0, "")
    state, tokens = 0, []
    for _ in range(20):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        tokens.append((state >> 33) % decoder.n_vocab)
    expected = []
    for _ in range(8):
        expected.append(int(decoder.logits([*tokens, *expected])[-1].argmax()))
    assert len(set(expected)) > 2
    assert [g["token_ids"] for g in done.all("generation")] == [expected, expected]
    generation = done.all("generation")[-1]
    assert [n for n, _ in generation["prefill"]["batches"]] == [4, 4, 1]
    windows = done.report.windows[1:]
    assert [(w.phase, w.n_tokens, w.depth) for w in windows] == [("prefill", 9, 11), ("decode", 7, 20)] * 2
    # 28 tokens of 2 layers, keys and values of 2 heads of 8 in four bytes each.
    assert done.report.memory["kv_cache_bytes"] == 28 * 2 * 2 * (2 * 8) * 4
    assert (done.report.used["n_ctx"], done.report.used["cache_type"]) == (28, "float32")


def test_decode_alone_lasts_as_long_as_asked(run, tmp_path):
    model = Decoder(n_ctx=16).write(tmp_path / "decoder.onnx")
    done = run(model, workload={"kind": "sustained", "n_gen": 5, "duration_s": 0.2}, repeat=_ONCE)
    generations = done.report.generations
    assert len(generations) > 1
    assert {g.stop for g in generations[:-1]} == {"length"}
    assert [w.phase for w in done.report.windows[1:]] == ["decode"] * len(generations)
    assert {w.n_tokens for w in done.report.windows[1:-1]} == {5}


def _unknown(folder: Path) -> Path:
    node = helper.make_node("Nope", ["x"], ["y"], domain="elsewhere")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    made = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=8)
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


def _index(folder: Path) -> Path:
    g = Graph()
    out = g(
        "Gather", g.constant([1.0], "float32"), g("Cast", g("Add", "x", g.constant(5, "float32")), to=TensorProto.INT64)
    )
    return _save(folder, g, out, [1])


def _huge(folder: Path) -> Path:
    g = Graph()
    return _save(folder, g, g("Expand", "x", g.constant([1 << 20, 1 << 12])), [1], rank=2)


def _open(folder: Path) -> Path:
    path = Decoder().write(folder / "model.onnx")
    made = onnx.load(path)
    for tensor in made.graph.input:
        if tensor.name.startswith("past"):
            tensor.type.tensor_type.shape.dim[1].dim_param = "heads"
    onnx.save(made, path)
    return path


def _text(folder: Path) -> Path:
    (folder / "model.onnx").write_text("no model")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("make", "workload", "code", "sentence"),
    [
        (_text, None, "bad_model", "cannot load"),
        (lambda folder: folder / "none.onnx", None, "bad_request", "No such file"),
        (_unknown, None, "unsupported_model", "elsewhere:Nope"),
        (_index, None, "bad_request", "does not run on made-up inputs (give real ones in an .npz)"),
        (_huge, None, "out_of_memory", "Failed to allocate memory"),
        (_huge, {"n_gen": 4}, "bad_request", "this model takes x: measure it with {infer: 50}"),
        (_open, {"n_gen": 4}, "unsupported_model", "leaves the dimension heads of its cache open: export it"),
        (_huge, {"kind": "prompts", "prompts": ["a"], "n_gen": 4}, "bad_request", "holds no tokenizer"),
    ],
)
def test_what_cannot_run_says_so_in_one_sentence(run, tmp_path, make, workload, code, sentence):
    workload = workload or {"kind": "inference", "n_infer": 1}
    done = run(make(tmp_path), workload=workload, repeat=_ONCE, address_space=8 << 30)
    exit_code, found, message = done.failure
    assert (exit_code, found) == (1, code), message
    assert sentence in message
    assert "\n" not in message
    assert "onnxruntime_src" not in message


def test_an_engine_that_is_not_there_is_said_to_be_missing(tmp_path, layer):
    (tmp_path / "job.json").write_text(
        json.dumps({"model": str(layer), "workload": {"kind": "inference", "n_infer": 1}})
    )
    # Without the folder of installed packages.
    words = [sys.executable, "-S", str(agents_dir() / "runners" / "onnx_runtime.py"), str(tmp_path / "job.json")]
    done = Run(subprocess.run(words, capture_output=True, timeout=_DEADLINE_S, check=False))
    assert done.failure[:2] == (1, "engine_missing")
    assert "onnxruntime does not load" in done.failure[2]
