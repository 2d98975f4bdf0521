"""The importance matrix of a model: which inputs of its weights are large on a calibration text. Computed once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from melt import codec
from melt.errors import ModelError, StoreError
from melt.models.catalog import DATA_DIR
from melt.models.digest import sha256_of
from melt.models.files import Progress, explained, locked, partial
from melt.models.gguf import read_header
from melt.models.worker import run_worker
from melt.records import Artifact

_WORKER = "_calibrator.py"
IMATRIX_NAME = "imatrix.gguf"


@dataclass(frozen=True)
class CalibrationText:
    """A text to compute an importance matrix on; the matrix is only as good as the text is like what will be asked."""

    path: Path

    @cached_property
    def sha256(self) -> str:
        """The identity of the text. Raises ModelError."""
        return sha256_of(self.path)


DEFAULT_CALIBRATION = CalibrationText(DATA_DIR / "calibration.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """An importance matrix in a file that llama-quantize reads too, and what it was computed on.

    `n_chunks` chunks of `chunk_tokens` tokens were read, `n_entries` weight matrices measured.
    """

    path: str
    sha256: str
    origin_sha256: str
    calibration: str
    calibration_sha256: str
    n_chunks: int
    chunk_tokens: int
    n_entries: int


def calibration_text(path: Path | str) -> CalibrationText:
    """Return a user's own calibration text. Raises ModelError when it is no file or empty."""
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise ModelError(f"there is no calibration text {path}")
    with explained("read", path):
        if not path.stat().st_size:
            raise ModelError(f"the calibration text {path} is empty")
    return CalibrationText(path)


def importance_of(origin: Artifact, text: CalibrationText, folder: Path, progress: Progress | None) -> Importance:
    """Return the importance matrix of a model, computed now or found from before in `folder`. Raises ModelError."""
    target = folder / IMATRIX_NAME
    found = _sound(target)
    if found is not None:
        return found
    with locked(target):
        # Another process may have computed it while this one waited.
        return _sound(target) or _compute(origin, text, target, progress)


def _compute(origin: Artifact, text: CalibrationText, target: Path, progress: Progress | None) -> Importance:
    what = f"computing the importance matrix of {origin.name}"
    with partial(target) as part:
        run_worker(_WORKER, [origin.path, str(text.path), str(part), str(_threads())], part, what, progress)
        header = read_header(part)
        made = Importance(
            path=str(target),
            sha256=sha256_of(part),
            origin_sha256=origin.sha256,
            calibration=text.path.name,
            calibration_sha256=text.sha256,
            n_chunks=header.count("imatrix.chunk_count") or 0,
            chunk_tokens=header.count("imatrix.chunk_size") or 0,
            n_entries=len(header.tensors) // 2,
        )
        with explained("write", target):
            _record(target).write_text(codec.dumps(made) + "\n", encoding="utf-8")
    return made


def _threads() -> int:
    """Take the cores without their second threads: after each product all wait for the last one."""
    return max((os.cpu_count() or 2) // 2, 1)


def _sound(path: Path) -> Importance | None:
    """Read a matrix's record and hold the file against it: what was damaged since is computed anew."""
    try:
        found = codec.loads(Importance, _record(path).read_bytes())
        return replace(found, path=str(path)) if sha256_of(path) == found.sha256 else None
    except (OSError, StoreError, ModelError):
        return None


def _record(path: Path) -> Path:
    return path.with_suffix(".json")
