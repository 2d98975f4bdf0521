"""A run that is judged by thresholds of its own, from the flag to the comparison."""

from __future__ import annotations

import json

import pytest
from melt_rig import TINY, Melt
from refused import assert_refused


@pytest.mark.slow
def test_a_reason_that_is_to_be_invalid_is_so_to_the_end(melt: Melt) -> None:
    cell = (*TINY, "-n", "8", "-r", "2", "-t", "1")
    done = melt("run", *cell, "--invalid", "too_few_repetitions", "--threshold", "unstable_cv=50%", check=0)
    assert "without their figures, which are not to be believed: 1 invalid (" in done.stderr
    assert "too_few_repetitions 1" in done.stderr
    assert "No session is valid." in done.stdout
    asked = json.loads(melt.here("show", "last", "-o", "json").stdout)["start"]["spec"]["thresholds"]
    assert (asked["unstable_cv"], asked["invalid"]) == (0.5, ["too_few_repetitions"])
    assert "judged by unstable_cv=0.5 invalid=too_few_repetitions" in " ".join(melt.here("show").stdout.split())
    assert_refused(melt, "too_few_repetitions", "2 measured repetitions")
