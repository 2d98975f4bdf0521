"""`melt models` as a user has it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from melt.models.catalog import DATA_DIR

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("needs_llama_cpp")]


@pytest.fixture
def models(melt: Any, tmp_path: Path) -> Callable[..., Any]:
    # Other tests share one folder of models, and may have put more into it than is expected here.
    melt.env["MELT_MODELS"] = str(tmp_path / "models")
    return lambda *words, **kw: melt("models", *words, **kw)


def test_pull_prints_where_the_files_lie(models: Callable[..., Any]) -> None:
    done = models("pull", "tiny-pydoc", "-q", "q8_0")
    published, made = map(Path, done.stdout.split())
    assert published.name == "tiny-pydoc-f16.gguf"
    assert made.name == "tiny-pydoc-Q8_0.gguf"
    assert made.is_file()


def test_quantize_makes_levels_and_ls_lists_them(models: Callable[..., Any]) -> None:
    made = json.loads(models("quantize", "tiny-pydoc", "-q", "Q4_K_M,q2_k", "-o", "json").stdout)
    assert [m["quant"] for m in made] == ["Q4_K_M", "Q2_K"]
    listed = list(csv.DictReader(io.StringIO(models("ls", "-o", "csv").stdout)))
    by_level = {(row["name"], row["quant"]): row for row in listed}
    assert by_level["tiny-pydoc", "Q2_K"]["sha256"] == made[1]["sha256"]
    assert by_level["smollm2-135m-instruct", "Q4_1"]["here"] == "false"
    assert "melt models pull" in models("ls").stdout


def test_inspect_shows_what_is_in_a_file(models: Callable[..., Any], tmp_path: Path) -> None:
    text = models("inspect", str(DATA_DIR / "tiny-pydoc-f16.gguf")).stdout
    for fact in ("16.01", "3.4 M", "F16", "99.9 %", "expected memory, 8192 tokens"):
        assert fact in text
    found = json.loads(models("inspect", "tiny-pydoc", "-q", "q8_0", "-o", "json").stdout)
    assert found["lossy_origin"] is False
    assert found["expected_memory_bytes"]["8192"] > found["expected_memory_bytes"]["2048"] > found["weight_bytes"]


def test_a_model_of_thousands_of_parameters_does_not_have_none(models: Callable[..., Any], tmp_path: Path) -> None:
    onnx_samples = pytest.importorskip("onnx_samples", exc_type=ImportError)
    onnx_samples.Decoder().write(tmp_path / "decoder.onnx")
    told = models("inspect", str(tmp_path / "decoder.onnx")).stdout
    assert "14.4 k" in told
    assert re.search(r"KV cache per token \(f32\) +256 B", told), "2 layers of keys and values, 2 heads of 8 floats"


def test_notes_reach_the_reader(models: Callable[..., Any]) -> None:
    coarse = models("pull", "tiny-pydoc", "-q", "q4_0").stdout.split()[1]
    done = models("quantize", coarse, "-q", "f16")
    assert "made from Q4_0 weights, not from the full-precision model" in done.stderr
    assert "yes, lossy origin" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("inspect", "tiny-pydocs"), "unknown model 'tiny-pydocs': did you mean tiny-pydoc?"),
        (("inspect", "./absent.gguf"), "there is no model file"),
        (("quantize", "tiny-pydoc", "-q", "q4_0,q9_0"), "unknown quantization 'q9_0': did you mean"),
        (("quantize", "tiny-pydoc", "-q", "q8_0+imatrix"), "an importance matrix does not change Q8_0"),
        (("quantize", "tiny-pydoc", "-q", "x*"), "no level is called like 'X*'"),
        (("quantize", "tiny-pydoc", "-q", "iq2_xs", "--calibration", "./absent.txt"), "there is no calibration text"),
        (("quantize", "tiny-pydoc", "-q", "q8_0", "--calibration", __file__), "add --imatrix"),
        (("quantize", "tiny-pydoc", "-q", ","), "unknown quantization ''"),
    ],
)
def test_mistakes_are_sentences(models: Callable[..., Any], words: tuple[str, ...], sentence: str) -> None:
    done = models(*words, check=2)
    assert sentence in done.stderr
    assert done.stdout == ""


def test_a_damaged_file_is_a_sentence(models: Callable[..., Any], tmp_path: Path) -> None:
    torn = tmp_path / "torn.gguf"
    torn.write_bytes((DATA_DIR / "tiny-pydoc-f16.gguf").read_bytes()[:20_000])
    done = models("inspect", str(torn), check=2)
    assert done.stderr == (
        f"melt: {torn} is not a sound GGUF file: it claims 766 strings in the value of 'tokenizer.ggml.merges', "
        "more than its 20000 bytes can hold; fetch it again\n"
    )


def test_a_folder_that_cannot_be_used_is_a_sentence(models: Callable[..., Any], tmp_path: Path, melt: Any) -> None:
    (tmp_path / "file").write_text("")
    melt.env["MELT_MODELS"] = str(tmp_path / "file")
    done = models("quantize", "tiny-pydoc", "-q", "q8_0", check=2)
    assert "cannot make" in done.stderr
