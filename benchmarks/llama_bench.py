"""llama-bench from the very source of the pinned llama-cpp-python: what melt's runner is measured against.

`python benchmarks/llama_bench.py` builds it and prints where it lies. The first build takes 5 to 9 CPU minutes; it is
kept in the user's cache folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import platformdirs

from melt.records import Workload

_PACKAGE = "llama-cpp-python"
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    # As the wheel's CMakeLists.txt sets them. What it leaves alone (GGML_NATIVE, GGML_OPENMP) is left alone here.
    "BUILD_SHARED_LIBS": "ON",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
    # Not wanted here: they make no code that llama-bench runs.
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "GGML_CCACHE": "OFF",
}


def build() -> Path:
    """Return the path of llama-bench, built first where it is missing; says on stderr what it does."""
    pinned = version(_PACKAGE)
    folder = platformdirs.user_cache_path("melt") / "bench" / f"{_PACKAGE}-{pinned}"
    binary = folder / "build" / "bin" / "llama-bench"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source = _source(folder, pinned)
        _say(f"building llama-bench of {_PACKAGE} {pinned} into {folder} (5 to 9 CPU minutes)")
        made = {
            **_OPTIONS,
            # Otherwise cmake stamps the commit of whatever repository lies around the cache folder.
            "LLAMA_BUILD_COMMIT": f"{_PACKAGE}-{pinned}",
            "LLAMA_BUILD_NUMBER": "0",
        }
        options = [f"-D{name}={value}" for name, value in made.items()]
        _do("cmake", "-G", "Ninja", "-S", str(source), "-B", str(folder / "build"), *options)
        _do("cmake", "--build", str(folder / "build"), "--target", "llama-bench", "-j", str(os.cpu_count() or 1))
    return binary


def command(binary: Path, model: Path, workload: Workload, repetitions: int) -> list[str]:
    """Say how llama-bench measures a workload of prefill or of decode, with one thread, at the workload's depth."""
    words = [str(binary), "-m", str(model), "-t", "1", "-ngl", "0", "-fa", "auto", "-o", "json"]
    words += ["-p", str(workload.n_prompt), "-n", str(workload.n_gen), "-d", str(workload.n_depth)]
    return [*words, "-r", str(repetitions)]


def seconds(answer: bytes) -> list[float]:
    """Read how long each repetition took."""
    (test,) = json.loads(answer)
    return [ns / 1e9 for ns in test["samples_ns"]]


def _source(folder: Path, pinned: str) -> Path:
    root = folder / f"{_PACKAGE.replace('-', '_')}-{pinned}"
    if not root.exists():
        _say(f"fetching the source of {_PACKAGE} {pinned}")
        # Only this package as source: what builds it may come as wheels.
        words = ["download", "--no-binary", _PACKAGE, "--no-deps", "--dest", str(folder), f"{_PACKAGE}=={pinned}"]
        _do(sys.executable, "-m", "pip", *words)
        partial = folder / "unpacked"
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(partial, filter="data")
        next(partial.iterdir()).rename(root)
    return root / "vendor" / "llama.cpp"


def _do(*words: str) -> None:
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"llama_bench: {words[0]} is not installed: tox -e bench brings cmake and ninja")
    if done.returncode:
        sys.exit(f"llama_bench: {' '.join(words[:4])} … failed:\n{done.stdout[-3000:]}")


def _say(text: str) -> None:
    print(f"llama_bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(build())
