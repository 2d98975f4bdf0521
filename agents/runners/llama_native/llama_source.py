"""The source of llama.cpp that the native runner is built from: the one inside the pinned llama-cpp-python.

Standard library only; a part of build.py.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
_ARCHIVE = f"llama_cpp_python-{VERSION}.tar.gz"
_INSIDE = "vendor/llama.cpp"
_NEEDED = ("CMakeLists.txt", "LICENSE", "cmake", "ggml", "include", "licenses", "src", "vendor")
"""What of llama.cpp makes the library; models, conversion scripts and tools are not unpacked."""


class BuildError(Exception):
    """The runner could not be built; the message says why and what to do."""


class UsageError(BuildError):
    """What was asked for cannot be."""


class Source:
    """A llama.cpp to build: `name` is what the runner says it is, `key` changes with its content."""

    def __init__(self, name, key, make):
        self.name = name
        self.key = key
        self._make = make

    def folder(self, say):
        """Return the folder with llama.cpp's CMakeLists.txt, fetched and unpacked first where it is missing."""
        return self._make(say)


def find(given, cache):
    """Return the Source for `--source`: None (the pinned package), its archive, or a folder. Raises BuildError."""
    if given is None:
        return Source(f"{PACKAGE} {VERSION}", SHA256, lambda say: _unpacked(_fetched(cache, say), cache, say))
    path = Path(given).expanduser().absolute()
    if path.is_file():
        return Source(f"{PACKAGE} {VERSION}", SHA256, lambda say: _unpacked(path, cache, say))
    folders = [folder for folder in (path, path / _INSIDE) if (folder / "src" / "llama.cpp").is_file()]
    if not folders:
        raise UsageError(f"{given} is neither the archive {_ARCHIVE} nor a folder with llama.cpp's source")
    key = _digest(folders[0])
    return Source(f"llama.cpp from a folder, {key[:12]}", key, lambda say: folders[0])


def _fetched(cache, say):
    archive = cache / "source" / _ARCHIVE
    if archive.is_file() and _sha256(archive) == SHA256:
        return archive
    say(f"fetching the source of {PACKAGE} {VERSION} (77 MB)")
    # pip asks the package itself for its metadata, which makes an isolated environment but compiles nothing.
    words = ("download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", str(archive.parent))
    command = (sys.executable, "-m", "pip", *words, f"{PACKAGE}=={VERSION}")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise BuildError(
            f"cannot fetch {PACKAGE} {VERSION}: {said[-1]}; fetch {_ARCHIVE} by other means and pass --source FILE"
        )
    return archive


def _unpacked(archive, cache, say):
    folder = cache / "source" / SHA256[:16]
    if folder.is_dir():
        return folder
    found = _sha256(archive)
    if found != SHA256:
        raise BuildError(f"{archive} is not {_ARCHIVE}: its sha256 is {found}, not {SHA256}")
    say(f"unpacking {archive.name}")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    prefix = f"{_ARCHIVE.removesuffix('.tar.gz')}/{_INSIDE}/"
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = member.name.removeprefix(prefix)
            if member.isfile() and inside != member.name and inside.split("/")[0] in _NEEDED:
                target = partial / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file)
    partial.replace(folder)
    return folder


def _digest(folder):
    digest = hashlib.sha256()
    for top in ("CMakeLists.txt", "ggml", "include", "src"):
        for path in sorted(path for path in (folder / top, *(folder / top).rglob("*")) if path.is_file()):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
