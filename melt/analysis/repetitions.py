"""What a runner reported, cut into repetitions; and the time of every token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from melt.analysis.series import Span
from melt.engines.base import Generation, Inference
from melt.records import Stream, Window
from melt.traces import Trace

TOKENS = "tokens"
"""The collector's name of the trace with every token's time."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """One repetition of the workload: its phases and requests."""

    index: int
    warmup: bool
    windows: tuple[Window, ...]
    generations: tuple[Generation, ...]
    inferences: tuple[Inference, ...] = ()

    @property
    def span(self) -> Span | None:
        """From the first submission to the last token or phase; None when nothing happened."""
        starts = [*(w.t0_ns for w in self.windows), *(g.submit_ns for g in self.generations)]
        ends = [*(w.t1_ns for w in self.windows), *(g.token_ns[-1] for g in self.generations if g.token_ns)]
        return (min(starts), max(ends)) if starts and ends else None

    def phase(self, name: str) -> list[Window]:
        """Return the windows of a phase that last."""
        return [w for w in self.windows if w.phase == name and w.t1_ns > w.t0_ns]


def repetitions_of(
    windows: Iterable[Window], generations: Iterable[Generation], inferences: Iterable[Inference] = ()
) -> list[Repetition]:
    """Put windows and requests together by repetition, warm-ups first."""
    windows, generations, inferences = list(windows), list(generations), list(inferences)
    keys = {(w.warmup, w.repetition) for w in windows if w.repetition is not None}
    keys |= {(g.warmup, g.repetition) for g in generations}
    keys |= {(i.warmup, i.repetition) for i in inferences if i.t0_ns}
    return [
        Repetition(
            index=index,
            warmup=warmup,
            windows=tuple(w for w in windows if (w.warmup, w.repetition) == (warmup, index)),
            generations=tuple(g for g in generations if (g.warmup, g.repetition) == (warmup, index)),
            inferences=tuple(i for i in inferences if (i.warmup, i.repetition) == (warmup, index)),
        )
        for warmup, index in sorted(keys, key=lambda key: (not key[0], key[1]))
    ]


def sampled_repetitions(samples: Mapping[str, Sequence[float]]) -> list[Repetition]:
    """Return the repetitions of a runner that tells samples and no times: they have no phases and no requests."""
    return [Repetition(index, False, (), ()) for index in range(max(map(len, samples.values()), default=0))]


def token_gaps_s(generations: Iterable[Generation]) -> list[float]:
    """Return the time between each token and the one before it, within each request, in seconds."""
    return [float(gap) / 1e9 for g in generations for gap in np.diff(np.array(g.token_ns, np.int64))]


def token_trace(generations: Sequence[Generation]) -> Trace:
    """Return a row per token. `itl_s` is NaN for a request's first token, `token_id` where the runner gave none."""
    rows = [
        (
            t_ns,
            g.repetition,
            g.warmup,
            request,
            index,
            _gap_s(g, index),
            _token_id(g, index),
            g.depth + g.n_prompt + index,
        )
        for request, g in enumerate(generations)
        for index, t_ns in enumerate(g.token_ns)
    ]
    names = (
        ("repetition", "count", "1"),
        ("warmup", "state", "1"),
        ("request", "count", "1"),
        ("index", "count", "1"),
        ("itl_s", "duration", "s"),
        ("token_id", "count", "1"),
        ("depth", "count", "1"),
    )
    return runner_trace(TOKENS, names, rows)


def runner_trace(collector: str, names: Sequence[tuple[str, str, str]], rows: Iterable[tuple[float, ...]]) -> Trace:
    """Make a trace of what a runner told; `names` are (name, quantity, unit), a row is its time, then their values."""
    ordered = sorted(rows, key=lambda row: row[0])
    return Trace(
        collector=collector,
        t_ns=np.array([row[0] for row in ordered], np.int64),
        columns={
            name: np.array([row[i] for row in ordered], np.float64) for i, (name, _, _) in enumerate(names, start=1)
        },
        streams=tuple(
            Stream(
                collector=collector,
                name=name,
                quantity=quantity,
                unit=unit,
                site="runner",
                source="runner",
                rate_hz=0.0,
            )
            for name, quantity, unit in names
        ),
    )


def _gap_s(generation: Generation, index: int) -> float:
    return (generation.token_ns[index] - generation.token_ns[index - 1]) / 1e9 if index else float("nan")


def _token_id(generation: Generation, index: int) -> float:
    return float(generation.token_ids[index]) if index < len(generation.token_ids) else float("nan")
