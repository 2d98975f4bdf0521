"""The importance matrix: held against llama-imatrix's own, handed to the quantizer, computed once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import gguf
import numpy as np
import pytest
from mixture_sample import N_EXPERTS, write_mixture

from melt.errors import ModelError
from melt.models import files
from melt.models.catalog import DATA_DIR
from melt.models.ggml import LEVELS, WITH_IMATRIX, find_level
from melt.models.gguf import read_header
from melt.models.imatrix import CalibrationText, Importance, importance_of
from melt.models.inspect import inspect
from melt.models.quantize import expected_size, quantize, quantized_path
from melt.records import Artifact

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("needs_llama_cpp")]

TINY = DATA_DIR / "tiny-pydoc-f16.gguf"
REFERENCES = Path(__file__).parents[1] / "data" / "imatrix"


@pytest.fixture(autouse=True)
def models_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELT_MODELS", str(tmp_path_factory.mktemp("models")))
        return inspect(TINY, name="tiny")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> CalibrationText:
    """The first 12,000 bytes of the shipped text: the references were computed on them."""
    path = tmp_path_factory.mktemp("text") / "start.txt"
    path.write_bytes((DATA_DIR / "calibration.txt").read_bytes()[:12_000])
    return CalibrationText(path)


@pytest.fixture(scope="module")
def levels_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("levels")


def entries(path: Path) -> dict[str, np.ndarray]:
    return {str(tensor.name): np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def assert_same_matrix(ours: Path, theirs: Path, rtol: float) -> None:
    """Compare sums and counts: single products differ with the processor's instructions, long sums hardly do."""
    mine, reference = entries(ours), entries(theirs)
    assert list(mine) == list(reference)
    for name, values in reference.items():
        np.testing.assert_allclose(mine[name], values, rtol=rtol, err_msg=name)


