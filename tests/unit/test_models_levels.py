"""Levels by name, family and pattern; what makes a level another one; what its label hides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from melt import codec
from melt.errors import ModelError
from melt.models.catalog import DATA_DIR
from melt.models.ggml import LEVELS, TENSOR_TYPES, find_level, misfit
from melt.models.gguf import Tensor, read_header
from melt.models.imatrix import DEFAULT_CALIBRATION, CalibrationText, calibration_text
from melt.models.inspect import inspect
from melt.models.levels import level_names, select_levels
from melt.models.mixture import fallbacks_of, twins, weights_sha256
from melt.models.quantize import expected_size, quantized_path, read_quantized
from melt.records import Artifact

TINY = DATA_DIR / "tiny-pydoc-f16.gguf"


@pytest.fixture(autouse=True)
def models_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELT_MODELS", str(tmp_path / "models"))


@pytest.fixture
def tiny() -> Artifact:
    return inspect(TINY, name="tiny")


def names(text: str, *, imatrix: bool = False) -> list[str]:
    return [level.name for level in select_levels(text, imatrix=imatrix)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("q8_0", ["Q8_0"]),
        (" Q4_K , q4_k_m", ["Q4_K_M"]),
        ("q4_k_m,Q4_K_M+imatrix", ["Q4_K_M", "Q4_K_M+imatrix"]),
        ("iq2_xs+imatrix", ["IQ2_XS"]),
        ("IQ1", ["IQ1_M", "IQ1_S"]),
        ("q5_k*,q5_0", ["Q5_K_M", "Q5_K_S", "Q5_0"]),
        ("Q?_0", ["Q8_0", "Q5_0", "Q4_0", "Q2_0", "Q1_0"]),
        ("q4_*+imatrix", ["Q4_K_M+imatrix", "Q4_K_S+imatrix", "Q4_1+imatrix", "Q4_0+imatrix"]),
        ("q2+imatrix", ["Q2_K+imatrix", "Q2_K_S"]),
    ],
)
def test_words_mean_levels(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_all_means_each_level_once() -> None:
    assert names("all") == list(LEVELS)
    assert names("q8_0,all")[:2] == ["Q8_0", "F32"]
    assert len(names("q8_0,all,all")) == len(LEVELS)
    assert names("all,all+imatrix")[len(LEVELS) :][0] == "Q6_K+imatrix"


def test_a_matrix_for_all_leaves_out_what_it_does_not_change() -> None:
    assert names("f16,q8_0,q6_k,iq2_m,tq1_0", imatrix=True) == ["F16", "Q8_0", "Q6_K+imatrix", "IQ2_M", "TQ1_0"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("q9", "unknown quantization 'q9'"),
        ("", "unknown quantization ''"),
        ("q8_0,", "unknown quantization ''"),
        ("x*", r"no level is called like 'X\*'"),
        ("q8_0+imatrix", "an importance matrix does not change Q8_0: ask for Q8_0 alone"),
        ("tq+imatrix", "an importance matrix changes no level of 'tq'"),
        ("q4_k_m+matrix", r"unknown quantization 'q4_k_m\+matrix': did you mean"),
    ],
)
def test_other_words_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        select_levels(text)


def test_a_matrix_and_its_text_are_part_of_where_a_level_lies(tiny: Artifact, tmp_path: Path) -> None:
    other = tmp_path / "mine.txt"
    other.write_text("words of my own\n")
    plain = quantized_path(tiny, find_level("q4_k_m"), tmp_path)
    weighed = quantized_path(tiny, find_level("q4_k_m+imatrix"), tmp_path)
    mine = quantized_path(tiny, find_level("q4_k_m+imatrix"), tmp_path, calibration_text(other))
    assert len({plain, weighed, mine}) == 3
    assert (plain.name, weighed.name) == ("tiny-Q4_K_M.gguf", "tiny-Q4_K_M-imatrix.gguf")
    assert quantized_path(tiny, find_level("q4_k_m"), tmp_path, CalibrationText(other)) == plain


def test_a_calibration_text_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    for name, sentence in (("absent.txt", "there is no calibration text"), ("empty.txt", "is empty")):
        with pytest.raises(ModelError, match=sentence):
            calibration_text(tmp_path / name)


def test_the_shipped_text_is_the_one_that_is_described() -> None:
    assert DEFAULT_CALIBRATION.sha256 in (DATA_DIR / "README.md").read_text()


def test_a_record_from_before_there_were_matrices_is_still_read(tiny: Artifact, tmp_path: Path) -> None:
    new = {"n_matrices", "fallbacks", "attention_width", "imatrix_sha256", "calibration_sha256", "weights_sha256"}
    path = tmp_path / "tiny-F16.gguf"
    path.write_bytes(Path(tiny.path).read_bytes())
    stored = {k: v for k, v in codec.to_dict(tiny).items() if k not in new}
    path.with_suffix(".json").write_text(json.dumps(stored))
    found = read_quantized(path)
    assert found is not None
    assert (found.imatrix_sha256, found.weights_sha256) == (None, None)
    counted = (tiny.n_matrices, tiny.fallbacks, tiny.attention_width)
    assert (found.n_matrices, found.fallbacks, found.attention_width) == counted, "counted in the file"
    path.with_suffix(".json").write_text(json.dumps({**stored, "quant": "Q4_K_M"}))
    path.write_bytes(b"x" * tiny.size_bytes)
    assert read_quantized(path) is None, "its file is no model"


def matrix(name: str, columns: int, kind: str) -> Tensor:
    (found,) = [t for t in TENSOR_TYPES.values() if t.name == kind]
    return Tensor(name, (columns, 4), found, 0)


def test_matrices_that_fell_back_are_counted_by_type() -> None:
    tensors = [
        matrix("token_embd.weight", 576, "Q8_0"),
        matrix("blk.0.attn_q.weight", 576, "IQ4_NL"),
        matrix("blk.0.attn_k.weight", 576, "IQ4_NL"),
        matrix("blk.0.ffn_down.weight", 1536, "IQ2_XS"),
        matrix("blk.0.ffn_gate_inp.weight", 576, "F32"),
    ]
    assert fallbacks_of(tensors, find_level("iq2_xs")) == {"IQ4_NL": 2, "Q8_0": 1}
    assert fallbacks_of(tensors, find_level("q8_0")) == {}
    assert fallbacks_of(tensors, None) == {}


def test_a_level_without_anything_to_fall_back_to_is_refused_in_a_sentence() -> None:
    assert misfit(find_level("q1_0"), 256) is None
    assert "rows of 576 are no multiple of it" in (misfit(find_level("q1_0"), 576) or "")
    assert misfit(find_level("q2_k"), 576) is None
    assert misfit(find_level("q4_0"), 80) is None


def test_levels_of_the_same_weights_are_twins(tiny: Artifact) -> None:
    def level(quant: str, weights: str | None, name: str = "tiny") -> Artifact:
        return replace(tiny, name=name, quant=quant, sha256=f"{name}-{quant}", weights_sha256=weights)

    found = twins(
        [level("Q8_0", "a"), level("MXFP4_MOE", "a"), level("Q4_0", "b"), level("Q8_0", "a", "big"), level("F16", None)]
    )
    assert found == {"tiny-Q8_0": ("MXFP4_MOE",), "tiny-MXFP4_MOE": ("Q8_0",)}


def test_weights_are_hashed_whatever_the_rest_of_the_file_says(tmp_path: Path) -> None:
    content = TINY.read_bytes()
    header = read_header(TINY)
    renamed = tmp_path / "renamed.gguf"
    renamed.write_bytes(content.replace(b"general.name", b"general.nome"))
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert renamed.read_bytes() != content
    assert weights_sha256(renamed, header) == weights_sha256(TINY, header) != weights_sha256(changed, header)


def test_a_size_is_estimated_for_every_level() -> None:
    tensors = read_header(TINY).tensors
    sizes = {name: expected_size(tensors, level) for name, level in LEVELS.items()}
    assert min(sizes, key=sizes.__getitem__) == "Q1_0"
    assert expected_size(tensors, find_level("q4_k_m+imatrix")) == sizes["Q4_K_M"]


def test_levels_of_onnx_models_are_chosen_by_the_same_words() -> None:
    assert level_names("onnx", "INT8, fp16,int8_static") == ("int8-dynamic", "int8-static", "fp16")
    assert level_names("onnx", "all") == ("fp32", "fp16", "int8-dynamic", "int8-static", "int4")
    assert level_names("onnx", "*4") == ("int4",)
    assert level_names("gguf", "q4_0+imatrix") == ("Q4_0+imatrix",)
    with pytest.raises(ModelError, match=r"no level of ONNX models is called like 'q\*'"):
        level_names("onnx", "q*")
    with pytest.raises(ModelError, match="no importance matrix"):
        level_names("onnx", "int4", imatrix=True)
