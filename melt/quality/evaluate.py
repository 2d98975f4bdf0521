"""Evaluate model files on a text or a task: what the store has is taken from there, what was cut short goes on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from melt import __version__
from melt.analysis.quality import choice_figures, chosen, text_figures
from melt.codec import dumps
from melt.errors import ModelError
from melt.models.digest import sha256_of
from melt.models.files import Progress
from melt.models.inspect import expected_memory
from melt.quality.journal import Entry, journals
from melt.quality.tasks import Task
from melt.quality.text import Text
from melt.quality.worker import engine_version, score
from melt.records import Artifact, DeviceFacts
from melt.records.quality import ChoiceFigures, Quality, QualityMethod, TextFigures
from melt.store.files import locked, store_error
from melt.store.quality import find_qualities, keep_quality
from melt.store.store import Store
from melt.targets.readers import OwnFiles
from melt.targets.system import identify, read_facts
from melt.transports.local import LocalTransport

DEFAULT_CTX = 512
"""Length of the chunks of a text, as llama-perplexity's."""

_ENGINE = "llama.cpp"
_MEMORY_SHARE = 0.6
"""Of the free memory, what the files that are scored side by side may take."""

_PARAMS_PER_THREAD = 20e6
"""llama.cpp's threads wait for each other by spinning, several times a layer: for a smaller model a second one gives
little, and where others use the CPUs it cost a factor of 20 on a model of 3 million parameters."""

_NEVER = 2**31
"""The first chunk wanted of a reference whose own figures are known."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The quality of one file; `known` says that it was in the store already."""

    quality: Quality
    known: bool


def this_machine() -> DeviceFacts:
    """Return what this machine is, under the id that its runs have. Raises UsageError."""
    transport = LocalTransport()
    try:
        return read_facts(identify(transport), transport, OwnFiles(), "local")[0]
    finally:
        transport.close()


