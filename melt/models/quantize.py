"""Make other quantization levels of a model with llama.cpp, each once, and record how lossy that was."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

from melt import codec
from melt.errors import ModelError, StoreError
from melt.models.digest import sha256_of
from melt.models.files import Progress, explained, locked, no_room, partial
from melt.models.ggml import BY_NAME, FALLBACKS, Level, TensorType, find_level, misfit
from melt.models.gguf import Tensor, read_header
from melt.models.imatrix import DEFAULT_CALIBRATION, CalibrationText, Importance, importance_of
from melt.models.inspect import WEIGHED, attention_of, inspect, is_lossy
from melt.models.mixture import fallbacks_of, matrices_of, weights_sha256
from melt.models.worker import LEAST_FREE_BYTES, run_worker
from melt.records import Artifact

_WORKER = "_quantizer.py"
_COARSE = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"}
_EMBEDDINGS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), "Q2_K"),
    **dict.fromkeys(("IQ2_S", "IQ3_XXS"), "IQ3_S"),
    **dict.fromkeys(("TQ1_0", "TQ2_0", "Q2_0"), "Q4_K"),
}
"""What an embedding that is not the output weights as well is stored in."""


def quantize(
    origin: Artifact,
    level: str,
    out_dir: Path,
    progress: Progress | None = None,
    *,
    text: CalibrationText = DEFAULT_CALIBRATION,
) -> Artifact:
    """Return `origin` at another level, made now or found from before under `out_dir`.

    A level with an importance matrix has it computed first, on `text`. The recipe, the origin's sha256 and whether the
    origin was lossy already are part of the result. Raises ModelError.
    """
    wanted = find_level(level)
    target = quantized_path(origin, wanted, out_dir, text)
    found = _sound(target)
    if found is not None:
        return found
    _refuse_misfit(read_header(Path(origin.path)).tensors, wanted)
    with locked(target):
        # Another process may have made it while this one waited.
        return _sound(target) or _make(origin, wanted, target, progress, text)


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
        if artifact.size_bytes != path.stat().st_size:
            return None
        return replace(_as_recorded_now(artifact, path), path=str(path))
    except (OSError, StoreError, ModelError):
        return None


def _as_recorded_now(artifact: Artifact, path: Path) -> Artifact:
    """Count what fell back, and how wide the attention is, where the record is from before that was written down.

    Else no matrix would seem to have fallen back, and attention to cost nothing.
    """
    complete = None not in (artifact.n_matrices, artifact.attention_width)
    if artifact.format != "gguf" or artifact.quant is None or complete:
        return artifact
    header = read_header(path)
    attention = attention_of(header)
    return replace(
        artifact,
        n_matrices=len(matrices_of(header.tensors)),
        fallbacks=fallbacks_of(header.tensors, find_level(artifact.quant)),
        attention_width=None if attention is None else attention.width,
    )


def _sound(path: Path) -> Artifact | None:
    """Read a quantized file's record and hold the file against it: what was damaged since is made anew."""
    artifact = read_quantized(path)
    return artifact if artifact is not None and sha256_of(path) == artifact.sha256 else None


def quantized_path(origin: Artifact, level: Level, out_dir: Path, text: CalibrationText = DEFAULT_CALIBRATION) -> Path:
    """Say where a level of a model lies: the folder stands for the origin and the recipe."""
    folder = f"{origin.sha256[:16]}-{recipe().replace(' ', '-')}"
    if level.imatrix:
        folder += f"-imatrix-{text.sha256[:12]}"
    return out_dir / folder / f"{origin.name}-{level.name.replace('+', '-')}.gguf"


def recipe(importance: Importance | None = None) -> str:
    """Name what makes the file: equal recipes make equal files. Raises ModelError without llama-cpp-python."""
    try:
        maker = f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
    except importlib.metadata.PackageNotFoundError:
        raise ModelError("quantizing needs llama-cpp-python: pip install 'melt[llama]'") from None
    if importance is None:
        return maker
    read = f"{importance.n_chunks} x {importance.chunk_tokens} tokens of {importance.calibration}"
    return f"{maker}, importance matrix {importance.sha256[:12]} over {read}"


