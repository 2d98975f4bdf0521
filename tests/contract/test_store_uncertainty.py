"""What a figure may be off by is kept with it, and is null where nobody worked it out."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

from store_samples import make_bundle

from melt.records import Metric
from melt.store.listing import FIGURE_COLUMNS
from melt.store.store import Store

FIGURES = {"coverage": 0.98, "u_rate": 0.1, "u_class": 0.6}
ENERGY = Metric(
    name="energy_decode_j", value=12.3, unit="j", source="battery", note="BAT0", uncertainty=0.4, figures=FIGURES
)
RATE = Metric(name="decode_tps", value=20.0, unit="tok/s")


def test_a_metric_comes_back_with_its_uncertainty_and_the_figures_behind_it(tmp_path: Path) -> None:
    bundle = replace(make_bundle(), metrics=(ENERGY, RATE))
    with Store.open(tmp_path) as store:
        store.publish(bundle)
        (found,) = store.bundles()
        assert found.metrics == (ENERGY, RATE)
        written = io.StringIO()
        csv.writer(written).writerows([FIGURE_COLUMNS, *store.figures()])
        rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(written.getvalue()))}
        assert (rows["energy_decode_j"]["uncertainty"], rows["energy_decode_j"]["source"]) == ("0.4", "battery")
        assert rows["decode_tps"]["uncertainty"] == ""
