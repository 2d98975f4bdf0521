"""Sentences on levels of a model: which one to take and why, what cannot be told apart, what is not known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from melt.analysis.choice import LOSS, QUANTITIES, Candidate, Figure
from melt.analysis.recommend import GOALS, Limit, Met, Recommendation
from melt.report.scale import Scale, scale_for
from melt.units import counted

_BEST = {
    "quality": "the best quality",
    "speed": "the fastest decode",
    "size": "the smallest file",
    "energy": "the least energy per token",
}
_VERBS = (
    ("excludes", Met.MISSED),
    ("is not certain for", Met.NOT_CERTAIN),
    ("was not measured for", Met.NOT_MEASURED),
)
_UNITS = MappingProxyType(
    {
        "bytes": {"": (1.0, "B"), "k": (1e3, "kB"), "m": (1e6, "MB"), "g": (1e9, "GB"), "t": (1e12, "TB")}
        | {"ki": (2.0**10, "KiB"), "mi": (2.0**20, "MiB"), "gi": (2.0**30, "GiB")},
        "s": {"ms": (1e-3, "ms"), "s": (1.0, "s")},
        "j/tok": {"": (1.0, "J/tok"), "j": (1.0, "J/tok"), "mj": (1e-3, "mJ/tok")},
    }
)
"""Stored unit -> unit of a limit as it is written, in lower case -> how large one is, and its symbol."""

_DIGITS = 3
_MOST_NAMED = 4
"""Levels that are passed over and named with their reason; more make a sentence that nobody reads."""
_MOST_PLACES = 5
_LOPSIDED = 0.25
"""How far a figure may be off the middle of its interval, as a share of half of that, for a ± to tell where it lies."""
_SHOWN_PAIRS = 6
"""More pairs than these are counted instead of named."""


def reason(candidates: Sequence[Candidate], advice: Recommendation, dominated: Mapping[str, Sequence[str]]) -> str:
    """Say in one sentence which level is recommended and why, or why none is."""
    by = {candidate.level: candidate for candidate in candidates}
    able = [candidate for candidate in candidates if candidate.runs]
    if not able:
        return "No level is recommended: none was measured on this device."
    if advice.goal is None:
        free = [candidate.level for candidate in able if candidate.level not in dominated]
        trade = (
            f"{joined_and(free)} are not dominated by another one"
            if len(free) > 1
            else f"only {free[0]} is not dominated"
        )
        return (
            f"No limit was given, so none is recommended: {trade}; say what you need, "
            "with --min-tps, --max-memory or --max-quality-loss for some."
        )
    if advice.level is not None:
        return _recommended(by, able, advice)
    return _none(by, able, advice)


def _recommended(by: Mapping[str, Candidate], able: Sequence[Candidate], advice: Recommendation) -> str:
    chosen = by[str(advice.level)]
    goal = str(advice.goal)
    n = len(advice.eligible)
    met = [_against(chosen, limit) for limit in advice.limits]
    limits = "limit" if len(met) == 1 else "limits"
    if not met:
        text = f"{chosen.level}: {_BEST[goal]} of all levels ({_figure(chosen, GOALS[goal][0])})"
    elif n == 1:
        text = f"{chosen.level}: the only level that meets your {limits} ({', '.join(met)})"
    else:
        own = [] if GOALS[goal][0] in {limit.quantity for limit in advice.limits} else [_figure(chosen, GOALS[goal][0])]
        text = f"{chosen.level}: {_BEST[goal]} of the {n} that meet your {limits} ({', '.join((*met, *own))})"
    if advice.ties:
        text += f", together with {joined_and(advice.ties)}, which the data cannot tell from it in that"
    alone = n == 1 and bool(met)
    refused = [c.level for c in able if c.level not in advice.eligible] if alone else list(advice.passed_over)
    parts = [_passed(by[level], advice) for level in refused[:_MOST_NAMED]]
    if len(refused) > _MOST_NAMED:
        more = len(refused) - _MOST_NAMED
        parts.append(f"{counted(more, 'level')} more {'does' if more == 1 else 'do'} not meet the {limits} for certain")
    return "; ".join((text, *parts)) + "."


def _passed(candidate: Candidate, advice: Recommendation) -> str:
    """Say by which limits a level is passed over."""
    parts = []
    for verb, state, write in (("misses", Met.MISSED, _in_its_unit), ("may miss", Met.NOT_CERTAIN, _doubtful)):
        found = [limit for limit, s in zip(advice.limits, advice.met[candidate.level], strict=True) if s is state]
        if found:
            parts.append(f"{verb} {' and '.join(f'{one.flag} ({write(candidate, one)})' for one in found)}")
    unknown = [
        limit.flag for limit, s in zip(advice.limits, advice.met[candidate.level], strict=True) if s is Met.NOT_MEASURED
    ]
    if unknown:
        parts.append(f"was not measured for {' and '.join(unknown)}")
    return f"{candidate.level} {', '.join(parts)}"


def _none(by: Mapping[str, Candidate], able: Sequence[Candidate], advice: Recommendation) -> str:
    if advice.eligible:
        decides = GOALS[str(advice.goal)][0]
        meet = "meets" if len(advice.eligible) == 1 else "meet"
        limits = "limit" if len(advice.limits) == 1 else "limits"
        but = f"{joined_and(advice.eligible)} {meet} your {limits}, but " if advice.limits else ""
        why = _common_why([by[level] for level in advice.eligible], decides)
        return f"No level is recommended: {but}{QUANTITIES[decides].title}, which is to decide, was not measured{why}."
    told = []
    for i, limit in enumerate(advice.limits):
        for verb, state in _VERBS:
            those = [candidate for candidate in able if advice.met[candidate.level][i] is state]
            if those:
                why = _common_why(those, limit.quantity) if state is Met.NOT_MEASURED else ""
                told.append(f"{_bound(limit)} {verb} {_all_of(those, able, state)}{why}")
    text = f"No level meets all limits for certain: {'; '.join(told)}"
    near = by.get(str(advice.nearest))
    if near is None:
        return text + "."
    states = zip(advice.limits, advice.met[near.level], strict=True)
    doubts = {limit: state for limit, state in states if state is not Met.MET}
    open_ = [_shown(near, limit, state) for limit, state in doubts.items()]
    more = f"; {_more(doubts)} would tell" if set(doubts.values()) == {Met.NOT_CERTAIN} else ""
    return f"{text}; {near.level} comes nearest ({', '.join(open_)}{more})."


def _more(doubted: Iterable[Limit]) -> str:
    """Say what narrows the intervals that limits lie in."""
    return joined_and(dict.fromkeys("more text" if limit.quantity == LOSS else "more sessions" for limit in doubted))


def _shown(candidate: Candidate, limit: Limit, state: Met) -> str:
    """Write how a figure stands to a bound that it does not meet: `file size 106 MB is over 90MB by 18 %`."""
    figure = candidate.figures.get(limit.quantity)
    if figure is None:
        why = candidate.missing.get(limit.quantity)
        return f"{QUANTITIES[limit.quantity].title} not measured" + (f": {why}" if why else "")
    if state is Met.NOT_CERTAIN:
        return f"{_doubtful(candidate, limit)}, which may miss {limit.said}"
    share = float(f"{100 * abs(figure.value - limit.bound) / limit.bound:.2g}")
    side = "under" if limit.at_least else "over"
    return f"{_in_its_unit(candidate, limit)} is {side} {limit.said} by {share:g} %"


def _all_of(those: Sequence[Candidate], able: Sequence[Candidate], state: Met) -> str:
    if len(those) == len(able) > 1:
        return "all" if state is Met.MISSED else "any level"
    return joined_and(candidate.level for candidate in those)


def _common_why(those: Iterable[Candidate], name: str) -> str:
    """Say in brackets why none of them has a figure, where it is the same of all."""
    reasons = {candidate.missing.get(name) for candidate in those}
    why = reasons.pop()
    return f" ({why})" if why and not reasons else ""


def _against(candidate: Candidate, limit: Limit) -> str:
    """Write a figure beside its bound: `12.3 ±0.2 tok/s >= 10`."""
    sign = ">=" if limit.at_least else "<="
    return f"{_in_its_unit(candidate, limit)} {sign} {limit.said}"


def _in_its_unit(candidate: Candidate, limit: Limit) -> str:
    """Write a figure in the unit of its bound: 101 MiB and 120MB cannot be set side by side at a glance."""
    figure, quantity = candidate.figures.get(limit.quantity), QUANTITIES[limit.quantity]
    if figure is None or quantity.unit not in _UNITS:
        return _figure(candidate, limit.quantity)
    return f"{quantity.title} {_written(figure, _scale_beside(figure, limit))}"


def _scale_beside(figure: Figure, limit: Limit) -> Scale:
    """Return the unit of the bound, with three digits of the figure, else the figure's own."""
    own = QUANTITIES[limit.quantity].unit
    written = limit.said.lstrip("0123456789. ").lower()
    unit = _UNITS.get(own, {}).get(written.removesuffix("b") if own == "bytes" else written)
    if unit is None:
        return scale_for([figure.value], own)
    factor, symbol = unit
    whole_digits = math.floor(math.log10(abs(figure.value) / factor)) + 1 if figure.value else _DIGITS
    return Scale(factor, symbol, min(_MOST_PLACES, max(0, _DIGITS - whole_digits)))


