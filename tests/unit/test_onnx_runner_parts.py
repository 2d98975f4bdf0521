"""Parts of the runner of ONNX Runtime: made-up inputs, and decoders held against numpy."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx_samples import Decoder

from melt._layout import agents_dir
from melt.engines import registry

_DATA = Path(__file__).parents[1] / "data" / "onnx"


@pytest.fixture(scope="module")
def parts() -> SimpleNamespace:
    # The runners are programs: they import each other from their own folder.
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra: onnx)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(agents_dir() / "runners")])
        import onnx_decoder
        import onnx_inputs
        import onnx_session
        import onnx_tokens
        import runner_io

        return SimpleNamespace(
            decoder=onnx_decoder, inputs=onnx_inputs, session=onnx_session, tokens=onnx_tokens, io=runner_io
        )


def test_the_runner_is_python_3_8_and_brings_what_it_imports() -> None:
    files = registry.get("onnxruntime").runner_files()
    beside, pushed = {path.stem for path in files[0].parent.glob("*.py")}, {path.stem for path in files}
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"), path.name, feature_version=(3, 8))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {node.module} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
                assert names & beside <= pushed


ENCODER = [
    ("input_ids", "int64", ["batch", "sequence"]),
    ("attention_mask", "int32", ["batch", "sequence"]),
    ("position_ids", "int64", ["batch", "sequence"]),
    ("image", "float16", ["batch", 3, None, "?"]),
    ("flags", "bool", [2, 2]),
    ("words", "string", ["batch"]),
    ("rate", "int64", []),
]
DIMS = {"batch": 2, "sequence": 5, "image.2": 4, "image.3": 6, "unused": 9}


def test_made_up_inputs_have_the_declared_types_and_shapes(parts: SimpleNamespace) -> None:
    made = parts.inputs.make_up(ENCODER, DIMS, 1)
    assert list(made) == [name for name, _, _ in ENCODER]
    assert [a.shape for a in made.values()] == [(2, 5), (2, 5), (2, 5), (2, 3, 4, 6), (2, 2), (2,), ()]
    kinds = ["int64", "int32", "int64", "float16", "bool", "object", "int64"]
    assert [str(a.dtype) for a in made.values()] == kinds
    assert made["attention_mask"].all()
    assert made["position_ids"].tolist() == [[0, 1, 2, 3, 4]] * 2
    # 0 and 1 are in any vocabulary.
    assert set(np.unique(made["input_ids"])) == {0, 1}
    assert 0 <= made["image"].min() < made["image"].max() <= 1
    again, other = (parts.inputs.make_up(ENCODER, DIMS, seed) for seed in (1, 2))
    assert all((again[name] == array).all() for name, array in made.items())
    assert (other["image"] != made["image"]).any()
    assert parts.inputs.batch(made, ENCODER) == 2


@pytest.mark.parametrize(
    ("shape", "declared", "items"),
    [
        ((4, 3, 8, 8), [None, 3, 8, 8], 4),
        ((4, 9), ["unk__214", 9], 4),
        # An image alone, and a recording: neither is of several.
        ((3, 8, 8), [3, 8, 8], 1),
        ((90, 80), ["n_frames", 80], 1),
        ((2, 4, 128), [2, "batch", 128], 4),
    ],
)
def test_items_are_counted_where_a_request_is_of_several(
    parts: SimpleNamespace, shape: tuple[int, ...], declared: list[object], items: int
) -> None:
    assert parts.inputs.batch({"x": np.zeros(shape)}, [("x", "float", declared)]) == items
    if items > 1:
        none = np.zeros([0 if size == items else size for size in shape])
        with pytest.raises(parts.io.Failure, match="x holds a batch of 0"):
            parts.inputs.batch({"x": none}, [("x", "float", declared)])


def test_every_open_dimension_is_named_at_once_with_an_example(parts: SimpleNamespace) -> None:
    with pytest.raises(parts.io.Failure) as caught:
        parts.inputs.make_up(ENCODER, {"image.2": 4}, 1)
    assert caught.value.code == "bad_request"
    assert "the dimensions batch, sequence, image.3 open" in caught.value.message
    assert "dims: {batch: 1, sequence: 128, image.3: 128}" in caught.value.message


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image": None}, "the inputs lack image: the model takes"),
        ({"more": np.zeros(1)}, "the inputs hold more, which is none of the model's"),
        ({"rate": np.int32(3)}, "the input rate is of type int32, the model takes int64"),
        (
            {"image": np.zeros((1, 4, 2, 2), np.float16)},
            r"the input image has the shape \[1, 4, 2, 2\], the model takes",
        ),
    ],
)
def test_tensors_of_a_file_are_held_against_the_model(
    parts: SimpleNamespace, tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    good = parts.inputs.make_up(ENCODER, DIMS, 1)
    good["words"] = np.array(["ein", "größeres"])
    path = tmp_path / "inputs.npz"
    np.savez(path, **good)
    read = parts.inputs.read(str(path), ENCODER, {})
    assert read["words"].tolist() == ["ein", "größeres"]
    assert all((read[name] == good[name]).all() and read[name].shape == np.shape(good[name]) for name in good)
    with pytest.raises(parts.io.Failure, match=r"input_ids has the shape \[2, 5\], the model takes \[3, sequence\]"):
        parts.inputs.read(str(path), ENCODER, {"batch": 3})
    np.savez(path, **{name: value for name, value in {**good, **change}.items() if value is not None})
    with pytest.raises(parts.io.Failure, match=complaint):
        parts.inputs.read(str(path), ENCODER, {})
    path.write_bytes(b"PK\3\4 torn")
    with pytest.raises(parts.io.Failure, match=r"cannot read the inputs .*inputs\.npz"):
        parts.inputs.read(str(path), ENCODER, {})


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("openvino-dynamic-rank", "unsupported_model", "CPU plug-in doesn't support Parameter operation"),
        ("newer-opset", "unsupported_model", "m: ONNX Runtime only *guarantees* support for models stamped"),
        ("weights-elsewhere", "bad_model", "ext.data"),
    ],
)
def test_what_the_engine_raises_becomes_one_sentence_without_its_source(
    parts: SimpleNamespace, name: str, code: str, sentence: str
) -> None:
    raised = RuntimeError((_DATA / f"{name}.txt").read_text(encoding="utf-8"))
    failure = parts.session.failure(raised, "internal", "ONNX Runtime cannot load m")
    assert failure.code == code
    assert sentence in failure.message
    assert len(failure.message) < 450
    for noise in ("\n", "std::", ".cc:", ".h:", "[ONNXRuntimeError]"):
        assert noise not in failure.message


@pytest.mark.parametrize("io_binding", [False, True])
@pytest.mark.parametrize("variant", [{}, {"positions": False}, {"merged": True}, {"last_only": True}])
def test_a_decoder_says_what_numpy_says_however_its_prompt_is_cut(
    parts: SimpleNamespace, tmp_path: Path, variant: dict[str, bool], io_binding: bool
) -> None:
    decoder = Decoder()
    path = decoder.write(tmp_path / "decoder.onnx", **variant)
    settings = SimpleNamespace(
        threads=1, inter_op_threads=None, providers=[], graph_optimization="all", arena=True, io_binding=io_binding
    )
    session = parts.session.Session(str(path), settings, parts.session.options(settings))
    tested = parts.decoder.Decoder(session, {}, 40)
    logits = session.inner.run(["logits"], tested.sample())[0]
    assert tested.open(list(logits.shape), 40, 0) == decoder.n_vocab
    tokens = parts.tokens.made_up(40, 7, decoder.n_vocab)
    likeliest = decoder.logits(tokens[0].tolist()).argmax(axis=1).tolist()
    assert len(set(likeliest)) > 10
    for size in (1, 7, 40):
        found, past = [], tested.empty
        for begin in range(0, 40, size):
            token, past = tested.step(tokens[:, begin : begin + size], past, begin)
            found.append(token)
        assert found == likeliest[size - 1 :: size] + ([likeliest[-1]] if 40 % size else [])
