"""Runs by the session that they belong to: what is alike in one for other reasons than the model counts once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from melt.analysis.statistics import median_of
from melt.records import Apart, Outcome, Verdict
from melt.traces import RunBundle
from melt.verdicts import worst


def session_key(bundle: RunBundle) -> Hashable:
    """Return what runs of one session have in common; before melt kept sessions: a block of a sweep on one boot."""
    start = bundle.start
    if start.session is not None:
        return start.session.uid
    return (start.spec.sweep_id, start.device.device_id, start.spec.block, start.device.boot_id)


def by_session(bundles: Iterable[RunBundle]) -> list[list[RunBundle]]:
    """Return the runs of each session, sessions in the order in which they are met."""
    found: dict[Hashable, list[RunBundle]] = {}
    for bundle in bundles:
        found.setdefault(session_key(bundle), []).append(bundle)
    return list(found.values())


def session_values(bundles: Iterable[RunBundle], value: Callable[[RunBundle], float | None]) -> list[float]:
    """Return one value for each session that has any: the median over its runs."""
    medians = (median_of(value(bundle) for bundle in runs) for runs in by_session(bundles))
    return [median for median in medians if median is not None]


def setup_key(bundle: RunBundle) -> str | int:
    """Return what runs have in common that share a setup; one of which none is known has it to itself."""
    return bundle.setup or id(bundle)


def by_setup(bundles: Iterable[RunBundle]) -> list[list[RunBundle]]:
    """Return the runs that share what was asked for and found, as far as that is known, in the order they are met."""
    found: dict[str | int, list[RunBundle]] = {}
    for bundle in bundles:
        found.setdefault(setup_key(bundle), []).append(bundle)
    return list(found.values())


def outcome_of(runs: Sequence[RunBundle]) -> Outcome:
    """Return how a session ended: well where one of its runs did, else as the last of them."""
    return Outcome.OK if any(b.stop.outcome is Outcome.OK for b in runs) else runs[-1].stop.outcome


def is_believed(bundle: RunBundle) -> bool:
    """Return whether a run ended well and its figures may be told, if with doubts."""
    return bundle.stop.outcome is Outcome.OK and bundle.stop.verdict is not Verdict.INVALID


def verdict_of(runs: Sequence[RunBundle]) -> Verdict | None:
    """Return the worst verdict of the runs that a session's figures are of, invalid where it has none for that.

    None where no run ended well.
    """
    if len(runs) == 1:
        # As below, told at once: so it is of nearly all of ten thousand.
        return runs[0].stop.verdict if runs[0].stop.outcome is Outcome.OK else None
    if any(map(is_believed, runs)):
        return worst(bundle.stop.verdict for bundle in runs if is_believed(bundle))
    return Verdict.INVALID if outcome_of(runs) is Outcome.OK else None


def closeness(bundles: Iterable[RunBundle]) -> str | None:
    """Say which sessions had nothing before them but the end of another one, None where there is none."""
    known = {b.start.session.uid: b.start.session for b in bundles if b.start.session is not None}
    close = sum(session.apart is Apart.BLOCK for session in known.values())
    if not close:
        return None
    which = "All sessions but the first" if close == len(known) - 1 else f"{close} of {len(known)} sessions"
    return (
        f"{which} followed the one before without boot, cool-down or pause: such sessions share heat and page cache, "
        "so their spread understates how much another day would differ."
    )