def expected_size(tensors: tuple[Tensor, ...], level: Level) -> int:
    """Estimate the bytes of the weights at another level, within some percent: the mixes differ by tensor."""
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    return sum(_expected_tensor_size(tensor, level, tied=tied) for tensor in tensors)


def _expected_tensor_size(tensor: Tensor, level: Level, *, tied: bool) -> int:
    if len(tensor.dims) < 2:
        return tensor.size_bytes
    kind = _expected_type(tensor, level, tied=tied)
    if tensor.dims[0] % kind.block:
        kind = BY_NAME[FALLBACKS.get(kind.name, "F16")]
    if tensor.dims[0] % kind.block:
        kind = BY_NAME["F16"]
    return prod(tensor.dims) // kind.block * kind.block_bytes


def _expected_type(tensor: Tensor, level: Level, *, tied: bool) -> TensorType:
    """Take the level's main type but for the embedding and the output weights, which llama.cpp keeps finer."""
    main = level.main
    if main.name == "MXFP4" and len(tensor.dims) < 3:
        # Only the experts of a mixture are stored so.
        return BY_NAME["Q8_0"]
    if tensor.name == "output.weight" or (tied and tensor.name == "token_embd.weight"):
        kept = BY_NAME["Q5_K" if main.name in _COARSE else "Q6_K"]
        if tensor.dims[0] % main.block:
            kept = BY_NAME["Q8_0"]
        return kept if main.is_quantized and main.bits < kept.bits else main
    if tensor.name == "token_embd.weight":
        return BY_NAME[_EMBEDDINGS.get(main.name, main.name)]
    return main


def _refuse_misfit(tensors: tuple[Tensor, ...], level: Level) -> None:
    for tensor in matrices_of(tensors):
        if reason := misfit(level, tensor.dims[0]):
            raise ModelError(reason)


def _make(origin: Artifact, level: Level, target: Path, progress: Progress | None, text: CalibrationText) -> Artifact:
    source = Path(origin.path)
    needed_bytes = expected_size(read_header(source).tensors, level) + LEAST_FREE_BYTES
    with explained("write in", target.parent):
        free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < needed_bytes:
        raise no_room(target.parent, needed_bytes)
    importance = importance_of(origin, text, target.parent, progress) if level.imatrix else None
    with partial(target) as part:
        words = [str(source), str(part), str(level.ftype), str(os.cpu_count() or 1)]
        if importance is not None:
            words += [importance.path, importance.calibration]
        run_worker(_WORKER, words, part, f"quantizing {source.name} to {level.name}", progress)
        found = inspect(part, quant=level.name, name=origin.name)
        made = replace(
            found,
            path=str(target),
            origin_sha256=origin.sha256,
            recipe=recipe(importance),
            imatrix_sha256=None if importance is None else importance.sha256,
            calibration_sha256=None if importance is None else importance.calibration_sha256,
            weights_sha256=weights_sha256(part, read_header(part)),
            lossy_origin=is_lossy(origin),
            license=origin.license,
        )
        made = replace(made, notes=(*_true_notes(made), *_notes_on_origin(made, origin)))
        with explained("write", target):
            _record(target).write_text(codec.dumps(made) + "\n", encoding="utf-8")
    return made


def _true_notes(made: Artifact) -> Iterator[str]:
    """Leave out what the file says of its origin: llama.cpp copies the mark of an importance matrix."""
    for note in made.notes:
        if made.imatrix_sha256 is not None or not note.startswith(WEIGHED):
            yield note


def _notes_on_origin(made: Artifact, origin: Artifact) -> Iterator[str]:
    if made.lossy_origin:
        yield f"made from {origin.quant or 'quantized'} weights, not from the full-precision model"
    elif (made.weight_bytes or 0) > (origin.weight_bytes or 0):
        yield f"larger than the {origin.quant or 'file'} that it was made from, and no more precise"


def _record(path: Path) -> Path:
    return path.with_suffix(".json")