def evaluate_text(
    store: Store,
    artifacts: Sequence[Artifact],
    text: Text,
    *,
    reference: Artifact | None = None,
    n_ctx: int = DEFAULT_CTX,
    max_chunks: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Score files on a text, here, and return their quality in their order; the store has it when this returns.

    With a `reference` there are KL divergence and top-1 agreement too, and the reference itself is scored on the way.
    Files that fit into memory together go through the text together. `threads` changes no figure beyond rounding.
    Raises UsageError, ModelError, EngineError, StoreError.
    """
    method = QualityMethod(
        kind="text",
        dataset=text.name,
        dataset_sha256=text.sha256,
        n_ctx=n_ctx,
        max_chunks=max_chunks,
        reference_sha256=None if reference is None else reference.sha256,
        engine=_ENGINE,
        engine_version=engine_version(),
    )
    work = _Work(store, method, [*([] if reference is None else [reference]), *artifacts], threads, progress)
    job = {"kind": "text", "n_ctx": n_ctx, "max_chunks": max_chunks}

    def do(missing: list[Artifact]) -> None:
        for group in _groups(missing, reference, n_ctx, work.device.memory_available_bytes):
            work.score(
                group,
                {**job, "reference": None if reference is None else 0},
                text.data,
                lambda entries: {"text": _text_figures(entries)},
            )

    return work.have(artifacts, do)


def evaluate_task(
    store: Store,
    artifacts: Sequence[Artifact],
    task: Task,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Ask files the questions of a task, here, and return their quality in their order; the store has it then.

    Raises UsageError, ModelError, EngineError, StoreError.
    """
    method = QualityMethod(
        kind="choices",
        dataset=task.name,
        dataset_sha256=task.sha256,
        engine=_ENGINE,
        engine_version=engine_version(),
    )
    work = _Work(store, method, artifacts, threads, progress)
    items = json.dumps([{"where": item.where, "pairs": item.pairs} for item in task.items]).encode()

    def do(missing: list[Artifact]) -> None:
        work.score(missing, {"kind": "choices"}, items, lambda entries: {"choices": _choice_figures(task, entries)})

    return work.have(artifacts, do)


class _Work:
    """Evaluations by one method on this machine. One process at a time does them in a store: another one waits."""

    def __init__(
        self,
        store: Store,
        method: QualityMethod,
        wanted: Sequence[Artifact],
        threads: int | None,
        progress: Progress | None,
    ) -> None:
        self.device = this_machine()
        self._store = store
        self._method = method
        self._wanted = {self._id(artifact): artifact for artifact in wanted}
        self._threads = threads or _threads_for(wanted)
        self._progress = progress
        self._folder = store.layout.quality

    def have(self, artifacts: Sequence[Artifact], do: Callable[[list[Artifact]], None]) -> list[Evaluation]:
        """Return the evaluations of files, after `do` has made those that the store lacks."""
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise store_error("make", self._folder, error) from error
        with locked(self._folder, self._say_waiting):
            known = find_qualities(self._store, list(self._wanted))
            missing = [artifact for id_, artifact in self._wanted.items() if id_ not in known]
            if missing:
                do(missing)
            found = find_qualities(self._store, list(self._wanted)) if missing else known
        ids = [self._id(artifact) for artifact in artifacts]
        return [Evaluation(found[id_], id_ in known) for id_ in ids]

    def score(
        self,
        group: Sequence[Artifact],
        job: Mapping[str, Any],
        data: bytes,
        figures: Callable[[list[Entry]], dict[str, Any]],
    ) -> None:
        """Score files side by side, go on where an earlier process ended, and keep what came of it."""
        known = find_qualities(self._store, [self._id(artifact) for artifact in group])
        paths = [self._folder / f"{self._id(artifact)}.jsonl" for artifact in group]
        revision = None
        with journals(paths) as kept:
            begins = [
                _NEVER if self._id(artifact) in known else len(journal.entries)
                for artifact, journal in zip(group, kept, strict=True)
            ]
            models = [{"path": a.path, "begin": begin} for a, begin in zip(group, begins, strict=True)]
            total, done = 0, sum(begin for begin in begins if begin != _NEVER)
            for event in score({**job, "models": models, "threads": self._threads}, data):
                if event["event"] == "hello":
                    revision = event["engine_revision"]
                elif event["event"] == "size":
                    total = event["total"] * sum(begin != _NEVER for begin in begins)
                elif event["event"] in ("scores", "choice"):
                    entry = {name: value for name, value in event.items() if name not in ("event", "model")}
                    kept[event["model"]].add(entry)
                    done += 1
                    self._say(done, total)
            for artifact, journal, begin in zip(group, kept, begins, strict=True):
                if sha256_of(Path(artifact.path)) != artifact.sha256:
                    for tainted in kept:
                        tainted.remove()
                    raise ModelError(f"{artifact.path} was changed while it was scored: start again")
                if begin != _NEVER:
                    self._keep(artifact, revision, figures(journal.entries))
                journal.remove()

    def _say_waiting(self) -> None:
        if self._progress is not None:
            self._progress("waiting for another melt that evaluates into this store", 0, 0)

    def _say(self, done: int, total: int) -> None:
        if self._progress is not None:
            names = dict.fromkeys(artifact.name for artifact in self._wanted.values())
            self._progress(f"scoring {', '.join(names)} on {self._method.dataset}", done, total)

    def _keep(self, artifact: Artifact, revision: str | None, figures: dict[str, Any]) -> None:
        keep_quality(
            self._store,
            Quality(
                quality_id=self._id(artifact),
                artifact=artifact,
                method=self._method,
                device=self.device,
                engine_revision=revision,
                evaluated_utc_ns=time.time_ns(),
                melt_version=__version__,
                **figures,
            ),
        )

    def _id(self, artifact: Artifact) -> str:
        # A dataset under another name is the same dataset.
        told = (artifact.sha256, dumps(replace(self._method, dataset="")), self.device.device_id)
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]


def _groups(
    missing: list[Artifact], reference: Artifact | None, n_ctx: int, free_bytes: int | None
) -> Iterator[list[Artifact]]:
    """Deal files out to passes over the text, the reference first in each; a file that fits nowhere goes alone."""
    head = [] if reference is None else [reference]
    others = [artifact for artifact in missing if reference is None or artifact.sha256 != reference.sha256]
    room = None if free_bytes is None else free_bytes * _MEMORY_SHARE
    group = [*head]
    for artifact in others:
        needed = sum(expected_memory(one, n_ctx) for one in (*group, artifact))
        if room is not None and needed > room and len(group) > len(head):
            yield group
            group = [*head]
        group.append(artifact)
    if group:
        yield group


def _threads_for(artifacts: Sequence[Artifact]) -> int:
    largest = max((artifact.n_params or 0 for artifact in artifacts), default=0)
    return max(1, min(os.cpu_count() or 1, round(largest / _PARAMS_PER_THREAD)))


def _text_figures(entries: list[Entry]) -> TextFigures:
    nll = np.array([entry["nll"] for entry in entries])
    if "kl" not in entries[0]:
        return text_figures(nll)
    kl = np.array([entry["kl"] for entry in entries])
    return text_figures(nll, kl, np.array([entry["same"] for entry in entries], dtype=np.bool_))


def _choice_figures(task: Task, entries: list[Entry]) -> ChoiceFigures:
    taken = [chosen(e["log_likelihoods"], item.lengths) for item, e in zip(task.items, entries, strict=True)]
    right = [pick == item.gold for (pick, _), item in zip(taken, task.items, strict=True)]
    right_norm = [pick == item.gold for (_, pick), item in zip(taken, task.items, strict=True)]
    return choice_figures(right, right_norm)
