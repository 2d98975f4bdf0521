"""The quality of the levels of `melt quants`: evaluated here, or as far as the store has it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from melt.cli._bars import progress_bars
from melt.cli._storeargs import store_root
from melt.errors import MeltError

if TYPE_CHECKING:
    from melt.analysis.candidates import AskedLevel
    from melt.quality.evaluate import Evaluation
    from melt.quality.tasks import Task
    from melt.quality.text import Text
    from melt.records import Artifact
    from melt.records.quality import Quality
    from melt.store.store import Store

    _Work = Callable[..., list[Evaluation]]

_NOT_YET = "not evaluated yet"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Evaluations of the levels; `unmeasured` says by sha256 why a file has none."""

    qualities: tuple[Quality, ...] = ()
    unmeasured: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Datasets:
    """What levels are scored on."""

    text: Text
    task: Task

    @classmethod
    def of(cls, args: argparse.Namespace) -> Datasets:
        """Read what the flags name, else take what travels with melt. Raises UsageError."""
        from melt.quality.tasks import read_task, shipped_task
        from melt.quality.text import find_text, shipped_text

        return cls(
            shipped_text() if args.text is None else find_text(args.text),
            shipped_task() if args.tasks is None else read_task(args.tasks),
        )

    def evaluate(
        self, args: argparse.Namespace, origin: Artifact, levels: Sequence[AskedLevel], *, only_known: bool
    ) -> Evaluated:
        """Score the levels that were made; one that cannot be scored says why. `only_known`: only look in the store."""
        from melt.quality.evaluate import evaluate_task, evaluate_text
        from melt.store.store import Store

        files = [one.artifact for one in levels if one.artifact is not None]
        if not files:
            return Evaluated()
        with Store.open(store_root(args)) as store, progress_bars(tenths=True) as progress:
            if only_known:
                return self._known(store, args, origin, files)

            how: dict[str, Any] = {"threads": args.quality_threads, "progress": progress}
            works: tuple[_Work, ...] = (
                partial(evaluate_text, text=self.text, reference=origin, n_ctx=args.ctx, max_chunks=args.chunks, **how),
                partial(evaluate_task, task=self.task, **how),
            )
            found, unmeasured = _done(works, store, files)
        known = sum(one.known for one in found)
        if known:
            print(f"melt: {known} of {len(found)} evaluations were in the store", file=sys.stderr)
        return Evaluated(tuple(one.quality for one in found), unmeasured)

    def _known(self, store: Store, args: argparse.Namespace, origin: Artifact, files: Sequence[Artifact]) -> Evaluated:
        from melt.store.quality import qualities_of

        wanted = {
            ("text", self.text.sha256, args.ctx, args.chunks, origin.sha256),
            ("choices", self.task.sha256, None, None, None),
        }
        found = [
            quality
            for artifact in files
            for quality in qualities_of(store, artifact.sha256)
            if (
                quality.method.kind,
                quality.method.dataset_sha256,
                quality.method.n_ctx,
                quality.method.max_chunks,
                quality.method.reference_sha256,
            )
            in wanted
        ]
        alike = alike_of(found)
        return Evaluated(alike, {artifact.sha256: _NOT_YET for artifact in files})


def alike_of(found: Sequence[Quality]) -> tuple[Quality, ...]:
    """Keep of each kind those by one engine on one machine: the pair that tells of the most files, else the newest."""
    kept: list[Quality] = []
    for kind in ("text", "choices"):
        groups: dict[tuple[str, str], list[Quality]] = {}
        for quality in sorted((q for q in found if q.method.kind == kind), key=lambda q: q.evaluated_utc_ns):
            groups.setdefault((quality.method.engine_version, quality.device.device_id), []).append(quality)
        if groups:
            chosen = max(groups.values(), key=_told)
            kept += chosen
    return tuple(kept)


def _told(group: Sequence[Quality]) -> tuple[int, int]:
    """Return of how many files evaluations tell, and when the newest was made; they are oldest first."""
    return len({quality.artifact.sha256 for quality in group}), group[-1].evaluated_utc_ns


def _done(works: Iterable[_Work], store: Store, files: list[Artifact]) -> tuple[list[Evaluation], dict[str, str]]:
    """Evaluate all files, and say why some could not be: the table of the others is worth having."""
    found: list[Evaluation] = []
    unmeasured: dict[str, str] = {}

    def failed(artifact: Artifact, error: MeltError) -> None:
        unmeasured.setdefault(artifact.sha256, str(error))
        print(f"melt: the quality of {artifact.quant or artifact.name}: {error}", file=sys.stderr)

    for work in works:
        try:
            found += work(store, files, failed=failed)
        except MeltError as error:
            print(f"melt: the quality is not known: {error}", file=sys.stderr)
            unmeasured |= {artifact.sha256: str(error) for artifact in files if artifact.sha256 not in unmeasured}
    return found, unmeasured
