"""What `melt run` says by its exit status: whether every cell has its answer."""

from __future__ import annotations

import pytest

from melt.cli.run import ended_as_asked
from melt.records import Outcome

ANSWERS = ("ok", "oom", "unsupported")


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_level_that_does_not_fit_is_an_answer_and_a_failure_is_none(outcome: Outcome) -> None:
    assert ended_as_asked([Outcome.OK, outcome]) == (outcome in ANSWERS)


def test_answers_without_a_single_measurement_are_none() -> None:
    assert not ended_as_asked([Outcome.OOM, Outcome.UNSUPPORTED])
    assert ended_as_asked([]), "a sweep that lacks nothing and was done before"
