"""`--grid`: a given intensity, or a country's out of codecarbon's table, which is read without importing codecarbon."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.records import Grid
    from melt.traces import RunBundle

HELP = "greenhouse gas of a kWh: grams of CO2e, such as 380, or a country's code, such as DEU (needs codecarbon)"

_TABLE = Path("data", "private_infra", "global_energy_mix.json")
_INSTALL = "`pip install --no-deps codecarbon` brings the table; or give the number, in grams per kWh"


def add_grid_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--grid` to a verb that shows runs."""
    parser.add_argument("--grid", metavar="G_PER_KWH", help=f"reckon with another {HELP}")


def reckoned(args: argparse.Namespace, bundles: Sequence[RunBundle]) -> list[RunBundle]:
    """Return the runs with the intensity that the flag names, as they are without it. Raises UsageError."""
    from melt.analysis.derived import with_grid
    from melt.plan.grids import read_grid

    if args.grid is None:
        return list(bundles)
    try:
        grid = read_grid(args.grid, load_grid)
    except UsageError as error:
        raise UsageError(f"--grid: {error}") from error
    return [with_grid(bundle, grid) for bundle in bundles]


def load_grid(code: str) -> Grid:
    """Return the yearly mean of a country by its ISO 3166 alpha-3 code. Raises UsageError."""
    from melt.records import Grid

    table = _table()
    if not isinstance(entry := table.get(code), dict) or not isinstance(entry.get("carbon_intensity"), int | float):
        close = difflib.get_close_matches(code, table, n=3)
        hint = f", did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"codecarbon's table has no intensity of a country {code!r}{hint}")
    year = entry.get("year")
    return Grid(
        g_per_kwh=float(entry["carbon_intensity"]),
        source=f"codecarbon {version('codecarbon')}",
        zone=code,
        year=year if isinstance(year, int) else None,
    )


def _table() -> dict[str, Any]:
    # Finding a package does not import it: codecarbon's own import takes seconds and a dozen packages.
    found = find_spec("codecarbon")
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise UsageError(f"a country's code needs codecarbon's table, and it is not here: {_INSTALL}")
    path = Path(folders[0]) / _TABLE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"this codecarbon has no table of countries in {path}: {_INSTALL}") from error
    if not isinstance(table, dict):
        raise UsageError(f"this codecarbon has no table of countries in {path}: {_INSTALL}")
    return table