def _doubtful(candidate: Candidate, limit: Limit) -> str:
    """Write a figure that may miss its bound, with its sessions where they differ and are too few for an interval."""
    figure, text = candidate.figures.get(limit.quantity), _in_its_unit(candidate, limit)
    if figure is None or spread_of(figure) is not None or not figure.values:
        return text
    scale = _scale_beside(figure, limit)
    least, most = scale.write(min(figure.values)), scale.write(max(figure.values))
    return text if least == most else f"{text}, {least} to {most} by session"


def _bound(limit: Limit) -> str:
    return f"{limit.flag} {limit.said}"


def _figure(candidate: Candidate, name: str) -> str:
    """Write a figure with its interval and its name: `decode 12.3 ±0.2 tok/s`."""
    figure = candidate.figures.get(name)
    title = QUANTITIES[name].title
    return f"{title} not measured" if figure is None else f"{title} {figure_text(figure, QUANTITIES[name].unit)}"


def figure_text(figure: Figure, unit: str) -> str:
    """Write a figure with half of its interval, both in one prefix: `12.3 ±0.2 tok/s`."""
    spread = spread_of(figure)
    if unit == "ratio" and spread:
        digits, exponent = f"{100 * spread:.1e}".split("e")
        # One digit of it that counts, two where the first is a 1: 1 may be 1.4.
        places = min(_MOST_PLACES, max(0, digits.startswith("1") - int(exponent)))
        return f"{100 * figure.value:.{places}f} ±{100 * spread:.{places}f} %"
    return _written(figure, scale_for([figure.value], unit))


