"""The worked numbers of docs/metrics.md, "Heat over time", are those that the code gives."""

from __future__ import annotations

import math
from pathlib import Path

from heat_samples import BOOT_NS, S, tokens

from melt.analysis.heat_curve import KEPT_RATIO, burst_tps, curve, decode_steps, steady, throttled_from_ns

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
BEGINS_S, FALLS_WITHIN_S = 90.0, 7.0
SENTENCES = (
    "Of 300 s the curve has {bins} bins of {width} s.",
    "`burst_tps` is {burst}, `steady_tps` {steady} with bins that vary by {spread} %, `steady_ratio` {ratio} %, "
    "`time_to_throttle_s` {throttle} ± {width}: it fell below 90 % of the burst {real} s after the start. "
    "The mean over the whole run, {mean} tok/s,",
)


def _rate(t_s: float) -> float:
    return 12 + 8 * math.exp(-max(0.0, t_s - BEGINS_S) / FALLS_WITHIN_S)


def numbers() -> dict[str, str]:
    steps = decode_steps(tokens(_rate, 300, noise=0.05, stalls=[(40, 0.5)]))
    found = curve(steps)
    assert found is not None
    burst = burst_tps(found)[0]
    throttled_ns = throttled_from_ns(found, burst)
    assert throttled_ns is not None
    last = steady(found)
    return {
        "bins": str(len(found.rates)),
        "width": f"{found.width_ns / S:.1f}",
        "burst": f"{burst:.1f}",
        "steady": f"{last.rate_tps:.1f}",
        "spread": f"{100 * last.spread_ratio:.1f}",
        "ratio": f"{100 * last.rate_tps / burst:.0f}",
        "throttle": f"{(throttled_ns - BOOT_NS) / S:.1f}",
        "real": f"{BEGINS_S - FALLS_WITHIN_S * math.log((KEPT_RATIO * 20 - 12) / 8):.1f}",
        "mean": f"{float(steps.tokens.sum() / ((steps.end_ns - steps.begin_ns).sum() / S)):.1f}",
    }


def test_the_page_says_what_the_code_computes() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert [text for one in SENTENCES if (text := one.format(**numbers())) not in page] == []
