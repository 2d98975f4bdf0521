"""Grid intensities: a number, or a country out of codecarbon's table, which need not be installed."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from analysis_samples import channel, make_start, run
from store_samples import make_bundle

from melt.cli import _grid
from melt.errors import PlanError, UsageError
from melt.plan.expand import expand
from melt.plan.flags import PlanFlags, plan_from_flags
from melt.plan.grids import read_grid
from melt.plan.reader import read_plan
from melt.records import Grid
from melt.traces import RunBundle

TABLE = {
    "DEU": {"carbon_intensity": 380.95, "year": 2023},
    "DNK": {"carbon_intensity": 151.6, "year": 2023},
    "ESH": {"carbon_intensity": None, "year": 2009},
}
PLAN = "models: tiny-pydoc\nworkloads: [pp8]\n"


@pytest.fixture
def codecarbon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with codecarbon's table, which nobody may import."""
    path = tmp_path / "codecarbon" / "data" / "private_infra" / "global_energy_mix.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(TABLE))
    (tmp_path / "codecarbon" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "codecarbon-3.3.2.dist-info").mkdir()
    (tmp_path / "codecarbon-3.3.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: codecarbon\nVersion: 3.3.2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return path


def test_a_number_needs_no_table() -> None:
    assert read_grid("380") == Grid(g_per_kwh=380.0)
    assert read_grid("0") == Grid(g_per_kwh=0.0)


@pytest.mark.parametrize("text", ["-1", "3001", "nan", "DE", "380 g", "", "DEU"])
def test_what_is_no_intensity_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"from 0 to 3000, or a country's code of three letters such as DEU, found"):
        read_grid(text)


def test_a_country_is_looked_up_without_importing_codecarbon(codecarbon: Path) -> None:
    found = read_grid("deu", _grid.load_grid)
    assert found == Grid(g_per_kwh=380.95, source="codecarbon 3.3.2", zone="DEU", year=2023)
    assert "codecarbon" not in sys.modules


@pytest.mark.parametrize(("code", "hint"), [("DEN", "'DEN', did you mean DNK"), ("ESH", "'ESH'"), ("QQQ", "'QQQ'")])
def test_a_country_that_the_table_lacks(code: str, hint: str, codecarbon: Path) -> None:
    with pytest.raises(UsageError, match=f"has no intensity of a country {hint}"):
        _grid.load_grid(code)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_table_that_cannot_be_read(content: str, codecarbon: Path) -> None:
    codecarbon.write_text(content)
    with pytest.raises(UsageError, match=r"this codecarbon has no table of countries in .*: `pip install"):
        _grid.load_grid("DEU")


def test_without_codecarbon_a_sentence_says_how_to_get_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(_grid, "find_spec", missing)
    with pytest.raises(UsageError, match="`pip install --no-deps codecarbon` brings the table; or give the number"):
        _grid.load_grid("DEU")


def test_a_plan_has_an_intensity_that_its_runs_keep_and_a_flag_replaces(codecarbon: Path) -> None:
    plan = read_plan(PLAN + "grid: DEU\n", "plan.yaml", load_grid=_grid.load_grid)
    assert plan.grid == Grid(g_per_kwh=380.95, source="codecarbon 3.3.2", zone="DEU", year=2023)
    assert {spec.grid for spec in expand(plan, sweep_id="s", new_run_id=lambda: "r")} == {plan.grid}
    assert plan_from_flags(PlanFlags(), plan).grid == plan.grid
    assert plan_from_flags(PlanFlags(grid="12.5"), plan).grid == Grid(g_per_kwh=12.5)
    assert read_plan(PLAN + "grid: null\n", "plan.yaml").grid is None
    assert read_plan(PLAN, "plan.yaml").grid is None


def test_a_wrong_intensity_is_named_with_its_place() -> None:
    with pytest.raises(PlanError, match=r"plan\.yaml:3: grid: expected grams of CO2e per kWh"):
        read_plan(PLAN + "grid: lots\n", "plan.yaml")
    with pytest.raises(UsageError, match=r"--grid: expected grams of CO2e per kWh"):
        plan_from_flags(PlanFlags(models=("tiny-pydoc",), grid="lots"))


def measured() -> RunBundle:
    meter = channel("w", "power", lambda t: 5.0, site="system", unit="w")
    return replace(make_bundle(), metrics=run(traces=[meter], start=make_start()).metrics)


def carbon(bundle: RunBundle) -> float | None:
    return next(m.value for m in bundle.metrics if m.name == "carbon_response_g" and m.repetition is None)


def test_runs_are_reckoned_with_the_intensity_of_a_flag() -> None:
    before = [measured()]
    assert _grid.reckoned(argparse.Namespace(grid=None), before) == before
    (after,) = _grid.reckoned(argparse.Namespace(grid="360"), before)
    assert (carbon(before[0]), carbon(after)) == (None, pytest.approx(5 * 2.29 / 3.6e6 * 360))
    with pytest.raises(UsageError, match="--grid: expected grams"):
        _grid.reckoned(argparse.Namespace(grid="lots"), before)
