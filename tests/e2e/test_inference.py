"""One plan of models that generate tokens and one that answers at once, on a board, in one store, end to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from melt_rig import Melt
from onnx import TensorProto, helper
from onnx_samples import Graph
from virtual.sshd import Sshd

from melt.analysis.latency import INFERENCES
from melt.store.selection import Selection
from melt.store.store import Store

_PLAN = """
models:
  - {model: tiny-pydoc, quants: [q8_0, q4_0]}
  - ./eyes.onnx
workloads:
  - pp16+tg8
  - infer20 rows=3
  - {infer: 20, inputs: rows.npz}
settings: {threads: 1}
repeat: {repetitions: 3}
"""


def eyes(path: Path) -> None:
    """Write a model that weighs 16 features of as many rows as it is given."""
    graph = Graph()
    weights = graph.constant(np.linspace(-1, 1, 16 * 16).reshape(16, 16), "float32")
    graph("Relu", graph("MatMul", "x", weights), name="y")
    shape = ["rows", 16]
    made = graph.model(
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    path.write_bytes(made.SerializeToString())


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    eyes(tmp_path / "eyes.onnx")
    np.savez(tmp_path / "rows.npz", x=np.ones((5, 16), np.float32))
    path = tmp_path / "mixed.yaml"
    path.write_text(_PLAN)
    return path


@pytest.fixture
def board(melt: Melt, tmp_path: Path, give_python: Callable[[Path], None]) -> Iterator[Path]:
    """Give a board that is this machine behind a server of its own; return what melt keeps there."""
    home = tmp_path / "board" / "home"
    with Sshd(tmp_path / "board") as sshd:
        give_python(home)
        melt.env.update(sshd.environment)
        yield home / ".melt"


@pytest.mark.slow
def test_models_of_both_kinds_are_measured_by_one_plan(melt: Melt, plan: Path, board: Path) -> None:
    done = melt("run", str(plan), "--device", "board", timeout_s=300)
    for told in ("decode", "latency p50", "first inference", "throughput"):
        assert told in done.stdout
    runs = melt.runs()
    cells = {(run["model"], run["engine"], run["workload"], run["quant"]) for run in runs}
    assert cells == {
        ("tiny-pydoc", "llama.cpp", "pp16+tg8", "q8_0"),
        ("tiny-pydoc", "llama.cpp", "pp16+tg8", "q4_0"),
        ("./eyes.onnx", "onnxruntime", "infer20 rows=3", None),
        ("./eyes.onnx", "onnxruntime", "infer20 from rows.npz", None),
    }
    assert {run["outcome"] for run in runs} == {"ok"}
    for run in runs:
        single_shot = str(run["workload"]).startswith("infer")
        assert (run["inferences_per_s"] is not None, run["decode_tps"] is None) == (single_shot, single_shot)
    shapes = {}
    with Store.open(melt.store, create=False) as store:
        for bundle in store.bundles(Selection(model="./eyes.onnx")):
            shapes[bundle.start.spec.workload.name] = bundle.stop.used["inputs"]["x"]["shape"]  # type: ignore[index]
            trace = store.trace(bundle.start.spec.run_id, INFERENCES)
            # A warm-up and three repetitions.
            assert (len(trace.t_ns), trace.columns["warmup"].sum()) == (4 * 20, 20)
            assert bundle.stop.used["nodes_by_provider"] == {"CPUExecutionProvider": 2}
    assert shapes == {"infer20 rows=3": [3, 16], "infer20 from rows.npz": [5, 16]}
    brought = sorted(path.name for path in board.glob("blobs/*/*") if path.suffix in (".gguf", ".npz", ".onnx"))
    assert [Path(name).suffix for name in brought] == [".onnx", ".npz", ".gguf", ".gguf"], "each travels once"
    assert json.loads(melt.here("compare", "--by", "model", "-o", "json").stdout)["groups"]


@pytest.mark.slow
def test_what_cannot_be_asked_of_a_model_gets_one_sentence(melt: Melt, plan: Path) -> None:
    for words, sentence in (
        (("-w", "infer5"), "leaves the dimension 'rows' of its input 'x' open: say how long it is, infer50 rows=1"),
        (("-w", "infer5 row=2"), "has no dimension 'row', did you mean 'rows'?"),
        (("-w", "pp8"), "no workload of the plan is for './eyes.onnx' (ONNX, single-shot): pp8; ask for infer50"),
        (("-w", "infer5 rows=2", "-d", "8"), "-d: the workload 'infer5 rows=2' has no tokens"),
        (("-w", "infer5 from eyes.npz"), "cannot read the inputs"),
    ):
        assert sentence in melt.here("run", "-m", "./eyes.onnx", *words, check=2).stderr
    np.savez(plan.parent / "rows.npz", y=np.ones((5, 16), np.float32))
    done = melt("run", "-m", "./eyes.onnx", "-w", "infer5 from rows.npz", check=1)
    assert "failed, the inputs lack x: the model takes x" in done.stderr
