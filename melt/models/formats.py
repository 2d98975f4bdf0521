"""What depends on a model's format: how its file is read, and which levels there are of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from melt.models.catalog import Entry, HubFile, Source, find_source
from melt.models.digest import sha256_of
from melt.models.ggml import find_level
from melt.models.gguf import read_header
from melt.models.inspect import describe
from melt.models.onnx_describe import describe_onnx
from melt.models.onnx_file import read_model
from melt.models.onnx_levels import find_onnx_level
from melt.records import Artifact

Format = Literal["gguf", "onnx"]


def format_of(model: str) -> Format:
    """Say which format a model is in, by its name. Nothing is fetched or opened. Raises ModelError."""
    return format_of_source(find_source(model))


def format_of_source(source: Source) -> Format:
    """Say which format a model is in, by the name of its file."""
    file = source.file if isinstance(source, (Entry, HubFile)) else source.path.name
    return "onnx" if file.lower().endswith(".onnx") else "gguf"


def level_name(format_: Format, quant: str) -> str:
    """Return the name of a level as melt writes it. Raises ModelError."""
    return find_onnx_level(quant).name if format_ == "onnx" else find_level(quant).name


def check_file(path: Path) -> None:
    """Read what a model file says of itself. Raises ModelError where that cannot be sound."""
    if _is_onnx(path):
        read_model(path)
    else:
        read_header(path)


def inspect_file(path: Path, *, sha256: str | None = None, name: str | None = None) -> Artifact:
    """Write down a model file of either format, hashing it where its sha256 is not known. Raises ModelError."""
    if _is_onnx(path):
        model = read_model(path)
        return describe_onnx(path, model, sha256=sha256 or sha256_of(path), quant=None, name=name)
    header = read_header(path)
    return describe(path, header, sha256=sha256 or sha256_of(path), quant=None, name=name)


def _is_onnx(path: Path) -> bool:
    return path.suffix.lower() == ".onnx"