def test_the_matrix_is_that_of_llama_imatrix(tiny: Artifact, text: CalibrationText, levels_dir: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    found = importance_of(tiny, text, levels_dir, lambda *step: steps.append(step))
    assert_same_matrix(Path(found.path), REFERENCES / "tiny-pydoc.gguf", 1e-3)
    assert (found.n_chunks, found.chunk_tokens, found.n_entries) == (9, 512, 28)
    assert (found.calibration, found.calibration_sha256) == ("start.txt", text.sha256)
    assert steps[-1] == ("computing the importance matrix of tiny", 9, 9)


def test_experts_get_the_tokens_that_were_routed_to_them(text: CalibrationText, tmp_path: Path) -> None:
    mixture = inspect(write_mixture(tmp_path / "mixture.gguf"))
    found = importance_of(mixture, text, tmp_path, None)
    # On another processor a token or two may go to another expert.
    assert_same_matrix(Path(found.path), REFERENCES / "mixture.gguf", 2e-2)
    counts = entries(Path(found.path))["blk.0.ffn_up_exps.weight.counts"]
    assert counts.size == N_EXPERTS
    assert counts.sum() == 2 * 9 * 512
    made = quantize(mixture, "iq2_xxs", tmp_path, text=text)
    assert "IQ2_XXS" in made.tensor_types
    assert "MXFP4" in quantize(mixture, "mxfp4_moe", tmp_path).tensor_types


_WEIGHED = [name + WITH_IMATRIX for name, level in LEVELS.items() if level.takes_imatrix and not level.needs_imatrix]


@pytest.mark.parametrize("name", [*LEVELS, *_WEIGHED])
def test_every_level_is_made_loads_and_speaks(
    tiny: Artifact, text: CalibrationText, levels_dir: Path, llama_cpp: ModuleType, name: str
) -> None:
    level = find_level(name)
    made = quantize(tiny, name, levels_dir, text=text)
    assert made.quant == name
    assert (made.imatrix_sha256 is not None) is level.imatrix
    assert made.weight_bytes == pytest.approx(expected_size(read_header(TINY).tensors, level), rel=0.2)
    assert made.fallbacks == {}
    if level.main.name != "MXFP4":
        assert level.main.name in made.tensor_types
    model = llama_cpp.Llama(made.path, n_ctx=64, n_threads=1, verbose=True)
    answer = model.create_completion("The function returns", max_tokens=4, temperature=0)
    model.close()
    assert answer["usage"]["completion_tokens"] > 0


def test_a_level_with_a_matrix_is_another_file_and_says_so(
    tiny: Artifact, text: CalibrationText, levels_dir: Path
) -> None:
    plain = quantize(tiny, "q4_k_m", levels_dir)
    weighed = quantize(tiny, "q4_k_m+imatrix", levels_dir, text=text)
    assert plain.weights_sha256 != weighed.weights_sha256
    assert plain.tensor_types == weighed.tensor_types
    assert weighed.calibration_sha256 == text.sha256
    assert weighed.recipe is not None
    assert weighed.recipe.endswith("over 9 x 512 tokens of start.txt")
    assert weighed.notes == ("quantized with an importance matrix over start.txt",)
    assert inspect(weighed.path).notes == weighed.notes, "the file says it itself"
    again = quantize(weighed, "q4_0", levels_dir)
    assert again.notes == ("made from Q4_K_M+imatrix weights, not from the full-precision model",)


def test_llama_cpp_itself_refuses_it_without_a_matrix(tiny: Artifact, tmp_path: Path) -> None:
    worker = Path(files.__file__).with_name("_quantizer.py")
    words = [tiny.path, str(tmp_path / "o.gguf"), str(LEVELS["IQ1_S"].ftype), "1"]
    with subprocess.Popen(
        [sys.executable, "-P", str(worker), *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stderr is not None
        said = child.stderr.read()
    assert child.returncode != 0
    assert b"this quantization requires an imatrix" in said


def test_two_at_once_compute_it_once(tiny: Artifact, text: CalibrationText, tmp_path: Path) -> None:
    makers: set[int] = set()

    def compute() -> Importance:
        return importance_of(tiny, text, tmp_path, lambda *_: makers.add(threading.get_ident()))

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(compute) for _ in range(2)]
        assert jobs[0].result() == jobs[1].result()
    assert len(makers) == 1


def test_a_damaged_matrix_is_computed_anew(tiny: Artifact, text: CalibrationText, tmp_path: Path) -> None:
    found = importance_of(tiny, text, tmp_path, None)
    path = Path(found.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\xff")
    assert importance_of(tiny, text, tmp_path, None) == found
    assert path.read_bytes() == whole


def test_killed_in_the_middle_it_leaves_nothing_to_be_believed(
    tiny: Artifact, text: CalibrationText, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from melt.models.imatrix import CalibrationText; from melt.models.inspect import inspect\n"
        "from melt.models.quantize import quantize\n"
        "say = lambda what, done, total: print(what, done, flush=True)\n"
        "text = CalibrationText(Path(sys.argv[2]))\n"
        "quantize(inspect(sys.argv[1], name='tiny'), 'q4_0+imatrix', Path(sys.argv[3]), say, text=text)\n"
    )
    # Long enough that it cannot be through before the kill comes.
    longer = CalibrationText(tmp_path / "longer.txt")
    longer.path.write_bytes(text.path.read_bytes() * 2)
    words = [sys.executable, "-c", code, tiny.path, str(longer.path), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert any(line.endswith(" 2\n") for line in child.stdout), "it never came to the second chunk"
        child.send_signal(signal.SIGKILL)
    target = quantized_path(tiny, find_level("q4_0+imatrix"), tmp_path, longer)
    assert {path.suffix for path in target.parent.iterdir()} <= {".lock", ".part"}
    _await_no_worker(str(target.parent))
    made = quantize(tiny, "q4_0+imatrix", tmp_path, text=longer)
    assert Path(made.path) == target
    assert not list(target.parent.glob(".*.part"))


def _await_no_worker(folder: str) -> None:
    """Wait until the worker has noticed that its parent is dead."""
    deadline = time.monotonic() + 30
    while any(folder in _command_line(process) for process in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.05)  # It is no child of this process: there is nothing to be woken by.


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a few words", r"failed: llama.cpp refused: the calibration text has \d+ tokens, one chunk takes 512"),
        ("\x00" * 5000, None),
    ],
)
def test_an_odd_text_is_a_sentence_or_a_matrix(
    tiny: Artifact, tmp_path: Path, content: str, sentence: str | None
) -> None:
    path = tmp_path / "odd.txt"
    path.write_text(content)
    if sentence is None:
        assert importance_of(tiny, CalibrationText(path), tmp_path, None).n_chunks > 0
        return
    with pytest.raises(ModelError, match=sentence):
        importance_of(tiny, CalibrationText(path), tmp_path, None)
    assert not list(tmp_path.glob(".*.part"))
