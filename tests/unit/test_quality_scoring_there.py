"""What a journal says of an evaluation: long lines are put together, and an end without a word has a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from melt.session.collect import Collected
from melt.session.scoring import _Reader
from melt.telemetry.journal import Event, Line


def test_lines_that_the_journal_cut_are_put_together() -> None:
    seen: list[Mapping[str, Any]] = []
    reader = _Reader(seen.append)
    line = json.dumps({"event": "scores", "index": 0, "nll": [1.0] * 10}).encode()
    reader.look([Line(0, 1, True, line[:7]), Line(1, 1, False, b"a complaint")])
    reader.look([Line(0, 2, False, line[7:]), Line(0, 3, False, b'{"event": "fin')])
    assert [event["event"] for event in seen] == ["scores"]
    assert not reader.last_word
    reader.look([Line(0, 4, False, b'{"event": "finish"}')])
    assert reader.last_word


@pytest.mark.parametrize(
    ("end", "exited", "interrupted", "why"),
    [
        ({"reason": "stopped"}, {}, True, "was stopped"),
        ({"reason": "completed"}, {"oom_kill": True}, False, "was killed there because memory ran out"),
        ({"reason": "died", "rebooted": True}, {}, False, "ended when the device started anew"),
        ({"reason": "completed"}, {"oom_kill": False}, False, "ended there: a complaint"),
    ],
)
def test_an_end_without_a_last_word_has_a_reason(
    end: dict[str, object], exited: dict[str, object], interrupted: bool, why: str
) -> None:
    reader = _Reader(lambda _: None)
    reader.look([Line(1, 1, False, b"a complaint"), Event("runner_exited", 2, exited)])
    assert reader.why(Collected("ended", end, interrupted)) == why
