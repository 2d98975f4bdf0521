"""The limits that a level must meet, as flags: sizes, shares, durations and rates in the words that people use."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.analysis.recommend import Limit

_UNITS_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_UNITS_J = {"": 1.0, "J": 1.0, "j": 1.0, "mJ": 1e-3, "mj": 1e-3}
"""Megajoules are none: a token takes none, and who writes 400MJ may mean a billionth of it."""
_GOALS = ("quality", "speed", "size", "energy")
_MOST_PERCENT = 1e6


def add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a level must meet, and what is wanted most of those that do."""
    group = parser.add_argument_group(
        "limits", "What the level must meet for certain; a figure that was not measured meets none."
    )
    for flag, metavar, read, text in (
        ("--min-tps", "TPS", _number, "decode at least so many tokens a second"),
        ("--min-sustained-tps", "TPS", _number, "the same under load, when it has become steady"),
        ("--max-ttft", "TIME", _seconds, "time to the first token at most, such as 800ms or 2s"),
        ("--max-memory", "SIZE", _size, "peak memory of the runner at most, such as 3GB or 800MiB"),
        ("--max-size", "SIZE", _size, "model file at most"),
        ("--max-energy", "J", _joules, "energy per decoded token at most, such as 0.4 or 400mJ"),
        ("--max-temperature-rise", "K", _number, "temperature rise under load at most, in degrees"),
        (
            "--max-quality-loss",
            "SHARE",
            _share,
            "perplexity at most so much above the original's, such as 2%%, on text as the original would write it: "
            "exp(KL divergence) - 1, which luck cannot make smaller",
        ),
    ):
        group.add_argument(flag, metavar=metavar, type=read, help=text)
    group.add_argument(
        "--prefer",
        choices=_GOALS,
        help="what is wanted most of the levels that meet the limits (default: quality; speed where only the quality "
        "is limited)",
    )


def limits_from_args(args: argparse.Namespace) -> tuple[Limit, ...]:
    """Return the limits that were given, in the order of the help."""
    from melt.analysis.recommend import FLAGS, Limit

    given = vars(args)
    asked = ((flag, quantity, given[flag[2:].replace("-", "_")]) for flag, quantity in FLAGS.items())
    return tuple(Limit(flag, quantity, *bound) for flag, quantity, bound in asked if bound is not None)


def _read(read: Callable[[str], float], example: str, unit: str = "") -> Callable[[str], tuple[float, str]]:
    """Make the type of a flag: the bound, and how it was written, with the `unit` of a number that has none."""

    def checked(text: str) -> tuple[float, str]:
        try:
            value = read(text.strip())
        except (ValueError, KeyError, UsageError):
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise argparse.ArgumentTypeError(f"expected a value above 0 such as {example}, found {text!r}")
        said = text.strip()
        return value, f"{said} {unit}" if unit and said[-1] in "0123456789." else said

    return checked


def _with_unit(text: str, units: dict[str, float] | dict[str, int]) -> float:
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([A-Za-z]*)", text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * units[match[2]]


def _duration(text: str) -> float:
    from melt.plan.values import duration

    return duration(text)


def _loss(text: str) -> float:
    """Read a share, or per cent, of which there may be more than 100: a coarse level can double the perplexity."""
    from melt.plan.values import number, ratio

    return number(0, _MOST_PERCENT)(text[:-1].rstrip()) / 100 if text.endswith("%") else ratio(text)


_number = _read(float, "10")
_size = _read(
    lambda text: _with_unit(text.lower().removesuffix("b"), _UNITS_BYTES),
    "3GB (10^9 bytes), 800MB or 2GiB (2^30 bytes)",
    "B",
)
_joules = _read(lambda text: _with_unit(text, _UNITS_J), "0.4 (joules per token) or 400mJ", "J")
_seconds = _read(_duration, "800ms or 2s", "s")
_share = _read(_loss, "2% (or 0.02; above 1 only in per cent)")
