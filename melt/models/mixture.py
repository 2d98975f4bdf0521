"""What a level's label hides: tensors that fell back to other types, and levels that turned out to be the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from melt.models.files import explained
from melt.models.ggml import Level
from melt.models.gguf import Header, Tensor
from melt.records import Artifact
from melt.units import human

_COMMON_BLOCK = 32
"""Rows of nearly all models are multiples of this; larger blocks are what falls back."""
_CHUNK_BYTES = 1 << 20


def matrices_of(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors that a level is about: norms, biases and routers stay F32 in every level."""
    return [t for t in tensors if len(t.dims) > 1 and t.type.name != "F32"]


def fallbacks_of(tensors: Iterable[Tensor], level: Level | None) -> dict[str, int]:
    """Count the matrices whose rows do not fit the level's blocks, by the type that they are stored in instead."""
    if level is None or level.main.block <= _COMMON_BLOCK:
        return {}
    fell = Counter(t.type.name for t in matrices_of(tensors) if t.dims[0] % level.main.block)
    return dict(fell.most_common())


def fallback_note(tensors: Iterable[Tensor], level: Level) -> Iterable[str]:
    """Say which share of the weights is not in the 256-wide blocks that the label promises, and why."""
    if level.main.block <= _COMMON_BLOCK:
        return
    matrices = matrices_of(tensors)
    total = sum(t.size_bytes for t in matrices)
    others: Counter[str] = Counter()
    for tensor in matrices:
        if tensor.type.block != level.main.block:
            others[tensor.type.name] += tensor.size_bytes
    if not total or not others:
        return
    shares = ", ".join(f"{name} {human(n / total, 'ratio', 2)}" for name, n in others.most_common())
    note = f"labelled {level.name}, but {human(others.total() / total, 'ratio', 2)} of it is in other types ({shares})"
    if all(t.type != level.main for t in matrices):
        note += f" and none in {level.main.name}"
    odd_rows = sorted({t.dims[0] for t in matrices if t.dims[0] % level.main.block})
    if odd_rows:
        n_odd = sum(1 for t in matrices if t.dims[0] % level.main.block)
        note += f": its rows of {_listed(odd_rows)} weights are no multiple of {level.main.block}"
        note += f", so {n_odd} of {len(matrices)} matrices fell back"
    yield note


def weights_sha256(path: Path, header: Header) -> str:
    """Hash the tensors of a file, names and types included, whatever the rest of it says. Raises ModelError."""
    digest = hashlib.sha256()
    with explained("read", path), path.open("rb") as file:
        for tensor in sorted(header.tensors, key=lambda t: t.name):
            digest.update(f"{tensor.name}\0{tensor.dims}\0{tensor.type.name}\0".encode())
            file.seek(tensor.offset)
            left = tensor.size_bytes
            while left and (piece := file.read(min(left, _CHUNK_BYTES))):
                digest.update(piece)
                left -= len(piece)
    return digest.hexdigest()


def twins(artifacts: Iterable[Artifact]) -> dict[str, tuple[str, ...]]:
    """Return, by the sha256 of a file, the other levels of the same name that hold the very same weights."""
    alike: dict[tuple[str, str], list[Artifact]] = {}
    for artifact in artifacts:
        if artifact.weights_sha256 is not None:
            alike.setdefault((artifact.name, artifact.weights_sha256), []).append(artifact)
    return {
        one.sha256: tuple(str(other.quant) for other in group if other.sha256 != one.sha256)
        for group in alike.values()
        if len(group) > 1
        for one in group
    }


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:3])) + (", ..." if len(numbers) > 3 else "")
