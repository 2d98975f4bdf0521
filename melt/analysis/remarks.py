"""What a reader must know of the runs that are compared: doubts, notes of files, unlike thresholds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from melt.analysis.order_effect import CODE as ORDER_CODE
from melt.analysis.order_effect import OrderEffect
from melt.analysis.sessions import by_setup
from melt.records import Outcome, Thresholds, Verdict
from melt.traces import RunBundle
from melt.verdicts import changed


def judged_by(bundles: Iterable[RunBundle]) -> tuple[str, ...]:
    """Say by which thresholds the verdicts are where these are not melt's own, and where they are not the same."""
    runs: Counter[Thresholds] = Counter()
    for alike in by_setup(bundles):
        runs[_in_order(alike[0].start.spec.thresholds)] += len(alike)
    if set(runs) == {Thresholds()}:
        return ()
    told = [f"{n} by {changed(one) or 'the defaults'}" for one, n in runs.items()]
    if len(told) == 1:
        return (f"All verdicts are by {changed(next(iter(runs)))}.",)
    return (f"Runs were judged by unlike thresholds, so their verdicts do not compare: {'; '.join(told)}.",)


def _in_order(thresholds: Thresholds) -> Thresholds:
    """Name what makes a run invalid by the alphabet: a plan may name it in any order."""
    return replace(thresholds, invalid=tuple(sorted(set(thresholds.invalid))))


def without(effects: Iterable[OrderEffect], bundles: Iterable[RunBundle]) -> list[RunBundle]:
    """Leave out of the runs' doubts the order effects that have a sentence of their own."""
    told = {(effect.sweep_id, effect.device) for effect in effects}
    return [
        replace(b, stop=replace(b.stop, reasons=tuple(r for r in b.stop.reasons if r.code != ORDER_CODE)))
        if (b.start.spec.sweep_id, b.start.device.name) in told
        else b
        for b in bundles
    ]


def doubts(bundles: Sequence[RunBundle], label: Callable[[RunBundle], str]) -> tuple[str, ...]:
    """Return what a reader must know of the files and the runs: a sentence for each thing, and whom it is about."""
    about: dict[tuple[str, str], dict[str, None]] = {}
    messages: dict[tuple[str, str], list[str]] = {}
    for bundle in bundles:
        stop = bundle.stop
        found = [("", note, note) for note in bundle.start.artifact.notes]
        if stop.outcome is not Outcome.OK:
            found += [(str(stop.outcome), r.code, r.message) for r in stop.reasons[:1]]
        elif stop.verdict is not Verdict.VALID:
            found += [(str(stop.verdict), r.code, r.message) for r in stop.reasons]
        for state, code, message in found:
            about.setdefault((state, code), {})[label(bundle)] = None
            messages.setdefault((state, code), []).append(message)
    return tuple(
        f"{', '.join(labels)}: {_counted(state, len(messages[state, code]))}{messages[state, code][0]}"
        for (state, code), labels in about.items()
    )


def _counted(state: str, n: int) -> str:
    """Introduce a sentence that stands for `n` runs."""
    if not state:
        return ""
    return f"{state}, " if n == 1 else f"{state} in {n} runs, for example "
