"""Levels of a model side by side, for people: a table, the recommendation, and what must be known to read both."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence

from melt.analysis.candidates import NOT_EVALUATED
from melt.analysis.choice import (
    ACCURACY,
    DECODE,
    EVEN,
    LEAST_FOR_INTERVAL,
    LOSS,
    QUANTITIES,
    Candidate,
    alike_pairs,
    too_few,
)
from melt.analysis.efficiency_answers import ANSWERS
from melt.analysis.statistics import MIN_SESSIONS
from melt.errors import UsageError
from melt.report.quants_data import LevelTable, level_csv, level_json
from melt.report.quants_text import alike_note, figure_text, loss_note, reason, with_interval
from melt.report.scale import scale_for
from melt.report.table import render_table
from melt.report.words import engine_name, joined
from melt.units import counted, human

FORMATS = ("table", "md", "json", "csv")
_GAP_CELLS = 3
_HEAD = 2
"""Columns before the first level: the quantity and its unit."""

_NONE = "-"
_TINY = -4
"""Power of ten from which on an error is so small that its first digit is enough."""


def render_levels(table: LevelTable, fmt: str) -> str:
    """Write levels as `table`, `md`, `json` or `csv`; the text ends a line. Raises UsageError for another form."""
    notes = list(_notes(table))
    if fmt == "json":
        return level_json(table, notes)
    if fmt == "csv":
        return level_csv(table)
    if fmt not in FORMATS:
        raise UsageError(f"levels cannot be written as {fmt!r}: choose {', '.join(FORMATS)}")
    sentence = reason(table.candidates, table.recommendation, table.dominated)
    parts = [_prose(_caption(table), fmt), *_tables(table, fmt)]
    parts.append(f"**{sentence}**\n" if fmt == "md" else _prose([sentence], fmt))
    parts.append(_prose(notes, fmt, bullets=True))
    return "\n".join(parts)


def _prose(lines: Iterable[str], fmt: str, *, bullets: bool = False) -> str:
    """Break sentences for a screen; Markdown flows by itself."""
    if fmt == "md":
        return "".join(f"- {line}\n" if bullets else f"{line}\n" for line in lines)
    room = shutil.get_terminal_size().columns
    wrapped = (
        textwrap.wrap(line, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in lines
    )
    return "".join(f"{line}\n" for paragraph in wrapped for line in paragraph)


def _caption(table: LevelTable) -> Iterator[str]:
    workloads = " and ".join(workload.name for workload in table.workloads.all)
    yield joined((table.model, engine_name("llama.cpp", table.engine_revision), workloads))
    device = table.device
    if device is None:
        return
    total, free = device.memory_total_bytes, device.memory_available_bytes
    memory = None if total is None else f"{human(total, 'bytes')} memory"
    memory = memory if memory is None or free is None else f"{memory}, {human(free, 'bytes')} of it free"
    system = " ".join(filter(None, (device.os_build or device.os, device.arch)))
    yield joined((device.name, device.soc, system, memory, device.virtualization))


def _tables(table: LevelTable, fmt: str) -> Iterator[str]:
    """Yield one table, or several that share out the levels where the screen is too narrow for all."""
    candidates = table.candidates
    rows = [row for row in _rows(candidates) if any(cell != _NONE for cell in row[_HEAD:])]
    headers = ["level", "", *(_heading(table, candidate) for candidate in candidates)]
    room = shutil.get_terminal_size().columns
    for columns in _dealt(headers, rows, None if fmt == "md" else room):
        shown = [[row[i] for i in columns] for row in rows]
        yield render_table(None, [headers[i] for i in columns], shown, fmt, numeric=range(_HEAD, len(columns)))


def _heading(table: LevelTable, candidate: Candidate) -> str:
    lines = [candidate.level]
    if candidate.level == table.recommendation.level:
        lines.append("recommended")
    if candidate.level in table.dominated:
        lines.append("dominated")
    if candidate.runs and candidate.suspect:
        all_of = candidate.suspect == candidate.sessions
        lines.append("suspect" if all_of else f"{candidate.suspect} of {candidate.sessions} suspect")
    if candidate.outcome is not None:
        lines.append(candidate.outcome)
    return "\n".join(lines)


def _dealt(headers: Sequence[str], rows: Sequence[Sequence[str]], room: int | None) -> list[list[int]]:
    levels = range(_HEAD, len(headers))
    head = list(range(_HEAD))
    for n_tables in range(1, len(levels) + 1):
        size = -(-len(levels) // n_tables)
        dealt = [[*head, *levels[i : i + size]] for i in range(0, len(levels), size)]
        if room is None or all(_width(headers, rows, columns) <= room for columns in dealt):
            break
    return dealt


def _width(headers: Sequence[str], rows: Sequence[Sequence[str]], shown: Iterable[int]) -> int:
    return sum(max(len(line) for row in (headers, *rows) for line in row[i].split("\n")) + _GAP_CELLS for i in shown)


def _rows(candidates: Sequence[Candidate]) -> Iterator[list[str]]:
    yield _quantity_row("file_bytes", candidates)
    yield ["bits per weight", "", *_each(candidates, lambda c: _bits(c))]
    yield ["fell back", "", *_each(candidates, _fallbacks)]
    yield ["fits in memory", "", *_each(candidates, lambda c: c.fits)]
    yield _values_row("expected memory", "bytes", [c.needed_bytes for c in candidates])
    for name in QUANTITIES:
        if name not in ("file_bytes", ACCURACY, LOSS):
            yield _quantity_row(name, candidates)
    yield ["KL divergence", "nats", *_each(candidates, _divergence)]
    yield ["quality loss", "", *_each(candidates, _loss)]
    yield ["perplexity", "", *_each(candidates, _perplexity)]
    yield ["same top-1", "", *_each(candidates, _top1)]
    yield _quantity_row(ACCURACY, candidates)
    for name in ANSWERS:
        yield _answers_row(name, candidates)


def _each(candidates: Iterable[Candidate], write: Callable[[Candidate], str | None]) -> list[str]:
    return [write(candidate) or _NONE for candidate in candidates]


def _quantity_row(name: str, candidates: Sequence[Candidate]) -> list[str]:
    quantity = QUANTITIES[name]
    scale = scale_for((c.figures[name].value for c in candidates if name in c.figures), quantity.unit)
    cells = []
    for candidate in candidates:
        figure = candidate.figures.get(name)
        cells.append(_NONE if figure is None else with_interval(figure, scale))
    return [quantity.title, scale.symbol, *cells]


def _answers_row(name: str, candidates: Sequence[Candidate]) -> list[str]:
    figures = [candidate.answers.get(name) for candidate in candidates]
    scale = scale_for((f.value for f in figures if f is not None and f.value is not None), ANSWERS[name].unit)
    cells = []
    for figure in figures:
        text = _NONE if figure is None or figure.value is None else scale.write(figure.value)
        off = None if figure is None else figure.uncertainty
        cells.append(f"{text} {scale.spread(off or 0.0)}".rstrip())
    return [ANSWERS[name].title, scale.symbol, *cells]


def _values_row(title: str, unit: str, values: Sequence[float | None]) -> list[str]:
    scale = scale_for((value for value in values if value is not None), unit)
    return [title, scale.symbol, *(_NONE if value is None else scale.write(value) for value in values)]


def _bits(candidate: Candidate) -> str | None:
    artifact = candidate.artifact
    return None if artifact is None or artifact.bits_per_weight is None else f"{artifact.bits_per_weight:.2f}"


def _fallbacks(candidate: Candidate) -> str | None:
    artifact = candidate.artifact
    if artifact is None or not artifact.fallbacks:
        return None
    return f"{sum(artifact.fallbacks.values())} of {artifact.n_matrices}"


def _divergence(candidate: Candidate) -> str | None:
    text = None if candidate.text is None else candidate.text.text
    if text is None:
        return None
    if text.kl_mean is None:
        return "reference" if candidate.is_reference else None
    return _with_error(text.kl_mean, text.kl_se)


def _loss(candidate: Candidate) -> str | None:
    figure = candidate.figures.get(LOSS)
    return None if figure is None else "0 %" if figure.exact else figure_text(figure, "ratio")


def _perplexity(candidate: Candidate) -> str | None:
    text = None if candidate.text is None else candidate.text.text
    return None if text is None else _with_error(text.perplexity, text.perplexity_se)


def _top1(candidate: Candidate) -> str | None:
    text = None if candidate.text is None else candidate.text.text
    if text is None or text.top1_agreement is None or text.top1_low is None or text.top1_high is None:
        return None
    return f"{100 * text.top1_agreement:.1f} % ±{50 * (text.top1_high - text.top1_low):.1f}"


def _with_error(value: float, error: float | None) -> str:
    """Write a value and its standard error to the same place: two digits of the error, one of a tiny error."""
    if error is None or error <= 0:
        return f"{value:.4g}"
    exponent = int(f"{error:.1e}".partition("e")[2])
    places = max(0, (1 if exponent > _TINY else 0) - exponent)
    return f"{value:.{places}f} ±{error:.{places}f}"


def _notes(table: LevelTable) -> Iterator[str]:
    candidates = table.candidates
    able = [candidate for candidate in candidates if candidate.runs]
    yield from _how_to_read(able)
    yield from loss_note(candidates)
    for level, by in table.dominated.items():
        yield f"{level} is dominated by {', '.join(by)}: no worse in anything that was measured, better in something."
    yield from _alike(candidates, able)
    yield from _unmeasured(candidates, able)
    for candidate in candidates:
        if candidate.outcome is not None:
            why = f": {candidate.why}" if candidate.why else ""
            yield f"{candidate.level}: {candidate.outcome}{why}"
        elif candidate.out_of_memory:
            yield f"{candidate.level}: {counted(candidate.out_of_memory, 'run')} of it ended because memory ran out."
    yield from _of_files(candidates)


def _how_to_read(able: Sequence[Candidate]) -> Iterator[str]:
    if not able:
        return
    counts = sorted({candidate.sessions for candidate in able})
    sessions = counted(counts[-1], "session") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} sessions"
    if counts[-1] < LEAST_FOR_INTERVAL:
        yield (
            f"Medians of {sessions} a level, without intervals, which take {LEAST_FOR_INTERVAL}: figures within "
            f"{100 * EVEN:g} % of each other count as even, limits within {100 * EVEN:g} % of a session or between "
            "two as not certain."
        )
    else:
        yield f"Medians of {sessions} a level, ± half their 95 % interval or [all of it] (Student's t over sessions)."


def _alike(candidates: Sequence[Candidate], able: Sequence[Candidate]) -> Iterator[str]:
    known = [candidate for candidate in candidates if LOSS in candidate.figures]
    yield from alike_note(alike_pairs(known, LOSS), "Quality by KL divergence, paired over chunks", len(known))
    asked = [candidate for candidate in candidates if ACCURACY in candidate.figures]
    yield from alike_note(alike_pairs(asked, ACCURACY), "Accuracy, by McNemar's test", len(asked))
    least = too_few(able)
    if len(able) > 1 and least is not None:
        yield (
            f"Too few sessions to tell speeds apart ({least}; {MIN_SESSIONS} are needed): by speed, memory and energy "
            "alone no level is said to be better."
        )
    else:
        yield from alike_note(alike_pairs(able, DECODE), "Decode", len(able))


def _unmeasured(candidates: Sequence[Candidate], able: Sequence[Candidate]) -> Iterator[str]:
    """Say what no level has, or some have not, and why."""
    reasons: dict[str, list[str]] = {}
    for name, quantity in QUANTITIES.items():
        concerned = candidates if name in (LOSS, ACCURACY) else able
        lacking: dict[str, list[str]] = {}
        for candidate in concerned:
            if name in candidate.missing:
                lacking.setdefault(candidate.missing[name], []).append(candidate.level)
        for why, levels in lacking.items():
            of = "" if len(levels) == len(concerned) else f" of {', '.join(levels)}"
            reasons.setdefault(why, []).append(f"{quantity.title}{of}")
    if reasons:
        listed = "; ".join(f"{', '.join(titles)} ({why or NOT_EVALUATED})" for why, titles in reasons.items())
        yield f"Not measured: {listed}."


def _of_files(candidates: Sequence[Candidate]) -> Iterator[str]:
    """Give the notes of the files, each with the levels that it is about."""
    about: dict[str, list[str]] = {}
    for candidate in candidates:
        for note in () if candidate.artifact is None else candidate.artifact.notes:
            about.setdefault(note, []).append(candidate.level)
    for note, levels in about.items():
        yield f"{', '.join(levels)}: {note}"
    fallen = {c.level: c.artifact.fallbacks for c in candidates if c.artifact is not None and c.artifact.fallbacks}
    told = [f"{level} {', '.join(f'{n} to {name}' for name, n in types.items())}" for level, types in fallen.items()]
    if told:
        yield f"Matrices whose rows do not fit the level fell back to other types: {'; '.join(told)}."
