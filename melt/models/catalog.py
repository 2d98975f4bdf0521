"""The models that melt knows by name, and how a model may be named: catalogue, path of a file, Hugging Face."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from melt.errors import ModelError

DATA_DIR = Path(__file__).parent / "data"
_HUB_PREFIX = "hf://"
_HUB = re.compile(r"hf://(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/(?P<file>[^@\s]+?)(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of the catalogue. `source` is `embedded`, or `pypi:NAME==VERSION` with the file as `member` of its wheel.

    `quant` is the level of the file as it is published; `sha256` and `size_bytes` are of the model file itself. `dims`
    are lengths that the symbolic dimensions of an ONNX model usually have, by their names.
    """

    name: str
    about: str
    source: str
    file: str
    sha256: str
    size_bytes: int
    n_params: int
    quant: str
    license: str
    member: str | None = None
    download_bytes: int | None = None
    dims: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A model file of the user."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a Hugging Face repository. `revision` None: the newest."""

    repo: str
    file: str
    revision: str | None


Source = Entry | LocalFile | HubFile


@cache
def catalog() -> dict[str, Entry]:
    """Return the catalogue by name."""
    import yaml

    entries = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8"))
    return {entry["name"]: Entry(**entry) for entry in entries}


def find_source(model: str) -> Source:
    """Say where a model comes from. Nothing is fetched or opened. Raises ModelError with the nearest names."""
    if model.startswith(_HUB_PREFIX):
        return _hub_file(model)
    if model in catalog():
        return catalog()[model]
    if "/" in model or model.startswith("~") or model.lower().endswith((".gguf", ".onnx")):
        return LocalFile(Path(model).expanduser().absolute())
    if "://" not in model and model.lower() in catalog():
        return catalog()[model.lower()]
    raise ModelError(f"unknown model {model!r}{_nearest(model)}")


def _hub_file(model: str) -> HubFile:
    match = _HUB.fullmatch(model)
    parts = match["file"].split("/") if match else []
    if match is None or not all(parts) or ".." in parts:
        raise ModelError(
            f"cannot read {model!r}: write hf://owner/repo/file.gguf or hf://owner/repo/file.gguf@revision"
        )
    return HubFile(match["repo"], match["file"], match["revision"])


def _nearest(model: str) -> str:
    if Path(model).is_file():
        return f": for the file of that name write ./{model}"
    word = model.lower()
    close = [name for name in catalog() if word in name] or difflib.get_close_matches(word, catalog(), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(catalog())}."
    return f": {hint} A file is named by its path (./model.gguf, ./model.onnx) or as hf://owner/repo/file.gguf"
