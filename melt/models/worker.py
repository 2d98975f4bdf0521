"""Run an engine's tools in a process of their own: they may abort or be killed, and say what they like on stderr."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from melt.errors import ModelError
from melt.models.files import Progress, no_room

_STEP = re.compile(rb"\[ *(\d+)/ *(\d+)\]")
_FAILED = re.compile(r"failed to (?:quantize|calibrate)[: ]*")
_UNSUITABLE = "unsuitable: "
_TAIL_BYTES = 16_384
LEAST_FREE_BYTES = 4 * 1024 * 1024
"""With less than this left, a disk counts as full."""


def run_worker(
    script: str, words: Sequence[str], out: Path, what: str, progress: Progress | None, *, engine: str = "llama.cpp"
) -> None:
    """Run a script of this folder until it wrote `out`; `what` names the work. Raises ModelError.

    A line on stderr that begins with `unsuitable: ` says what the model or the user's files lack, not what broke.
    """
    child = subprocess.Popen(
        # -P: the worker's own folder must not come before the standard library, it holds an inspect.py.
        [sys.executable, "-P", str(Path(__file__).with_name(script)), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    tail = b""
    with child:
        try:
            if progress is not None:
                progress(what, 0, 0)
            assert child.stderr is not None
            while text := os.read(child.stderr.fileno(), 65_536):
                tail = (tail + text)[-_TAIL_BYTES:]
                steps = _STEP.findall(text)
                if progress is not None and steps:
                    progress(what, int(steps[-1][0]), int(steps[-1][1]))
            status = child.wait()
        except BaseException:
            child.kill()
            raise
    if status:
        raise _failure(what, status, tail, out, engine)


def _failure(what: str, status: int, tail: bytes, out: Path, engine: str) -> ModelError:
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    marked = [line[found.end() :] for line in lines if (found := _FAILED.search(line))]
    if lines and lines[-1].startswith(_UNSUITABLE):
        return ModelError(f"{what} failed: {lines[-1].removeprefix(_UNSUITABLE)}")
    said = (marked or lines or ["it said nothing"])[-1]
    if "iostream error" in said or shutil.disk_usage(out.parent).free < LEAST_FREE_BYTES:
        return no_room(out)
    if status == -signal.SIGKILL:
        return ModelError(f"{what} was killed, most likely because memory ran out")
    ended = f"{engine} died of {signal.Signals(-status).name}" if status < 0 else f"{engine} refused"
    return ModelError(f"{what} failed: {ended}: {said}")
