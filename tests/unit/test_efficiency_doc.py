"""The worked numbers of docs/metrics.md on efficiency are those that the code gives, and it names every figure."""

from __future__ import annotations

from pathlib import Path

from analysis_samples import figures, notes, run
from efficiency_samples import dimensioned, used

from melt.analysis.efficiency_answers import ANSWERS
from melt.units import human

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_says_what_the_code_computes() -> None:
    done = run(used(), start=dimensioned())
    shares, said = figures(done), notes(done)

    def share(name: str) -> str:
        roof = "memory" if "roof of memory" in (said[name] or "") else "compute"
        return human(shares[name], "ratio") + (f", {roof}" if name.startswith("roofline") else "")

    lines = [
        f"| {title} | {share(f'{name}_prefill_ratio')} | {share(f'{name}_decode_ratio')} |"
        for title, name in (("MFU", "mfu"), ("of the roofline", "roofline"))
    ]
    page = PAGE.read_text(encoding="utf-8")
    assert [line for line in lines if line not in page] == []
    assert [name for name in ANSWERS if f"`{name}`" not in page] == []
