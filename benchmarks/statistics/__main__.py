"""How often melt's verdicts are wrong, and what they see, on sessions whose truth is known; beside pooling repetitions.

    python -m benchmarks.statistics --draws 2000

Sessions differ by 2 %, repetitions within one by 1.5 %: what quiet devices showed. Each line draws both sides anew,
judges them with the very code of `melt compare A B`, and counts. *Pooled* is what is usually done instead: the same
Mann-Whitney test on all repetitions as if each were a session. Writes Markdown.

It lies in a folder of its own: beside the other benchmarks a file of this name would hide Python's own `statistics`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from melt.analysis.ab import THRESHOLDS, Change, Difference, has_ratio, judge_ab
from melt.analysis.names import METRICS
from melt.analysis.ranks import mann_whitney_p
from melt.analysis.resample import Sample

SESSION_CV = 0.02
REPETITION_CV = 0.015
ALPHA = 0.05
METRIC = "decode_tps"
SHAPES = ((3, 10), (6, 5), (6, 10), (10, 5), (10, 10))
STANDARD = ((6, 10), (10, 10))
EFFECTS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08)

Noise = Callable[[np.random.Generator, int], np.ndarray]

NOISES: dict[str, Noise] = {
    "normal": lambda random, n: random.normal(size=n),
    "heavy tails (t, 3 degrees)": lambda random, n: random.standard_t(3, n) / math.sqrt(3),
    "skewed (exponential)": lambda random, n: 1 - random.exponential(size=n),
}
"""How sessions differ, each with a standard deviation of 1."""


def side(random: np.random.Generator, sessions: int, repetitions: int, level: float, noise: Noise) -> Sample:
    """Draw one side: a rate around `level`."""
    luck = SESSION_CV * noise(random, sessions)[:, None]
    rates = level * np.exp(luck + REPETITION_CV * random.normal(size=(sessions, repetitions)))
    return Sample(np.median(rates, axis=1), rates)


def draws(n: int, seed: int, shape: tuple[int, int], effect: float, noise: Noise) -> Iterator[tuple[Sample, Sample]]:
    """Draw A and B so often, B slower by `effect`."""
    random = np.random.default_rng(seed)
    for _ in range(n):
        yield side(random, *shape, 1.0, noise), side(random, *shape, 1 - effect, noise)


def judged(a: Sample, b: Sample, threshold: float) -> Difference:
    """Judge one metric alone."""
    return judge_ab({METRIC: (a, b)}, {METRIC: threshold})[0]


def is_told(difference: Difference) -> bool:
    """Whether a change was claimed."""
    return difference.change in (Change.REGRESSED, Change.IMPROVED)


def excludes_1(difference: Difference) -> bool:
    """Whether the interval speaks of a difference."""
    return difference.low is not None and difference.high is not None and not difference.low <= 1 <= difference.high


def false_alarms(n: int, seed: int) -> Iterator[list[str]]:
    """Yield how often two equal sides are called different. An interval that excludes 1 misses the true ratio."""
    yield ["sessions", "sessions x repetitions", "pooled", "interval excludes 1", "verdict", "verdict, from 3 % on"]
    for name, noise in NOISES.items():
        for shape in SHAPES if name == "normal" else STANDARD:
            counts = np.zeros(4)
            for a, b in draws(n, seed, shape, 0.0, noise):
                judged_so = judged(a, b, 0.0), judged(a, b, 0.03)
                pooled = mann_whitney_p(_all(a), _all(b)) < ALPHA
                counts += (pooled, excludes_1(judged_so[0]), *map(is_told, judged_so))
            yield [name, _shape(shape), *(f"{100 * share:.1f} %" for share in counts / n)]


def power(n: int, seed: int) -> Iterator[list[str]]:
    """Yield how often a slower B is called regressed, from 3 % on, and what melt said it would see."""
    yield ["sessions x repetitions", *(f"-{100 * effect:g} %" for effect in EFFECTS), "said: seen from"]
    for shape in SHAPES[1:]:
        shares, promised = [], []
        for effect in EFFECTS:
            found = [judged(a, b, 0.03) for a, b in draws(n, seed, shape, effect, NOISES["normal"])]
            shares.append(sum(one.change is Change.REGRESSED for one in found) / n)
            promised += [one.detectable for one in found if one.detectable is not None]
        yield [_shape(shape), *(f"{100 * share:.0f} %" for share in shares), f"{100 * np.median(promised):.1f} %"]


def families(n: int, seed: int) -> Iterator[list[str]]:
    """Yield how often any of the metrics of equal sides is called different, and how a slower one fares among them."""
    names = list(THRESHOLDS)
    headers = ("any false, by Holm", "any false, each by itself", "-6 % found, by Holm", "said: seen from")
    yield ["sessions x repetitions", *headers]
    for shape in STANDARD:
        random = np.random.default_rng(seed)
        counts, promised = np.zeros(3), []
        for _ in range(n):
            equal = {name: _pair(random, shape, 1.0) for name in names}
            together = judge_ab(equal, dict.fromkeys(names, 0.0))
            alone = any(one.p is not None and one.p < ALPHA and excludes_1(one) for one in together)
            slower = judge_ab({**equal, METRIC: _pair(random, shape, 0.94)}, dict.fromkeys(names, 0.03))
            found = next(one for one in slower if one.metric == METRIC)
            promised.append(found.detectable or math.nan)
            counts += (any(map(is_told, together)), alone, found.change is Change.REGRESSED)
        shares = (f"{100 * share:.1f} %" for share in counts / n)
        yield [_shape(shape), *shares, f"{100 * float(np.median(promised)):.1f} %"]


def speed() -> Iterator[list[str]]:
    """Yield how long it takes to judge ten cells of twenty metrics, six sessions of ten repetitions a side."""
    yield ["cells x metrics", "CPU time, median of five, s"]
    random = np.random.default_rng(1)
    names = [name for name in METRICS if has_ratio(name)][:20]
    cells = [{name: _pair(random, (6, 10), 1.0) for name in names} for _ in range(10)]
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        for cell in cells:
            judge_ab(cell)
        seconds.append(time.process_time() - begun)
    yield [_shape((len(cells), len(names))), f"{np.median(seconds):.2f}"]


def _all(one: Sample) -> np.ndarray:
    return one.values if one.repetitions is None else one.repetitions.ravel()


def _pair(random: np.random.Generator, shape: tuple[int, int], level: float) -> tuple[Sample, Sample]:
    return side(random, *shape, 1.0, NOISES["normal"]), side(random, *shape, level, NOISES["normal"])


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _print(title: str, rows: Iterator[list[str]]) -> None:
    print(f"{title}\n")
    for i, row in enumerate(rows):
        print(f"| {' | '.join(row)} |", flush=True)
        if i == 0:
            print(f"|{'---|' * len(row)}")
    print()


def main() -> int:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="comparisons for each figure (default: 2000)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    _print("False alarms: two equal sides called different", false_alarms(args.draws, args.seed))
    _print("Power: a slower side called regressed, from 3 % on", power(args.draws, args.seed))
    _print(f"{len(THRESHOLDS)} metrics judged together", families(args.draws, args.seed))
    _print("Time", speed())
    return 0


if __name__ == "__main__":
    sys.exit(main())
