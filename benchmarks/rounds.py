"""What the transfer benchmarks share: figures taken in turns, shown beside what a user would use instead."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping

from rich.table import Table

TRIPS_PER_ROUND = 10


def seconds(act: Callable[[], object]) -> float:
    """Time one call."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def transfers_in_turn(
    transfers: Mapping[str, Callable[[], object]],
    number: int,
    rounds: int,
    size: int,
    clear: Callable[[], object],
    seen: dict[str, list[float]],
) -> None:
    """Take each transfer once, the one that begins changing from round to round: MB/s."""
    names = list(transfers)
    for name in names[number % len(names) :] + names[: number % len(names)]:
        clear()
        print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
        seen[name].append(size / 1e6 / seconds(transfers[name]))


def trips_in_turn(trips: Mapping[str, Callable[[], object]], seen: dict[str, list[float]]) -> None:
    """Take each round trip several times, one after the other: ms."""
    for _ in range(TRIPS_PER_ROUND):
        for name, trip in trips.items():
            seen[name].append(1e3 * seconds(trip))


def table(title: str, seen: Mapping[str, list[float]], transfer: str, trip: str, beside: str) -> Table:
    """Show medians, quartiles and the ratio to the reference transfer and the reference trip."""
    shown = Table("what", "median", "quartiles", f"to {beside}", title=title)
    for name, values in seen.items():
        low, middle, high = statistics.quantiles(values, n=4)
        is_trip = "true" in name or "already" in name
        unit = "ms" if is_trip else "MB/s"
        ratio = "" if "already" in name else f"{middle / statistics.median(seen[trip if is_trip else transfer]):.2f}"
        shown.add_row(name, f"{middle:.1f} {unit}", f"{low:.1f} … {high:.1f}", ratio)
    return shown


def paired(mine: list[float], theirs: list[float]) -> float:
    """Return the median of the ratios of figures taken one after the other."""
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
