"""A journal is decoded only by the melt that asked for it, wherever on the device its programs were."""

from __future__ import annotations

from dataclasses import replace

import pytest

from melt.fleet.finish import _was_sampled_by
from melt.records import Stream
from melt.targets.jobfile import Job
from melt.telemetry.base import PYTHON, STREAMS, Discovery, LineSource
from melt.telemetry.schedule import make_schedule

STREAM = Stream(collector="c", name="p_w", quantity="power", unit="w", site="system", source="program", rate_hz=10.0)


def schedule(*argv: str, period_s: float | None = None):
    return make_schedule(Discovery(lines=(LineSource("c", argv, (STREAM,), lambda raw: (0.0,), period_s),)))


def job(*argv: str, period_s: float | None = None) -> bytes:
    made = schedule(*argv, period_s=period_s)
    placed = [replace(one, argv=argv) for one in (*made.streams, *made.polls)]
    return Job(run_id="r", runner=("x",), **{"polls" if period_s else "streams": tuple(placed)}).render()


@pytest.mark.parametrize("period_s", [None, 1.0])
def test_programs_may_lie_anywhere(period_s: float | None) -> None:
    meant = schedule(PYTHON, f"{STREAMS}/meter.py", "100", period_s=period_s)
    for python, folder in (("python3", "/srv/streams"), ("/home/some one/.melt/venv/bin/python", "/home/some one/b")):
        assert _was_sampled_by(meant, job(python, f"{folder}/meter.py", "100", period_s=period_s))


@pytest.mark.parametrize("argv", [("python3", "/a/meter.py", "50"), ("python3", "/a/other.py", "100"), ("meter",)])
def test_another_program_is_not_understood(argv: tuple[str, ...]) -> None:
    assert not _was_sampled_by(schedule(PYTHON, f"{STREAMS}/meter.py", "100"), job(*argv))


def test_one_program_more_is_not_understood() -> None:
    assert not _was_sampled_by(make_schedule(Discovery()), job("meter"))
