"""A source distribution that plays llama-cpp-python's: real pip builds it, in no time, or for as long as a test wants.

While `hold` exists the build stands still at half. What it builds says of itself which flags and environment it was
built with: `llama_cpp.BUILT`. Each build leaves a line in `log`.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from .wheels import make

VERSION = "0.3.36"
_NAME = "llama_cpp_python"
_TOOLS = {"scikit_build_core": "0.11.5", "pathspec": "0.12.1", "cmake": "3.31.6", "ninja": "1.13.0"}

_PYPROJECT = """\
[build-system]
requires = ["scikit-build-core[pyproject]>=0.9.2"]
build-backend = "backend"
backend-path = ["."]
"""
_BACKEND = '''\
import os, pathlib, time, zipfile

HOLD, LOG = pathlib.Path(@HOLD@), pathlib.Path(@LOG@)
INFO = "llama_cpp_python-@VERSION@.dist-info"
METADATA = "Metadata-Version: 2.1\\nName: llama_cpp_python\\nVersion: @VERSION@\\n"
WHEEL = "Wheel-Version: 1.0\\nGenerator: melt\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
NAMES = ("CMAKE_ARGS", "CMAKE_BUILD_PARALLEL_LEVEL", "CUDACXX", "SKBUILD_BUILD_DIR")
MODULE = """\\
__version__ = "@VERSION@"
BUILT = %r
def llama_supports_gpu_offload():
    return "GGML_CUDA=on" in BUILT["CMAKE_ARGS"]
"""

def prepare_metadata_for_build_wheel(folder, settings=None):
    info = pathlib.Path(folder, INFO)
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "WHEEL").write_text(WHEEL)
    return INFO

def build_wheel(folder, settings=None, metadata=None):
    for number in range(1, 11):
        print("[%d/10] Building CXX object %d.o" % (number, number), flush=True)
        deadline = time.monotonic() + 120
        while number == 5 and HOLD.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    built = {name: os.environ.get(name) for name in NAMES}
    with LOG.open("a") as log:
        log.write("%s\\n" % built)
    name = "llama_cpp_python-@VERSION@-py3-none-any.whl"
    files = {"llama_cpp/__init__.py": MODULE % built, INFO + "/METADATA": METADATA, INFO + "/WHEEL": WHEEL}
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(INFO + "/RECORD", "".join("%s,,\\n" % path for path in (*files, INFO + "/RECORD")))
    return name
'''


def make_source(folder: Path, hold: Path, log: Path) -> Path:
    """Write the archive, and wheels that play the tools it is built with."""
    backend = _BACKEND.replace("@VERSION@", VERSION).replace("@HOLD@", repr(str(hold))).replace("@LOG@", repr(str(log)))
    files = {
        "pyproject.toml": _PYPROJECT,
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: {VERSION}\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{_NAME}-{VERSION}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{_NAME}-{VERSION}/{path}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    for name, version in _TOOLS.items():
        make(name, version, {f"{name}/__init__.py": ""}, folder)
    return archive
