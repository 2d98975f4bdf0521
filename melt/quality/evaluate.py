"""Evaluate model files on a text or a task: what the store has is taken from there, what was cut short goes on.

It is done on this machine, or on a device through its agent: melt/quality/places.py.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from melt import __version__
from melt.analysis.quality import choice_figures, chosen, text_figures
from melt.codec import dumps
from melt.errors import EngineError, MeltError, ModelError
from melt.models.digest import sha256_of
from melt.models.files import Progress
from melt.models.inspect import expected_memory
from melt.quality.journal import Entry, journals
from melt.quality.places import Here, Place
from melt.quality.tasks import Task
from melt.quality.text import Text
from melt.quality.worker import Event
from melt.records import Artifact
from melt.records.quality import ChoiceFigures, Quality, QualityMethod, TextFigures
from melt.session.scoring import Work
from melt.store.files import locked, store_error
from melt.store.quality import find_qualities, keep_quality
from melt.store.store import Store

DEFAULT_CTX = 512
"""Length of the chunks of a text, as llama-perplexity's."""

_ENGINE = "llama.cpp"
_MEMORY_SHARE = 0.6
"""Of the free memory, what the files that are scored side by side may take."""

_PARAMS_PER_THREAD = 20e6
"""llama.cpp's threads wait for each other by spinning, several times a layer: for a smaller model a second one gives
little, and where others use the CPUs it cost a factor of 20 on a model of 3 million parameters."""

_NEVER = 2**31 - 1
"""The first chunk wanted of a reference whose own figures are known."""

Failed = Callable[[Artifact, MeltError], None]
"""Told which file could not be evaluated, and why."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The quality of one file; `known` says that it was in the store already."""

    quality: Quality
    known: bool


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
    place: Place | None = None,
    failed: Failed | None = None,
) -> list[Evaluation]:
    """Score files on a text and return their quality in their order; the store has it when this returns.

    With a `reference` there are KL divergence and top-1 agreement too, and the reference itself is scored on the way.
    Files that fit into memory together go through the text together. `threads` changes no figure beyond rounding. It is
    done at `place`, by default here. A file that cannot be scored is told to `failed` and left out; without a `failed`
    it ends all. Raises UsageError, ModelError, EngineError, DeviceError, StoreError.
    """
    place = place or Here()
    method = QualityMethod(
        kind="text",
        dataset=text.name,
        dataset_sha256=text.sha256,
        n_ctx=n_ctx,
        max_chunks=max_chunks,
        reference_sha256=None if reference is None else reference.sha256,
        engine=_ENGINE,
        engine_version=place.engine_version,
    )
    head = [] if reference is None else [reference]
    job = {"kind": "text", "n_ctx": n_ctx, "max_chunks": max_chunks, "reference": 0 if head else None}
    work = _Work(store, place, method, [*head, *artifacts], threads, progress, failed)

    def do(missing: list[Artifact]) -> None:
        for group in _groups(missing, reference, n_ctx, place.device.memory_available_bytes):
            work.score(group, len(head), job, text.data, lambda entries: {"text": _text_figures(entries)})

    return work.have(artifacts, do)


def evaluate_task(
    store: Store,
    artifacts: Sequence[Artifact],
    task: Task,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    place: Place | None = None,
    failed: Failed | None = None,
) -> list[Evaluation]:
    """Ask files the questions of a task and return their quality in their order; the store has it then.

    `place` and `failed` are those of `evaluate_text`. Raises UsageError, ModelError, EngineError, DeviceError,
    StoreError.
    """
    place = place or Here()
    method = QualityMethod(
        kind="choices",
        dataset=task.name,
        dataset_sha256=task.sha256,
        engine=_ENGINE,
        engine_version=place.engine_version,
    )
    work = _Work(store, place, method, artifacts, threads, progress, failed)
    items = json.dumps([{"where": item.where, "pairs": item.pairs} for item in task.items]).encode()

    def do(missing: list[Artifact]) -> None:
        work.score(missing, 0, {"kind": "choices"}, items, lambda entries: {"choices": _choice_figures(task, entries)})

    return work.have(artifacts, do)


