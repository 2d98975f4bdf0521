"""Make other quantization levels of a model with llama.cpp, each once, and record how lossy that was."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

from melt import codec
from melt.errors import ModelError, StoreError
from melt.models.digest import sha256_of
from melt.models.files import Progress, explained, locked, no_room, partial
from melt.models.ggml import BY_NAME, FALLBACKS, Level, find_level
from melt.models.gguf import Tensor, read_header
from melt.models.inspect import inspect, is_lossy
from melt.records import Artifact

_WORKER = Path(__file__).with_name("_quantizer.py")
_TENSOR_LINE = re.compile(rb"\[ *(\d+)/ *(\d+)\]")
_FAILED = "failed to quantize"
_TAIL_BYTES = 16_384
_MARGIN_BYTES = 4 * 1024 * 1024


def quantize(origin: Artifact, level: str, out_dir: Path, progress: Progress | None = None) -> Artifact:
    """Return `origin` at another level, made now or found from before under `out_dir`.

    The recipe, the origin's sha256 and whether the origin was lossy already are part of the result. Raises ModelError.
    """
    wanted = find_level(level)
    if wanted.needs_imatrix:
        raise ModelError(
            f"{wanted.name} needs an importance matrix, which melt cannot make: take a file that was quantized with "
            "one, or another level such as IQ4_XS, IQ3_M or Q2_K"
        )
    target = quantized_path(origin, wanted, out_dir)
    found = _sound(target)
    if found is not None:
        return found
    with locked(target):
        # Another process may have made it while this one waited.
        return _sound(target) or _make(origin, wanted, target, progress)


def find_quantized(origin: Artifact, level: str, out_dir: Path) -> Artifact | None:
    """Return the file that an earlier `quantize` left, None when there is none, or not a whole one."""
    try:
        wanted = find_level(level)
        path = quantized_path(origin, wanted, out_dir)
    except ModelError:
        return None
    return read_quantized(path)


def read_quantized(path: Path) -> Artifact | None:
    """Read the record beside a quantized file, None when the two do not belong together."""
    try:
        artifact = codec.loads(Artifact, _record(path).read_bytes())
        size_bytes = path.stat().st_size
    except (OSError, StoreError):
        return None
    return replace(artifact, path=str(path)) if artifact.size_bytes == size_bytes else None


def _sound(path: Path) -> Artifact | None:
    """Read a quantized file's record and hold the file against it: what was damaged since is made anew."""
    artifact = read_quantized(path)
    return artifact if artifact is not None and sha256_of(path) == artifact.sha256 else None


def quantized_path(origin: Artifact, level: Level, out_dir: Path) -> Path:
    """Say where a level of a model lies: the folder stands for the origin and the recipe."""
    return out_dir / f"{origin.sha256[:16]}-{recipe().replace(' ', '-')}" / f"{origin.name}-{level.name}.gguf"


def recipe() -> str:
    """Name what makes the file: equal recipes make equal files. Raises ModelError without llama-cpp-python."""
    try:
        return f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
    except importlib.metadata.PackageNotFoundError:
        raise ModelError("quantizing needs llama-cpp-python: pip install 'melt[llama]'") from None


def expected_size(tensors: tuple[Tensor, ...], level: Level) -> int:
    """Estimate the bytes of the weights at another level, within some percent: the mixes differ by tensor."""
    return sum(_expected_tensor_size(tensor, level) for tensor in tensors)


def _expected_tensor_size(tensor: Tensor, level: Level) -> int:
    if len(tensor.dims) < 2:
        return tensor.size_bytes
    kind = level.main
    if kind.name == "MXFP4" and len(tensor.dims) < 3:
        # Only the experts of a mixture are stored so.
        kind = BY_NAME["Q8_0"]
    if tensor.name in ("token_embd.weight", "output.weight") and kind.is_quantized and kind.bits < BY_NAME["Q6_K"].bits:
        # llama.cpp keeps the output weights finer than the rest.
        kind = BY_NAME["Q6_K"]
    if tensor.dims[0] % kind.block:
        kind = BY_NAME[FALLBACKS.get(kind.name, "F16")]
    if tensor.dims[0] % kind.block:
        kind = BY_NAME["F16"]
    return prod(tensor.dims) // kind.block * kind.block_bytes


def _make(origin: Artifact, level: Level, target: Path, progress: Progress | None) -> Artifact:
    source = Path(origin.path)
    needed_bytes = expected_size(read_header(source).tensors, level) + _MARGIN_BYTES
    with explained("write in", target.parent):
        free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < needed_bytes:
        raise no_room(target.parent, needed_bytes)
    with partial(target) as part:
        _run(source, part, level, progress)
        made = replace(
            inspect(part, quant=level.name, name=origin.name),
            path=str(target),
            origin_sha256=origin.sha256,
            recipe=recipe(),
            lossy_origin=is_lossy(origin),
            license=origin.license,
        )
        if made.lossy_origin:
            note = f"made from {origin.quant or 'quantized'} weights, not from the full-precision model"
            made = replace(made, notes=(*made.notes, note))
        with explained("write", target):
            _record(target).write_text(codec.dumps(made) + "\n", encoding="utf-8")
    return made


def _run(source: Path, part: Path, level: Level, progress: Progress | None) -> None:
    what = f"quantizing {source.name} to {level.name}"
    words = [str(source), str(part), str(level.ftype), str(os.cpu_count() or 1)]
    child = subprocess.Popen(
        # -P: the worker's own folder must not come before the standard library, it holds an inspect.py.
        [sys.executable, "-P", str(_WORKER), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    tail = b""
    with child:
        try:
            assert child.stderr is not None
            while text := os.read(child.stderr.fileno(), 65_536):
                tail = (tail + text)[-_TAIL_BYTES:]
                steps = _TENSOR_LINE.findall(text)
                if progress is not None and steps:
                    progress(what, int(steps[-1][0]), int(steps[-1][1]))
            status = child.wait()
        except BaseException:
            child.kill()
            raise
    if status:
        raise _failure(what, status, tail, part)


def _failure(what: str, status: int, tail: bytes, part: Path) -> ModelError:
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    marked = [line.partition(_FAILED)[2].lstrip(": ") for line in lines if _FAILED in line]
    said = (marked or lines or ["it said nothing"])[-1]
    if "iostream error" in said or shutil.disk_usage(part.parent).free < _MARGIN_BYTES:
        return no_room(part)
    if status == -signal.SIGKILL:
        return ModelError(f"{what} was killed, most likely because memory ran out")
    ended = f"llama.cpp died of {signal.Signals(-status).name}" if status < 0 else "llama.cpp refused"
    return ModelError(f"{what} failed: {ended}: {said}")


def _record(path: Path) -> Path:
    return path.with_suffix(".json")
