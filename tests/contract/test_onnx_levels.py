"""Levels of an ONNX model made by onnxruntime's own tools, each once, and how far their outputs drift."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_samples import Graph

from melt._layout import agents_dir
from melt.cli.main import main
from melt.errors import ModelError
from melt.models.library import Library
from melt.models.onnx_quantize import calibration_inputs
from melt.quality.outputs import evaluate_outputs
from melt.store.store import Store

pytestmark = pytest.mark.slow

WIDTH, CLASSES = 64, 5
LEVELS = ("fp16", "int8-dynamic", "int4")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a classifier, a model without matrix products, and labelled inputs of the classifier."""
    folder = tmp_path_factory.mktemp("levels")
    random, info = np.random.default_rng(5), helper.make_tensor_value_info

    def weight(*shape: int) -> np.ndarray:
        return random.normal(size=shape) / np.sqrt(shape[-1])

    g = Graph()
    hidden = g("Relu", g("MatMul", "x", g.constant(weight(WIDTH, WIDTH), "float32")))
    g("Softmax", g("MatMul", hidden, g.constant(weight(WIDTH, CLASSES), "float32")), name="scores", axis=-1)
    inputs = [info("x", TensorProto.FLOAT, ["batch", WIDTH])]
    onnx.save(g.model(inputs, [info("scores", TensorProto.FLOAT, ["batch", CLASSES])]), folder / "classes.onnx")
    g = Graph()
    g("Conv", "image", g.constant(weight(4, 3, 3, 3), "float32"), name="y")
    image = [info("image", TensorProto.FLOAT, [1, 3, 8, 8])]
    onnx.save(g.model(image, [info("y", TensorProto.FLOAT, [1, 4, 6, 6])]), folder / "conv.onnx")
    samples = random.normal(size=(40, 1, WIDTH)).astype(np.float32)
    np.savez(folder / "labelled.npz", x=samples, labels=np.arange(40) % CLASSES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELT_MODELS", str(folder / "models"))
        yield folder


@pytest.fixture(scope="module")
def library(room: Path) -> Library:
    library, model = Library(), str(room / "classes.onnx")
    for level in LEVELS:
        library.resolve(model, level)
    library.resolve(model, "int8-static", inputs=calibration_inputs([str(room / "labelled.npz")]))
    return library


def test_a_level_is_what_it_says_and_is_found_again(room: Path, library: Library) -> None:
    model, kinds = str(room / "classes.onnx"), {"fp16": "FP16", "int8-dynamic": "UINT8", "int8-static": "INT8"}
    for level in (*LEVELS, "int8-static"):
        made = library.resolve(model, level.upper())
        assert made.quant == level
        assert kinds.get(level, "INT4") in made.tensor_types
        assert not made.fallbacks
        assert made.recipe is not None
        assert "onnxruntime" in made.recipe
        assert made.n_params == WIDTH * WIDTH + WIDTH * CLASSES
        assert library.peek(model, level) == made
        assert made in library.list()
    assert library.resolve(model, "int8-static").calibration_sha256 is not None
    assert not list((room / "models").rglob("*.job"))


def test_what_stays_is_told_by_the_bytes_of_its_matrices(room: Path) -> None:
    g, info = Graph(), helper.make_tensor_value_info
    hidden = g("MatMul", "x", g.constant(np.ones((256, 256)), "float32"))
    g("Conv", g("Unsqueeze", hidden, g.constant([1])), g.constant(np.ones((2, 1, 3)), "float32"), name="y")
    made = g.model([info("x", TensorProto.FLOAT, [1, 256])], [info("y", TensorProto.FLOAT, [1, 2, 254])])
    onnx.save(made, room / "mixed.onnx")
    found = Library().resolve(str(room / "mixed.onnx"), "int4")
    # The scales of the other matrix are FP32, too: 8192 of all bytes, a fifth.
    assert found.tensor_types["FP32"] == 8192 + 24
    assert found.notes[0].startswith("1 of 2 matrices left in FP32, 0.059 % of the bytes of its weights")


def test_inputs_of_unknown_length_are_not_made_up(room: Path) -> None:
    g, info = Graph(), helper.make_tensor_value_info
    g("MatMul", "x", g.constant(np.eye(8), "float32"), name="y")
    shape = ["batch", "length", 8]
    onnx.save(g.model([info("x", 1, shape)], [info("y", 1, shape)]), room / "open.onnx")
    with pytest.raises(ModelError, match=r"length of its input x open, .*quantize MODEL -q int8-static --inputs"):
        Library().resolve(str(room / "open.onnx"), "int8-static")


def test_a_level_that_takes_nothing_of_a_model_is_refused_in_a_sentence(room: Path) -> None:
    with pytest.raises(ModelError, match="cannot be made int4: none of its 1 matrices belongs to a MatMul"):
        Library().resolve(str(room / "conv.onnx"), "int4")


def test_levels_are_made_of_fp32_alone(room: Path, library: Library) -> None:
    made = library.resolve(str(room / "classes.onnx"), "fp16")
    with pytest.raises(ModelError, match="made of fp32 models, and it is fp16"):
        library.resolve(made.path, "int4")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"y": np.zeros((1, WIDTH), np.float32)}, "holds y: the model takes x"),
        ({"x": np.zeros((1, WIDTH))}, "x is of type float64, the model takes float"),
        (
            {"x": np.zeros((2, 1, 3), np.float32)},
            r"x has the shape \[2, 1, 3\], the model takes \[batch, 64\], .*leading axis",
        ),
        ({"x": np.zeros((0, 1, WIDTH), np.float32)}, "holds no samples"),
        ({"labels": np.zeros(3, int)}, "holds no inputs: the model takes x"),
        ({"x": np.zeros((2, 1, WIDTH), np.float32), "labels": np.zeros(3, int)}, "labels must be 2 whole numbers"),
        (
            {"x": np.zeros((2, WIDTH), np.float32), "labels": np.zeros(2, int)},
            "one whole number, for there is one sample",
        ),
        (
            {"x": np.zeros((2, 1, WIDTH), np.float32), "labels": np.array([1, CLASSES])},
            "the label of sample 2 is 5: the model tells 5 classes",
        ),
        (
            {"x": np.array([[np.zeros(WIDTH)], [np.full(WIDTH, np.nan)]], np.float32)},
            "the reference's outputs hold NaN or infinity for sample 2",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_said(
    room: Path, library: Library, tmp_path: Path, arrays: dict[str, np.ndarray], expected: str
) -> None:
    np.savez(tmp_path / "odd.npz", **arrays)
    reference = library.resolve(str(room / "classes.onnx"), None)
    with Store.open(tmp_path / "store") as store, pytest.raises(ModelError, match=expected):
        evaluate_outputs(store, [reference], reference, calibration_inputs([str(tmp_path / "odd.npz")]))


def test_drift_and_accuracy_are_judged_and_kept(
    room: Path, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quality", str(room / "classes.onnx"), "-q", "all", "--inputs", str(room / "labelled.npz"), "-o", "json"]
    words += ["--store", str(tmp_path / "store")]
    assert main(words) == 0
    rows = {row["quant"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["fp32", "fp16", "int8-dynamic", "int8-static", "int4"]
    assert rows["fp32"]["is_reference"]
    assert rows["fp32"]["cosine_mean"] is None
    assert rows["fp16"]["cosine_min"] > 0.99999
    assert 0.9 < rows["int4"]["cosine_mean"] < rows["int8-dynamic"]["cosine_mean"] < rows["fp16"]["cosine_mean"]
    assert rows["int4"]["drift_change_told"] == "worse"
    assert rows["int4"]["n_rows"] == rows["int4"]["n"] == 40
    assert rows["int4"]["accuracy_low"] < rows["int4"]["accuracy"] < rows["int4"]["accuracy_high"]
    assert rows["int4"]["accuracy_change_told"] == "cannot be told apart"
    assert main([*words[:-4], "-o", "md", *words[-2:]]) == 0
    assert "int8-static: its ranges were taken from these very inputs, which flatters it" in capsys.readouterr().out
    assert main(words) == 0
    assert all(row["known"] for row in json.loads(capsys.readouterr().out))


def test_flags_of_texts_are_refused(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quality", str(room / "conv.onnx"), "--store", str(tmp_path / "store")]
    assert main([*words, "--chunks", "3"]) == 2
    assert "--chunks: for models that score text" in capsys.readouterr().err


def test_the_worker_does_not_outlive_who_started_it(room: Path, tmp_path: Path) -> None:
    path, job = str(room / "classes.onnx"), tmp_path / "job.json"
    job.write_text(
        json.dumps({"models": [path, path], "inputs": [], "dims": {"batch": 1}, "n_samples": 50_000, "threads": 1})
    )
    program = [sys.executable, str(agents_dir() / "runners" / "onnx_quality.py"), str(job)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as worker:
        assert worker.stdin is not None
        worker.stdin.close()
        try:
            assert worker.wait(timeout=60) == 3
        finally:
            worker.kill()
