"""One HTML file that needs no other: the template, its style, its script and everything that they show."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from melt.analysis.ab import Change
from melt.analysis.nightly import SeriesReport
from melt.records import Verdict
from melt.report.page.background import conditions, doubts, failures, states
from melt.report.page.nights import Nightly, history_pictures, nightly_of
from melt.report.page.parts import Picture, pack, pack_text
from melt.report.page.runs import RunLine, run_detail, run_list
from melt.report.page.summary import Line, Summary
from melt.report.page.timelines import Timelines
from melt.traces import RunBundle

_HERE = Path(__file__).parent
_KNOWN_STATES = frozenset((*Verdict, *Change))
_QUOTED = re.compile("`([^`]*)`")
_MOST_CONDITIONS, _MOST_FAILURES = 24, 60
"""Cards that a reader may still look through."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the top of a page says: the selection in words, when and by which melt it was made, what was left out."""

    selection: str
    made: str
    melt_version: str
    left_out: str = ""


def page_html(
    head: Head,
    bundles: Sequence[RunBundle],
    summary: Summary,
    pictures: Sequence[Picture],
    timelines: Timelines,
    nights: Mapping[str, SeriesReport],
    load_library: Callable[[], str],
) -> str:
    """Write the page. `bundles` are in the order they were made; `load_library` gives the script that draws charts.

    Everything that comes from devices, files and plans is escaped by the template, or packed as base64.
    """
    style, scripts = _asset("page.css"), [_asset(name) for name in ("timeline.js", "page.js")]
    details = [run_detail(bundle) for bundle in bundles]
    places = {bundle.start.spec.run_id: index for index, bundle in enumerate(bundles)}
    histories, undrawn = history_pictures(nights)
    library = load_library() if pictures or histories or timelines.packed else ""
    nightly = [nightly_of(nights, line.series_id) for line in summary.lines]
    listed = run_list(bundles, summary.scales)
    lines = list(reversed(list(enumerate(listed.lines))))
    html: str = _template().render(
        head=head,
        policy=_policy(style, [*scripts, library] if library else scripts),
        style=style,
        scripts=scripts,
        summary=summary,
        nightly=nightly if any(nightly) else [],
        runs=lines,
        columns=listed.columns,
        shared=_shared([line for _, line in lines]),
        run_ids=list(places),
        known_states=_KNOWN_STATES,
        states=states(bundles),
        conditions=conditions(bundles),
        doubts=doubts(bundles),
        failures=failures(bundles),
        most_conditions=_MOST_CONDITIONS,
        most_failures=_MOST_FAILURES,
        pictures=pictures,
        histories=histories,
        undrawn=undrawn,
        timelines=timelines,
        packed={
            "lines": pack([_line_detail(*told, places) for told in zip(summary.lines, nightly, strict=True)]),
            "runs": pack(details),
            "charts": pack([picture.spec for picture in (*pictures, *histories)]),
            "library": pack_text(library),
        },
    )
    return html


def _shared(runs: Sequence[RunLine]) -> dict[str, str]:
    """Return what is the same of all runs, by its name: a column of it would only take room."""
    values = {name: {getattr(run, name) for run in runs} for name in ("device", "model", "workload")}
    return {name: found.pop() for name, found in values.items() if len(found) == 1}


def _line_detail(line: Line, nightly: Nightly | None, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "figures": line.all_figures,
        "nightly": () if nightly is None else nightly.rows,
        "runs": [(places[run_id], run_id) for run_id in line.run_ids],
    }


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Return a policy under which the page can load nothing, send nothing, and run these scripts alone.

    The charts' library is none of the page until it is wanted; its hash lets it in then. Vega computes with an
    interpreter of its own (`ast`), so that nothing need be evaluated.
    """
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _worded(text: str) -> Markup:
    """Escape a sentence, and set apart what it quotes between backticks."""
    return Markup(_QUOTED.sub(r"<code>\1</code>", str(escape(text))))


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["worded"] = _worded
    return environment.get_template("page.html")
