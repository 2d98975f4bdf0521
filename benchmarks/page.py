"""Measure the page of `melt report`: how long it takes to make, how large it is, when it is seen, when a trace is.

    python benchmarks/page.py [--runs 1000] [--repeat 5]

A store of so many made-up runs, the newest of them half an hour long with 40 channels at 50 Hz. The page is opened anew
each time in Chromium; the first contentful paint is the browser's own figure. Exit code 0 when every bound holds.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Instead of this folder, whose statistics.py would be taken for Python's: hence the imports below it.
# ruff: noqa: E402
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from statistics import median

from heat_samples import tokens
from page_samples import nights, publish, sensors
from playwright.sync_api import sync_playwright

from melt.cli.main import main as melt
from melt.store.store import Store

_FIRST_PAINT_S = 3.0
_A_NIGHT = 16
_TRACE_S, _CHANNELS, _RATE_HZ = 1800.0, 40, 50.0


def _made(n_runs: int) -> list:
    bundles = nights(-(-n_runs // _A_NIGHT))[-n_runs:]
    newest = bundles[-2]
    long = (sensors(_TRACE_S, 1, _RATE_HZ, _CHANNELS), tokens(lambda t: 40 - t / 90, _TRACE_S - 60))
    bundles[-2] = replace(newest, traces=long)
    return bundles


def _opened(browser, path: Path) -> tuple[float, float]:
    """Return the seconds to the first contentful paint, and those from opening the long run to its timeline."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(path.as_uri())
    paint_ms = page.wait_for_function("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    line = page.locator("#runs tbody tr[data-i]").nth(1)
    begin = time.perf_counter()
    line.press("Enter")
    page.locator("#runs .inside svg").wait_for()
    drawn_s = time.perf_counter() - begin
    paint_s = paint_ms.json_value() / 1000
    context.close()
    return paint_s, drawn_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        store, path = Path(folder, "store"), Path(folder, "report.html")
        bundles = _made(args.runs)
        with Store.open(store) as opened:
            publish(opened, bundles)
        begin = time.perf_counter()
        melt(["report", "--store", str(store), "--since", "2000-01-01", "-o", str(path)])
        made_s = time.perf_counter() - begin
        size_mib = path.stat().st_size / 2**20
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            times = [_opened(browser, path) for _ in range(args.repeat)]
            browser.close()
    paint_s, drawn_s = (median(each) for each in zip(*times, strict=True))
    print("| runs | page made in | size | first contentful paint | half an hour drawn after |")
    print("|--:|--:|--:|--:|--:|")
    print(f"| {len(bundles)} | {made_s:.1f} s | {size_mib:.1f} MiB | {paint_s:.2f} s | {drawn_s:.1f} s |")
    return 0 if paint_s < _FIRST_PAINT_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
