"""Words for a terminal: no control bytes, within so many cells, and in ASCII where nothing else can be shown."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size

from melt.records import Outcome, RunSpec, Verdict
from melt.traces import RunBundle
from melt.units import human

_IN_ASCII = str.maketrans({"…": "~", "→": "->", "°": None, "µ": "u", "×": "x", "–": "-", "—": "-", "’": "'"})


def knows_unicode(encoding: str | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether more than ASCII can be shown: the C locale cannot, even where Python would write UTF-8 to it."""
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), "C")
    return locale not in ("C", "POSIX") and (encoding or "").lower().replace("-", "").startswith("utf")


def clean(text: str) -> str:
    """Put a text on one line: what a device said may hold control bytes, and marks that turn the line around."""
    words = "".join(" " if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") else letter for letter in text)
    return " ".join(words.split())


def in_ascii(text: str) -> str:
    """Write a text without what only Unicode has; letters that are lost become question marks."""
    return text.translate(_IN_ASCII).encode("ascii", "replace").decode()


def shorten(text: str, cells: int) -> str:
    """Cut a text to so many cells, and show that it was cut."""
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + "…" if cells > 0 else ""


def shorten_middle(text: str, cells: int) -> str:
    """Leave out the middle: the ends tell apart serial numbers and addresses."""
    if cell_len(text) <= cells:
        return text
    if cells < 3:
        return shorten(text, cells)
    tail = ""
    for letter in reversed(text):
        if cell_len(letter + tail) > cells // 2:
            break
        tail = letter + tail
    return set_cell_size(text, cells - 1 - cell_len(tail)).rstrip() + "…" + tail


def first_that_fits(texts: Sequence[str], cells: int) -> str:
    """Choose the first text of so many cells at most, else cut the last one."""
    return next((text for text in texts if cell_len(text) <= cells), shorten(texts[-1], cells) if texts else "")


def wrap(text: str, cells: int) -> list[str]:
    """Break a text between words into lines of so many cells; a longer word has a line of its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= cells:
            lines[-1] = longer
        else:
            lines.append(f"  {word}")
    return [line for line in lines if line]


def duration(seconds: float) -> str:
    """Write how long something takes in six cells at most: `45 s`, `12 min`, `3.4 h`.

    >>> duration(45), duration(730), duration(12_240)
    ('45 s', '12 min', '3.4 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 99.5 * 3600 else f"{seconds / 86_400:.1f} d"


def clock(seconds: float) -> str:
    """Write a span as hours, minutes and seconds: `0:12:40`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def title(spec: RunSpec) -> str:
    """Name a run as people do: its cell, and which of the cell's sessions it is; a reference run is none of them."""
    return f"{spec.label} (reference)" if spec.reference else f"{spec.label} #{spec.block + 1}"


def describe(bundle: RunBundle) -> str:
    """Write one line on a finished run: rates where they were measured, else what happened."""
    stop = bundle.stop
    values = {m.name: m.value for m in bundle.metrics if m.repetition is None and m.value is not None}
    parts = []
    if (prefill := values.get("prefill_tps")) is not None:
        parts.append(f"prefill {prefill:.1f} tok/s")
    if (decode := values.get("decode_tps")) is not None:
        parts.append(f"decode {decode:.1f} tok/s")
    if (latency := values.get("inference_p50_s")) is not None:
        parts.append(f"p50 {human(latency, 's')}")
    if (rate := values.get("inferences_per_s")) is not None:
        parts.append(human(rate, "inferences/s"))
    if (hottest := values.get("temperature_max_c")) is not None:
        parts.append(f"{hottest:.0f} °C")
    if stop.outcome is not Outcome.OK:
        parts.insert(0, str(stop.outcome))
        parts.extend(reason.message for reason in stop.reasons[:1])
    elif stop.verdict is not Verdict.VALID:
        parts.append(f"{stop.verdict}: {', '.join(reason.code for reason in stop.reasons)}")
    return ", ".join(parts) or str(stop.outcome)
