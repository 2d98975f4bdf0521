"""Simulate nights and count false alarms and delays: `melt regress` beside what people do by hand.

    python -m benchmarks.nightly --histories 400

Each history has 90 nights of one metric, once as it is and once with a level that falls by 5 % at night 60. A method
sees the nights one after the other. `melt` is the code of `melt regress` with its defaults. Writes Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from store_samples import make_bundle

from melt.analysis.changepoints import segments
from melt.analysis.history import Night, Series
from melt.analysis.nightly import each_night
from melt.analysis.policy import Baseline, Policy
from melt.records import Outcome, Verdict

NIGHTS = 90
DROPS_AT = 60
DROP = 0.05
METRIC = "decode_tps"
MELT = Policy(baseline=Baseline("14-nights", 14))


@dataclass(frozen=True)
class Kind:
    """How nights differ: standard deviations as shares."""

    title: str
    sessions: int
    night_cv: float
    session_cv: float
    repetition_cv: float = 0.0
    repetitions: int = 5

    def draw(self, random: np.random.Generator) -> list[list[float]]:
        """Return the sessions of each night."""
        nights = []
        for _ in range(NIGHTS):
            night = 1 + self.night_cv * random.standard_normal()
            sessions = night * (1 + self.session_cv * random.standard_normal(self.sessions))
            noise = 1 + self.repetition_cv * random.standard_normal((self.sessions, self.repetitions))
            nights.append([float(value) for value in 30 * sessions * np.median(noise, axis=1)])
        return nights


KINDS = (
    Kind("one session a night, nights differ by 2 %", 1, 0.0, 0.02),
    Kind("6 sessions a night, sessions differ by 2 %, repetitions by 1.5 %", 6, 0.0, 0.02, 0.015),
    Kind("the same, and nights by 1 % besides", 6, 0.01, 0.02, 0.015),
)


def melt(nights: Sequence[Sequence[float]]) -> tuple[list[bool], int | None]:
    """Return which nights fail, and the night from which on the last of them says that the level fell."""
    series = _series(nights)
    red, since = [], None
    for report in each_night(series, MELT):
        opened = [change for change in report.changes if change.is_open]
        red.append(bool(opened))
        since = opened[-1].night if opened else since
    return red, since


def three_sigma(nights: Sequence[Sequence[float]]) -> tuple[list[bool], int | None]:
    """Fail a night under the mean of the 14 before it by three of their standard deviations."""
    values = [float(np.median(night)) for night in nights]
    red = [False] * len(values)
    for i in range(5, len(values)):
        window = values[max(0, i - 14) : i]
        red[i] = values[i] < np.mean(window) - 3 * np.std(window, ddof=1)
    return red, None


def three_percent(nights: Sequence[Sequence[float]]) -> tuple[list[bool], int | None]:
    """Fail a night that is 3 % below the night before: a fixed threshold between two builds."""
    values = [float(np.median(night)) for night in nights]
    return [False, *(b < 0.97 * a for a, b in itertools.pairwise(values))], None


def looking_back(nights: Sequence[Sequence[float]]) -> tuple[list[bool], int | None]:
    """Fail a night if change points of all nights so far say that its level is lower: melt's third part alone."""
    values = [float(np.median(night)) for night in nights]
    red, since = [], None
    for i in range(len(values)):
        begins = [0, *segments(values[: i + 1]), i + 1]
        levels = [float(np.median(values[a:b])) for a, b in itertools.pairwise(begins)]
        red.append(levels[-1] < 0.99 * max(levels))
        since = begins[-2] if red[-1] else since
    return red, since


METHODS: dict[str, Callable[[Sequence[Sequence[float]]], tuple[list[bool], int | None]]] = {
    "`melt regress`": melt,
    "change points alone": looking_back,
    "3 sigma of the last 14 nights": three_sigma,
    "3 % below the night before": three_percent,
}


def main() -> None:
    """Print a table for each kind of nights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for kind in KINDS:
        print(f"\n{kind.title}\n")
        print("| method | false alarm in 90 nights | drop told | that night | nights late: median, 90 % | located |")
        print("|---|--:|--:|--:|--:|--:|")
        for name, method in METHODS.items():
            print(_row(name, method, kind, args.histories, args.seed), flush=True)


def _row(
    name: str,
    method: Callable[[Sequence[Sequence[float]]], tuple[list[bool], int | None]],
    kind: Kind,
    histories: int,
    seed: int,
) -> str:
    alarmed = 0
    late: list[int] = []
    located: list[int] = []
    for i in range(histories):
        nights = kind.draw(np.random.default_rng((seed, i)))
        alarmed += any(method(nights)[0])
        fallen = nights[:DROPS_AT] + [[value * (1 - DROP) for value in night] for night in nights[DROPS_AT:]]
        red, since = method(fallen)
        if (first := next((n for n in range(DROPS_AT, NIGHTS) if red[n]), None)) is not None:
            late.append(first - DROPS_AT)
            if since is not None:
                located.append(abs(since - DROPS_AT))
    told = f"{len(late) / histories:.1%} | {sum(one == 0 for one in late) / histories:.0%}"
    delays = f"{np.median(late):.0f}, {np.quantile(late, 0.9):.0f}" if late else "-"
    exact = "-"
    if located:
        within = sum(one <= 1 for one in located) / len(located)
        exact = f"exactly {sum(one == 0 for one in located) / len(located):.0%}, within a night {within:.0%}"
    return f"| {name} | {alarmed / histories:.1%} | {told} | {delays} | {exact} |"


def _series(nights: Sequence[Sequence[float]]) -> Series:
    return Series(
        series_id="simulated",
        label="simulated",
        start=make_bundle().start,
        nights=tuple(
            Night(
                sweep_id=f"night-{i:03d}",
                plan="simulated",
                began_utc_ns=i * 86_400_000_000_000,
                run_ids=(),
                outcomes={Outcome.OK: len(values)},
                verdict=Verdict.VALID,
                found={},
                values={METRIC: tuple(values)},
            )
            for i, values in enumerate(nights)
        ),
    )


if __name__ == "__main__":
    main()
