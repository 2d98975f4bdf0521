"""The worked numbers of docs/metrics.md on what follows from energy are those that the code gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analysis_samples import channel, make_start, run

from melt.records import Battery, Grid, Metric
from melt.report.scale import scale_for

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def found() -> dict[str, Metric]:
    start = make_start(grid=Grid(g_per_kwh=380.95))
    battery = Battery(basis="measured", source="charge_full", charge_coulomb=4.0 * 3600, nominal_v=3.85)
    meter = channel("w", "power", lambda t: 5.0, site="system", unit="w", rate_hz=10.0)
    done = run(traces=[meter], start=replace(start, device=replace(start.device, battery=battery)))
    return {m.name: m for m in done.metrics if m.repetition is None}


def written(metric: Metric, unit: str | None = None) -> str:
    assert metric.value is not None
    scale = scale_for([metric.value], unit or metric.unit)
    return f"{scale.write(metric.value)} {scale.symbol}".strip()


def test_the_page_says_what_the_code_computes() -> None:
    told = found()
    response, responses = told["energy_response_j"], told["responses_per_battery"]
    charge = told["charge_response_coulomb"]
    assert charge.value is not None
    lines = (
        f"in {told['e2e_s'].value} s",
        f"| decode | {written(told['tokens_per_j'])} |",
        f"| energy of a response | {response.value:.2f} J ± {response.uncertainty:.2f} = {written(response, 'mwh')} |",
        f"| charge | {charge.value:.2f} C = {charge.value / 3.6:.2f} mAh |",
        f"| responses of a full battery | {responses.value:.0f} ± {responses.uncertainty:.0f} |",
        f"| energy-delay product | {written(told['energy_delay_js'])} |",
        f"| CO2e | {written(told['carbon_response_g']).removesuffix(' CO2e')} |",
    )
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert [line for line in lines if line not in page] == []