class _Work:
    """Evaluations by one method at one place. One process at a time does them in a store: another one waits."""

    def __init__(
        self,
        store: Store,
        place: Place,
        method: QualityMethod,
        wanted: Sequence[Artifact],
        threads: int | None,
        progress: Progress | None,
        failed: Failed | None,
    ) -> None:
        self._store = store
        self._place = place
        self._method = method
        self._wanted = {self._id(artifact): artifact for artifact in wanted}
        self._threads = threads or _threads_for(wanted, place.threads)
        self._progress = progress
        self._failed = failed
        self._errors: dict[str, MeltError] = {}
        self._folder = store.layout.quality

    def have(self, artifacts: Sequence[Artifact], do: Callable[[list[Artifact]], None]) -> list[Evaluation]:
        """Return the evaluations of files, after `do` has made those that the store lacks; tell which failed."""
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
        for id_ in map(self._id, artifacts):
            if id_ not in found and self._failed is not None:
                self._failed(self._wanted[id_], self._errors[id_])
        ids = [id_ for id_ in map(self._id, artifacts) if id_ in found]
        return [Evaluation(found[id_], id_ in known) for id_ in ids]

    def score(
        self,
        group: Sequence[Artifact],
        n_head: int,
        job: Mapping[str, Any],
        data: bytes,
        figures: Callable[[list[Entry]], dict[str, Any]],
    ) -> None:
        """Score files side by side and keep what came of it; the first `n_head` are needed for all others.

        Where that fails each is scored for itself, so that one that cannot be does not take the others with it.
        """
        try:
            self._score(group, job, data, figures)
        except (ModelError, EngineError) as error:
            if self._failed is None:
                raise
            alone = group[n_head:]
            if len(alone) > 1:
                for artifact in alone:
                    self.score([*group[:n_head], artifact], n_head, job, data, figures)
            else:
                self._errors |= {self._id(artifact): error for artifact in group}

    def _score(
        self,
        group: Sequence[Artifact],
        job: Mapping[str, Any],
        data: bytes,
        figures: Callable[[list[Entry]], dict[str, Any]],
    ) -> None:
        """Score files, go on where an earlier process ended, and keep what came of it."""
        known = find_qualities(self._store, [self._id(artifact) for artifact in group])
        paths = [self._folder / f"{self._id(artifact)}.jsonl" for artifact in group]
        wanted = [self._id(artifact) not in known for artifact in group]
        revision, total = None, 0
        with journals(paths) as kept:

            def rest() -> Mapping[str, Any]:
                begins = [len(one.entries) if want else _NEVER for one, want in zip(kept, wanted, strict=True)]
                return {**job, "models": [{"begin": begin} for begin in begins], "threads": self._threads}

            def see(event: Event) -> None:
                nonlocal revision, total
                if event["event"] == "hello":
                    revision = event["engine_revision"]
                elif event["event"] == "size":
                    total = event["total"] * sum(wanted)
                elif event["event"] in ("scores", "choice"):
                    journal = kept[event["model"]]
                    # What was begun on a device before is heard again from its start.
                    if event["index"] == len(journal.entries):
                        journal.add({name: value for name, value in event.items() if name not in ("event", "model")})
                        self._say(sum(len(one.entries) for one, want in zip(kept, wanted, strict=True) if want), total)

            self._place.score(Work(self._key(group, wanted, job), rest, tuple(group), data), see)
            for artifact, journal, want in zip(group, kept, wanted, strict=True):
                if sha256_of(Path(artifact.path)) != artifact.sha256:
                    for tainted in kept:
                        tainted.remove()
                    raise ModelError(f"{artifact.path} was changed while it was scored: start again")
                if want:
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
                device=self._place.device,
                engine_revision=revision,
                evaluated_utc_ns=time.time_ns(),
                melt_version=__version__,
                **figures,
            ),
        )

    def _id(self, artifact: Artifact) -> str:
        # A dataset under another name is the same dataset.
        told = (artifact.sha256, dumps(replace(self._method, dataset="")), self._place.device.device_id)
        return _digest(*told)

    def _key(self, group: Sequence[Artifact], wanted: Sequence[bool], job: Mapping[str, Any]) -> str:
        """Name this work: whoever asks for the same of the same files goes on with it."""
        return _digest(json.dumps(job, sort_keys=True), *map(self._id, group), *map(str, wanted))


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]


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


def _threads_for(artifacts: Sequence[Artifact], most: int) -> int:
    largest = max((artifact.n_params or 0 for artifact in artifacts), default=0)
    return max(1, min(most, round(largest / _PARAMS_PER_THREAD)))


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
