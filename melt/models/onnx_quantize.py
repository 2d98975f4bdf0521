"""Make levels of an ONNX model with onnxruntime's own quantizer, each once, and record what was left as it was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from melt import codec
from melt._layout import agents_dir
from melt.errors import ModelError
from melt.models.digest import sha256_of
from melt.models.files import Progress, explained, locked, no_room, partial
from melt.models.onnx_describe import describe_onnx, left_bytes
from melt.models.onnx_file import read_model
from melt.models.onnx_levels import OnnxLevel, find_onnx_level
from melt.models.quantize import read_quantized
from melt.models.worker import LEAST_FREE_BYTES, run_worker
from melt.records import Artifact
from melt.units import human

_WORKER = "_onnx_quantizer.py"
_TOOLS = ("onnxruntime", "onnx")
_SETTINGS = 2
"""Raised with each change of what the worker asks of the tools: equal recipes make equal files."""

N_MADE_UP = 16
"""Made-up inputs that activations are calibrated on where the user gives none."""

_TAKEN = {
    "int8-dynamic": "Conv, MatMul, Gemm, Gather and LSTM outside of branches and loops",
    "int8-static": "Conv, ConvTranspose, MatMul and Gemm outside of branches and loops",
    "int4": "MatMul outside of branches and loops",
    "fp16": "operators that take FP16",
}
"""What onnxruntime's tools quantize."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Inputs that activations are calibrated on: the user's files, known by their content."""

    paths: tuple[Path, ...]
    sha256: str


def calibration_inputs(files: Sequence[str]) -> Calibration:
    """Return the inputs that .npz files hold. Raises ModelError for a file that is not there."""
    paths = tuple(Path(file).expanduser().absolute() for file in files)
    digests = [sha256_of(path) for path in paths]
    return Calibration(paths, hashlib.sha256("\n".join(digests).encode()).hexdigest() if len(paths) > 1 else digests[0])


def quantize_onnx(
    origin: Artifact,
    level: str,
    out_dir: Path,
    progress: Progress | None = None,
    *,
    inputs: Calibration | None = None,
) -> Artifact:
    """Return `origin` at another level, made now or found from before under `out_dir`.

    Without `inputs` a calibrated level is one that was made with given inputs before, the newest, else one made with
    inputs that are made up. Raises ModelError.
    """
    wanted = find_onnx_level(level)
    _refuse_unfit(origin, wanted)
    target = _target(origin, wanted, out_dir, inputs)
    found = _sound(target)
    if found is not None:
        return found
    with locked(target):
        # Another process may have made it while this one waited.
        return _sound(target) or _make(origin, wanted, target, progress, inputs)


def find_onnx_quantized(origin: Artifact, level: str, out_dir: Path) -> Artifact | None:
    """Return the file that `quantize_onnx` would give, None when there is none, or not a whole one."""
    try:
        path = _target(origin, find_onnx_level(level), out_dir, None)
    except ModelError:
        return None
    return read_quantized(path)


def expected_onnx_size(path: Path, level: str | None) -> int:
    """Estimate the bytes of a file at another level: its weights change, the rest stays. Raises ModelError."""
    with explained("read", path):
        size_bytes = path.stat().st_size
    model = read_model(path)
    if level is None:
        return size_bytes
    matrices = sum(w.size_bytes for w in model.weights if w.type == "FP32" and w.is_matrix)
    return size_bytes - matrices + matrices * find_onnx_level(level).bits // 32


def made_up_dims(artifact: Artifact, given_by: str) -> dict[str, int]:
    """Return the lengths that the open dimensions of inputs have where these are made up: one sample at a time.

    `given_by` is how the user gives inputs instead. Raises ModelError for a dimension that only the user can know.
    """
    first = (tensor.shape[0] for tensor in artifact.inputs if tensor.shape)
    dims = {**{length: 1 for length in first if isinstance(length, str)}, **artifact.dims}
    for tensor in artifact.inputs:
        for length in tensor.shape or ():
            if isinstance(length, str) and length not in dims:
                raise ModelError(
                    f"{artifact.name} leaves the dimension {length} of its input {tensor.name} open, so that inputs "
                    f"cannot be made up: give some ({given_by})"
                )
    return dims


def recipe() -> str:
    """Name what makes a level. Raises ModelError where it is not installed."""
    try:
        made_with = ", ".join(f"{tool} {importlib.metadata.version(tool)}" for tool in _TOOLS)
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(f"levels of ONNX models are made with {error.name}: pip install 'melt[onnx]'") from None
    return f"{made_with}, settings {_SETTINGS}"


def _refuse_unfit(origin: Artifact, level: OnnxLevel) -> None:
    if origin.quant == "fp32":
        return
    at = f"is {origin.quant}" if origin.quant else "holds weights of other types"
    raise ModelError(
        f"{origin.name} cannot be made {level.name}: levels are made of fp32 models, and it {at}; take its original"
    )


def _target(origin: Artifact, level: OnnxLevel, out_dir: Path, inputs: Calibration | None) -> Path:
    """Say where a level lies: the folder stands for the origin, the recipe and what activations are calibrated on."""
    folder = f"{origin.sha256[:16]}-{recipe().replace(', ', '-').replace(' ', '-')}"
    file = f"{origin.name}-{level.name}.onnx"
    if not level.calibrated:
        return out_dir / folder / file
    if inputs is not None:
        return out_dir / f"{folder}-inputs-{inputs.sha256[:12]}" / file
    given = [path for path in out_dir.glob(f"{folder}-inputs-*/{file}") if read_quantized(path) is not None]
    if given:
        return max(given, key=lambda path: path.stat().st_mtime_ns)
    dims = hashlib.sha256(json.dumps([N_MADE_UP, sorted(origin.dims.items())]).encode()).hexdigest()
    return out_dir / f"{folder}-made-up-{dims[:12]}" / file


def _sound(path: Path) -> Artifact | None:
    artifact = read_quantized(path)
    return artifact if artifact is not None and sha256_of(path) == artifact.sha256 else None


def _make(
    origin: Artifact, level: OnnxLevel, target: Path, progress: Progress | None, inputs: Calibration | None
) -> Artifact:
    needed_bytes = 2 * (origin.size_bytes or 0) + LEAST_FREE_BYTES
    with explained("write in", target.parent):
        if shutil.disk_usage(target.parent).free < needed_bytes:
            raise no_room(target.parent, needed_bytes)
    job, report = target.with_suffix(".job"), target.with_suffix(".report")
    with partial(target) as part:
        try:
            with explained("write", job):
                job.write_text(json.dumps(_job(origin, level, part, report, inputs)), encoding="utf-8")
            what = f"making {origin.name} {level.name}"
            run_worker(_WORKER, [str(job)], part, what, progress, engine="onnxruntime")
            with explained("read", report):
                said = json.loads(report.read_bytes())
        finally:
            job.unlink(missing_ok=True)
            report.unlink(missing_ok=True)
        made = _recorded(origin, level, part, inputs, said)
        made = replace(made, path=str(target))
        with explained("write", target):
            target.with_suffix(".json").write_text(codec.dumps(made) + "\n", encoding="utf-8")
    return made


def _job(origin: Artifact, level: OnnxLevel, part: Path, report: Path, inputs: Calibration | None) -> dict[str, object]:
    # Plans and evaluations make levels, too, and take no inputs to calibrate on.
    given_by = f"melt models quantize MODEL -q {level.name} --inputs FILE.npz"
    return {
        "origin": origin.path,
        "target": str(part),
        "report": str(report),
        "level": level.name,
        "runners": str(agents_dir() / "runners"),
        "inputs": [str(path) for path in inputs.paths] if inputs is not None else [],
        "dims": made_up_dims(origin, given_by) if level.calibrated and inputs is None else {},
        "n_samples": N_MADE_UP,
    }


def _recorded(
    origin: Artifact, level: OnnxLevel, part: Path, inputs: Calibration | None, said: dict[str, object]
) -> Artifact:
    """Describe what was made; a file that is the same as before but for its name is no level. Raises ModelError."""
    model = read_model(part)
    found = describe_onnx(part, model, sha256=sha256_of(part), quant=level.name, name=origin.name)
    if sum(found.fallbacks.values()) == found.n_matrices:
        raise ModelError(
            f"{origin.name} cannot be made {level.name}: none of its {found.n_matrices} matrices belongs to a "
            f"{_TAKEN[level.name].replace(' and ', ' or ')}: onnxruntime makes it of nothing else"
        )
    made_with = recipe()
    if level.calibrated:
        of = "made-up inputs" if inputs is None else f"inputs {inputs.sha256[:12]}"
        made_with += f", ranges over {said['n_samples']} {of}"
    return replace(
        found,
        n_params=origin.n_params,
        bits_per_weight=8 * (found.weight_bytes or 0) / origin.n_params if origin.n_params else None,
        origin_sha256=origin.sha256,
        recipe=made_with,
        calibration_sha256=None if inputs is None else inputs.sha256,
        lossy_origin=False,
        license=origin.license,
        dims=origin.dims,
        notes=tuple(_notes(found, left_bytes(model), level, inputs, said)),
    )


def _notes(
    made: Artifact, n_left_bytes: int, level: OnnxLevel, inputs: Calibration | None, said: dict[str, object]
) -> Iterator[str]:
    if level.calibrated and inputs is None:
        yield (
            "its ranges are those of made-up inputs: fit for speed and memory, not for quality; give real ones "
            f"(melt models quantize {made.name} -q {level.name} --inputs FILE.npz)"
        )
    if n_left := sum(made.fallbacks.values()):
        share = human(n_left_bytes / made.weight_bytes, "ratio") if made.weight_bytes else "-"
        yield (
            f"{n_left} of {made.n_matrices} matrices left in FP32, {share} of the bytes of its weights: onnxruntime "
            f"makes {level.name} of {_TAKEN[level.name]}"
        )
    if said.get("per_channel") is False:
        yield "a scale for each matrix, not for each channel, which onnxruntime could not make of it: less precise"
    if said.get("kept"):
        yield "Pow is computed in FP32: else onnxruntime cannot load it"
