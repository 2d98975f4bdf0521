"""A run that is not to be believed: what every verb says of it, and that none takes its figures."""

from __future__ import annotations

import json

from melt_rig import Melt


def assert_refused(melt: Melt, code: str, sentence: str) -> None:
    """See that the last run, the only one of the store, is told as invalid for this reason, and left out of everything.

    `sentence` is a part of the reason's message.
    """
    shown = " ".join(melt.here("show", "last").stdout.split())
    assert "ok, invalid" in shown
    assert f"{code}: " in shown
    assert sentence in shown
    left_out = melt.here("runs", "--only-valid", "-o", "json")
    assert json.loads(left_out.stdout) == []
    assert "left out by --only-valid: 1 invalid (" in left_out.stderr
    assert f"{code} 1" in left_out.stderr
    assert "no run in the store is valid" in melt.here("show", "--only-valid", check=2).stderr
    assert f"{code} 1" in melt.here("compare", "--only-valid", check=2).stderr
    compared = melt.here("compare", "-o", "json")
    assert "without their figures, which are not to be believed: 1 invalid (" in compared.stderr
    rows = [row["metric"] for group in json.loads(compared.stdout)["groups"] for row in group["rows"]]
    assert not [metric for metric in rows if metric.endswith(("_tps", "_w", "_j"))]
