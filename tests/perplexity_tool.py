"""llama.cpp's own perplexity.cpp, from the pinned source, on the libllama that llama-cpp-python brought.

Compiled once into the user's cache (7 CPU seconds): perplexity.cpp as it comes, with tests/data/perplexity/common.h in
place of llama.cpp's common library, which alone takes minutes and has no part in the figures: the tool as llama.cpp
builds it prints the same digits.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import platformdirs
import pytest

from melt._layout import agents_dir

_STAND_IN = Path(__file__).parent / "data" / "perplexity" / "common.h"
_MAIN = (
    "int llama_perplexity(int, char **);\nint main(int argc, char ** argv) { return llama_perplexity(argc, argv); }\n"
)
_TOOL = "vendor/llama.cpp/tools/perplexity/perplexity.cpp"
_NUMBER = r"(-?[\d.]+)"


def build() -> Path:
    """Return the program; skips the test where there is no compiler, no llama-cpp-python, or no way to its source."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler (c++) is installed")
    package = importlib.util.find_spec("llama_cpp")
    if package is None or not package.submodule_search_locations:
        pytest.skip("not installed: llama-cpp-python (extra: llama)")
    library = Path(package.submodule_search_locations[0]) / "lib"
    source = _source()
    archive, folder = source
    key = hashlib.sha256(_STAND_IN.read_bytes() + str(library).encode() + archive.name.encode()).hexdigest()[:16]
    program = platformdirs.user_cache_path("melt") / "perplexity" / key / "llama-perplexity"
    if not program.is_file():
        _compile(compiler, archive, folder, library, program)
    return program


def _source() -> tuple[Path, Path]:
    """Return the pinned archive, whose checksum was compared, and the folder with what was unpacked of it."""
    sys.path.insert(0, str(agents_dir() / "runners" / "llama_native"))
    try:
        import llama_source
    finally:
        del sys.path[0]
    cache = platformdirs.user_cache_path("melt") / "runners"
    (cache / "source").mkdir(parents=True, exist_ok=True)
    try:
        folder = llama_source.find(None, cache).folder(print)
    except llama_source.BuildError as error:
        pytest.skip(f"no source of llama.cpp: {error}")
    archive = next(path for path in (cache / "source").glob("llama_cpp_python-*.tar.gz") if path.is_file())
    return archive, folder


def _compile(compiler: str, archive: Path, folder: Path, library: Path, program: Path) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    work = program.with_name(f"work-{id(program)}")
    work.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        member = next(name for name in tar.getnames() if name.endswith(_TOOL))
        taken = tar.extractfile(member)
        assert taken is not None
        (work / "perplexity.cpp").write_bytes(taken.read())
    shutil.copy(_STAND_IN, work / "common.h")
    for name in ("arg.h", "fit.h", "log.h"):
        (work / name).write_text("")
    (work / "main.cpp").write_text(_MAIN)
    includes = (f"-I{work}", f"-I{folder}/include", f"-I{folder}/ggml/include")
    libraries = ("-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{library}", "-pthread")
    words = ("-std=c++17", "-O2", *includes, "perplexity.cpp", "main.cpp", f"-L{library}", *libraries, "-o", "made")
    done = subprocess.run([compiler, *words], cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    (work / "made").replace(program)
    shutil.rmtree(work)


def perplexity(
    program: Path, model: Path, text: Path, *, n_ctx: int, chunks: int, base: Path | None = None
) -> dict[str, float]:
    """Return perplexity and its standard error; with `base` all logits are written there, too."""
    words = ["-m", str(model), "-f", str(text), "-c", str(n_ctx), "--chunks", str(chunks)]
    said = _run(program, [*words, *(["--kl-divergence-base", str(base)] if base else [])])
    found = re.search(rf"PPL = {_NUMBER} \+/- {_NUMBER}", said)
    assert found, said[-2000:]
    return {"perplexity": float(found[1]), "perplexity_se": float(found[2])}


def divergence(program: Path, model: Path, base: Path, *, n_ctx: int) -> dict[str, float]:
    """Return what --kl-divergence says of a model against the logits in `base`; shares are between 0 and 1."""
    said = _run(program, ["-m", str(model), "-c", str(n_ctx), "--kl-divergence-base", str(base), "--kl-divergence"])
    patterns = {
        "perplexity": rf"Mean PPL\(Q\) *: *{_NUMBER}",
        "kl_mean": rf"Mean +KLD: *{_NUMBER}",
        "kl_se": rf"Mean +KLD: *-?[\d.]+ ± *{_NUMBER}",
        "kl_p99": rf"99\.0% +KLD: *{_NUMBER}",
        "kl_median": rf"Median +KLD: *{_NUMBER}",
        "kl_max": rf"Maximum KLD: *{_NUMBER}",
        "top1_agreement": rf"Same top p: *{_NUMBER}",
    }
    found = {name: re.search(pattern, said) for name, pattern in patterns.items()}
    assert all(found.values()), said[-3000:]
    figures = {name: float(match[1]) for name, match in found.items() if match}
    return {**figures, "top1_agreement": figures["top1_agreement"] / 100}


def _run(program: Path, words: list[str]) -> str:
    done = subprocess.run([program, *words, "-t", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr
