"""Quantizing for real: llama.cpp makes the levels, melt records what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from melt.errors import ModelError
from melt.models import files
from melt.models.catalog import DATA_DIR
from melt.models.ggml import LEVELS, find_level
from melt.models.gguf import read_header
from melt.models.inspect import inspect
from melt.models.quantize import expected_size, find_quantized, quantize, quantized_path, recipe
from melt.records import Artifact

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("needs_llama_cpp")]


@pytest.fixture(autouse=True)
def models_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELT_MODELS", str(tmp_path / "models"))


@pytest.fixture
def tiny() -> Artifact:
    return inspect(DATA_DIR / "tiny-pydoc-f16.gguf", name="tiny")


@pytest.fixture(scope="module")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where levels that are only looked at are made once."""
    return tmp_path_factory.mktemp("levels")


@pytest.mark.parametrize(
    ("level", "main", "bits"), [("q8_0", "Q8_0", 8.52), ("Q4_K_M", "Q4_K", 4.95), ("q2_k", "Q2_K", 3.23)]
)
def test_a_level_is_what_it_says(tiny: Artifact, shared_dir: Path, level: str, main: str, bits: float) -> None:
    steps: list[tuple[str, int, int]] = []
    made = quantize(tiny, level, shared_dir, lambda *step: steps.append(step))
    assert made.quant == level.upper()
    assert next(iter(made.tensor_types)) == main
    assert made.bits_per_weight == pytest.approx(bits, abs=0.01)
    assert (made.origin_sha256, made.lossy_origin, made.notes) == (tiny.sha256, False, ())
    assert (made.imatrix_sha256, made.calibration_sha256, made.fallbacks) == (None, None, {})
    assert made.recipe == recipe()
    assert inspect(made.path).sha256 == made.sha256
    assert steps[-1] == (f"quantizing tiny-pydoc-f16.gguf to {level.upper()}", 38, 38)


def test_a_lossy_origin_is_recorded_and_handed_down(tiny: Artifact, tmp_path: Path) -> None:
    coarse = quantize(tiny, "q4_0", tmp_path)
    wide = quantize(coarse, "f16", tmp_path)
    assert wide.lossy_origin is True
    assert wide.notes == ("made from Q4_0 weights, not from the full-precision model",)
    assert wide.tensor_types == tiny.tensor_types
    again = quantize(wide, "q8_0", tmp_path)
    assert again.lossy_origin is True


def test_a_level_is_made_once(tiny: Artifact, tmp_path: Path) -> None:
    made = quantize(tiny, "q4_0", tmp_path)
    before = Path(made.path).stat()
    assert quantize(tiny, "Q4_0", tmp_path) == made
    assert find_quantized(tiny, "q4_0", tmp_path) == made
    assert Path(made.path).stat().st_ino == before.st_ino


def test_two_at_once_make_it_once(tiny: Artifact, tmp_path: Path) -> None:
    makers: set[int] = set()
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(quantize, tiny, "q4_1", tmp_path, lambda *_: makers.add(threading.get_ident()))
            for _ in range(2)
        ]
        assert jobs[0].result() == jobs[1].result()
    assert len(makers) == 1


def test_a_damaged_file_is_made_anew(tiny: Artifact, tmp_path: Path) -> None:
    made = quantize(tiny, "q4_0", tmp_path)
    path = Path(made.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + b"\xff\xff\xff\xff")
    assert quantize(tiny, "q4_0", tmp_path) == made
    assert path.read_bytes() == whole
    path.write_bytes(whole[:100])
    assert find_quantized(tiny, "q4_0", tmp_path) is None
    assert quantize(tiny, "q4_0", tmp_path) == made


def test_what_a_killed_process_left_is_not_seen_and_overwritten(tiny: Artifact, tmp_path: Path) -> None:
    target = quantized_path(tiny, find_level("q4_0"), tmp_path)
    target.parent.mkdir(parents=True)
    (target.parent / f".{target.name}.part").write_bytes(b"GGUF half")
    assert find_quantized(tiny, "q4_0", tmp_path) is None
    made = quantize(tiny, "q4_0", tmp_path)
    assert sorted(p.name for p in target.parent.iterdir() if not p.name.endswith(".lock")) == [
        target.with_suffix(".gguf").name,
        target.with_suffix(".json").name,
    ]
    assert made.path == str(target)


def test_what_llama_cpp_refuses_is_a_sentence(tiny: Artifact, tmp_path: Path) -> None:
    """An architecture that llama.cpp does not know, in a file that is sound otherwise."""
    content = (DATA_DIR / "tiny-pydoc-f16.gguf").read_bytes().replace(b"llama", b"lamma")
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"quantizing odd.gguf to Q8_0 failed: llama.cpp refused: .*lamma"):
        quantize(inspect(path), "q8_0", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_disk_that_fills_up_is_a_sentence(tiny: Artifact, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails in the middle, as it would."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from melt.models.inspect import inspect; from melt.models.quantize import quantize\n"
        "from melt.errors import ModelError\n"
        "origin = inspect(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: quantize(origin, 'q8_0', Path(sys.argv[2]))\n"
        "except ModelError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tiny.path, str(tmp_path / "out")], capture_output=True, text=True, timeout=60
    )
    assert "no room left in" in done.stdout, done.stderr
    assert "set MELT_MODELS" in done.stdout
    assert not list((tmp_path / "out").rglob("*.part"))


def test_too_little_room_is_said_before_the_work(
    tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(ModelError, match=r"no room left in .* for the 7.46 MiB needed"):
        quantize(tiny, "q8_0", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_a_sentence(tiny: Artifact, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ModelError, match="Permission denied"):
        quantize(tiny, "q8_0", tmp_path / "out")


def test_a_file_in_the_way_is_a_sentence(tiny: Artifact, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("not a folder")
    with pytest.raises(ModelError, match=r"cannot make .* in"):
        quantize(tiny, "q8_0", tmp_path / "out")


def test_the_worker_ends_with_its_parent(tiny: Artifact, tmp_path: Path) -> None:
    worker = Path(files.__file__).with_name("_quantizer.py")
    child = subprocess.Popen(
        [sys.executable, "-P", str(worker), tiny.path, str(tmp_path / "o.gguf"), "30", "1"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=30) == 3


@pytest.mark.parametrize("name", ["F32", "Q8_0", "Q4_K_M", "Q2_K"])
def test_sizes_are_predicted_within_a_tenth(tiny: Artifact, shared_dir: Path, name: str) -> None:
    expected = expected_size(read_header(Path(tiny.path)).tensors, LEVELS[name])
    assert expected == pytest.approx(quantize(tiny, name, shared_dir).weight_bytes, rel=0.1)


def test_another_origin_is_another_file(tiny: Artifact, tmp_path: Path) -> None:
    other = replace(tiny, sha256="f" * 64)
    assert quantized_path(tiny, LEVELS["Q8_0"], tmp_path) != quantized_path(other, LEVELS["Q8_0"], tmp_path)
