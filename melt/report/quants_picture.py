"""The picture of levels: quality against decode rate, with the size of the file as area."""

from __future__ import annotations

from melt.analysis.choice import DECODE, LOSS, QUANTITIES, SIZE, Candidate, Figure
from melt.analysis.recommend import Met
from melt.report.charts.pareto import Axis, ParetoPoint, State, pareto_spec
from melt.report.quants_data import LevelTable
from melt.report.quants_text import figure_text, reason


def picture(table: LevelTable) -> dict[str, object]:
    """Return the chart of a table, as Vega-Lite."""
    points = [_point(table, candidate) for candidate in table.candidates]
    device = "" if table.device is None else f" on {table.device.name}"
    return pareto_spec(
        points,
        Axis(title="Decode", unit="tok/s", better="higher"),
        Axis(title="Quality loss", unit="ratio", better="lower"),
        title=f"Levels of {table.model}{device}",
        subtitle=reason(table.candidates, table.recommendation, table.dominated),
    )


def _point(table: LevelTable, candidate: Candidate) -> ParetoPoint:
    x, y = candidate.figures.get(DECODE), candidate.figures.get(LOSS)
    size = candidate.figures.get(SIZE)
    details = {
        QUANTITIES[name].title: figure_text(figure, QUANTITIES[name].unit)
        for name, figure in candidate.figures.items()
        if name not in (DECODE, LOSS, SIZE)
    }
    return ParetoPoint(
        label=candidate.level,
        x=None if x is None else x.value,
        y=None if y is None else y.value,
        x_interval=_interval(x),
        y_interval=_interval(y),
        size_bytes=None if size is None else size.value,
        state=_state(table, candidate),
        details=details,
    )


def _state(table: LevelTable, candidate: Candidate) -> State:
    advice = table.recommendation
    if not candidate.runs:
        return "failed"
    if candidate.level == advice.level:
        return "recommended"
    if any(state is not Met.MET for state in advice.met.get(candidate.level, ())):
        return "refused"
    return "dominated" if candidate.level in table.dominated else "front"


def _interval(figure: Figure | None) -> tuple[float, float] | None:
    if figure is None or figure.low is None or figure.high is None:
        return None
    return figure.low, figure.high
