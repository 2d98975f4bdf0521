"""What an ONNX file says of itself; whatever is done to one, reading it gives a description or a sentence."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_samples import OPSET, Decoder, Graph

from melt.codec import dumps, loads
from melt.errors import ModelError
from melt.models.formats import check_file, inspect_file
from melt.models.inspect import expected_memory
from melt.models.onnx_describe import describe_onnx
from melt.models.onnx_file import read_model
from melt.models.onnx_levels import find_onnx_level
from melt.records import Artifact, ModelTensor

info = helper.make_tensor_value_info
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def models_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "model.onnx"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return Decoder(n_layers=1).write(tmp_path_factory.mktemp("sound") / "m.onnx", merged=True).read_bytes()


def test_a_decoder_says_how_it_generates(tmp_path: Path) -> None:
    found = inspect_file(Decoder().write(tmp_path / "decoder.onnx"))
    assert (found.format, found.quant, found.generative) == ("onnx", "fp32", True)
    assert (found.n_layers, found.n_vocab) == (2, 97)
    # Two layers, keys and values, 2 heads of 8, 2 bytes each.
    assert found.kv_bytes_per_token == 2 * 2 * 2 * 8 * 2
    # A row of each table for a token: of 97 tokens and of 64 places, 32 wide; the logits have a matrix of their own.
    assert found.embedding_bytes == (97 + 64) * 32 * 4
    assert found.inputs[0] == ModelTensor(name="input_ids", type="int64", shape=("batch_size", "sequence_length"))
    assert found.opsets == {"ai.onnx": 17}
    assert found.operators["MatMul"] == 2 * 6 + 1
    assert expected_memory(found, 2048) - expected_memory(found, 0) == 2048 * 2 * found.kv_bytes_per_token
    assert loads(Artifact, dumps(found)) == found


def test_weights_count_wherever_they_stand(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "weight")
    halves = [helper.make_node("Constant", [], ["out"], value=weight)]
    branch = helper.make_graph(halves, "branch", [], [info("out", TensorProto.FLOAT, [4, 3])])
    nodes = [
        helper.make_node("Constant", [], ["held"], value=weight),
        helper.make_node("If", ["flag"], ["chosen"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["held", "chosen"], ["sum"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [info("flag", TensorProto.BOOL, [])], [info("sum", TensorProto.FLOAT, [4, 3])], [weight]
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[OPSET], ir_version=8), path)
    found = inspect_file(path)
    assert (found.n_params, found.tensor_types) == (4 * 12, {"FP32": 4 * 48})
    assert found.operators == {"Constant": 3, "If": 1, "Add": 1}


def test_dimensions_without_a_name_are_named_by_input_and_axis(tmp_path: Path) -> None:
    g = Graph()
    shape = ["batch", None, "?", 3]
    model = g.model([info("x", TensorProto.FLOAT, shape)], [info(g("Relu", "x", name="y"), TensorProto.FLOAT, shape)])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -1
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    found = read_model(path)
    assert found.inputs == (ModelTensor(name="x", type="float", shape=("batch", "x.1", "x.2", 3)),)
    assert found.outputs[0].shape is None


def test_weights_in_another_file_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = Decoder().write(tmp_path / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    with pytest.raises(ModelError, match=r"keeps weights in other files: .* one file"):
        check_file(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer|ONNX file"),
        (b"\x08\x08", "holds no graph"),
        (b"GGUF\x03\0\0\0", "ONNX file"),
    ],
)
def test_what_is_no_model_is_said(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=expected):
        check_file(path)


def test_no_file_and_no_regular_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model file"):
        check_file(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        read_model(tmp_path)


@pytest.mark.parametrize(("name", "meant"), [("INT8_Dynamic", "int8-dynamic"), ("F16", "fp16"), ("FP32", "fp32")])
def test_levels_are_written_as_people_write_them(name: str, meant: str) -> None:
    assert find_onnx_level(name).name == meant


def test_a_level_of_gguf_is_none_of_onnx() -> None:
    with pytest.raises(ModelError, match="unknown level 'q4_k_m' of an ONNX model: known are fp32, fp16"):
        find_onnx_level("q4_k_m")


def survives(path: Path, content: bytes) -> bool:
    """Read a file as melt does; whether it was accepted. No error but ModelError may come."""
    path.write_bytes(content)
    try:
        found = describe_onnx(path, read_model(path), sha256="0" * 64, quant=None, name=None)
    except ModelError:
        return False
    assert 0 < expected_memory(found, 4096) < 2**63
    assert sum(found.tensor_types.values()) <= 8 * len(content)
    return True


def test_the_file_itself_is_accepted(victim: Path, sound: bytes) -> None:
    assert survives(victim, sound)


@quick
@given(where=st.floats(0, 1), patch=st.binary(min_size=1, max_size=16))
def test_bytes_overwritten(victim: Path, sound: bytes, where: float, patch: bytes) -> None:
    at = int(where * len(sound))
    survives(victim, sound[:at] + patch + sound[at + len(patch) :])


@quick
@given(where=st.floats(0, 1), removed=st.integers(0, 64), added=st.binary(max_size=64))
def test_bytes_cut_out_and_put_in(victim: Path, sound: bytes, where: float, removed: int, added: bytes) -> None:
    at = int(where * len(sound))
    survives(victim, sound[:at] + added + sound[at + removed :])


@quick
@given(st.binary(max_size=256))
def test_noise(victim: Path, content: bytes) -> None:
    survives(victim, content)


def test_truncated_anywhere(victim: Path, sound: bytes) -> None:
    # Behind the graph stands the operator set: without it no file is whole.
    ends = {*range(64), *range(64, len(sound), 331), len(sound) - 1}
    assert [end for end in ends if survives(victim, sound[:end])] == []


def test_a_lie_about_lengths_costs_no_memory(victim: Path) -> None:
    # A graph (field 7) of 2**40 bytes, and a tensor that claims 2**39 numbers in 4 bytes.
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    tensor.dims[0] = 1 << 39
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [info("x", 1, [1])], [info("y", 1, [1])], [tensor]
    )
    lies = [
        b"\x3a\x80\x80\x80\x80\x80\x20" + b"\0" * 64,
        helper.make_model(graph, opset_imports=[OPSET], ir_version=8).SerializeToString(),
    ]
    for content in lies:
        victim.write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(ModelError):
                read_model(victim)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak_bytes < 1024 * 1024


def test_graphs_within_each_other_end(victim: Path) -> None:
    inner = b""
    for _ in range(100):
        # attribute.g, node.attribute, graph.node: fields 6, 5 and 1.
        for key in (b"\x32", b"\x2a", b"\x0a"):
            inner = key + _varint(len(inner)) + inner
    victim.write_bytes(b"\x3a" + _varint(len(inner)) + inner)
    with pytest.raises(ModelError, match="within each other"):
        read_model(victim)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))