def _written(figure: Figure, scale: Scale) -> str:
    return f"{with_interval(figure, scale)} {scale.symbol}".rstrip()


def with_interval(figure: Figure, scale: Scale) -> str:
    """Write a figure without its unit: `12.3 ±0.2`, or `655 [203, 2110]` where it is not in the middle."""
    text, spread = scale.write(figure.value), spread_of(figure)
    if not spread or figure.low is None or figure.high is None:
        return text
    if abs(figure.low + spread - figure.value) > _LOPSIDED * spread:
        return f"{text} [{scale.write(figure.low)}, {scale.write(figure.high)}]"
    return f"{text} {scale.spread(spread)}".rstrip()


def spread_of(figure: Figure) -> float | None:
    """Return half of a figure's interval, None where it has none."""
    if figure.low is None or figure.high is None:
        return None
    return (figure.high - figure.low) / 2


def joined_and(words: Iterable[str]) -> str:
    """Put words into a list as people do: `a, b and c`."""
    listed = list(words)
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def alike_note(pairs: Sequence[tuple[str, str]], what: str, n_levels: int) -> Iterator[str]:
    """Say which levels the data cannot tell apart."""
    if not pairs:
        return
    if len(pairs) == n_levels * (n_levels - 1) // 2 and n_levels > 2:
        yield f"{what}: no two of the levels can be told apart."
    else:
        listed = "; ".join(f"{a} and {b}" for a, b in pairs[:_SHOWN_PAIRS])
        more = len(pairs) - _SHOWN_PAIRS
        yield (
            f"{what}: cannot be told apart: {listed}"
            + (f"; and {counted(more, 'pair')} more" if more > 0 else "")
            + "."
        )


def loss_note(candidates: Sequence[Candidate]) -> Iterator[str]:
    """Say in which order the qualities are, and where they were evaluated."""
    known = [c for c in candidates if LOSS in c.figures and c.text is not None]
    if not known:
        return
    first = known[0].text
    assert first is not None
    yield (
        "Quality loss is exp(KL divergence) - 1: by how much the perplexity is above the original's on text as the "
        "original would write it; its ± is the 95 % interval over chunks, which of one chunk is not known, that of KL "
        "divergence and perplexity one standard error, that of same top-1 and accuracy Wilson's 95 % interval. "
        f"Evaluated on {first.device.name} "
        f"({first.method.engine_version}), on {first.method.dataset}, with the very files that were timed."
    )
