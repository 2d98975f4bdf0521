"""When a device is set aside: for what it did itself three times in a row, and for nothing that a cell did."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.errors import AgentError, Gone, MeltError, NoSpace, StoreError, Unauthorized
from melt.fleet.setbacks import SetAside, Setbacks
from melt.records import Outcome, Reason
from melt.traces import RunBundle


def _ended(outcome: Outcome, code: str = "", *, tried: bool = True) -> RunBundle:
    bundle = make_bundle(outcome=outcome)
    reasons = (Reason(code=code, message=f"because of {code}"),) if code else ()
    start = replace(bundle.start, agent_version="abc" if tried else "")
    return replace(bundle, start=start, stop=replace(bundle.stop, reasons=reasons))


LOST, KILLED = _ended(Outcome.DEVICE_LOST, "rebooted"), _ended(Outcome.FAILED, "agent_killed")


def test_three_in_a_row_are_enough_whatever_kind_they_are() -> None:
    setbacks = Setbacks("adb:A")
    setbacks.ended(LOST)
    setbacks.trouble(Gone("no such device"))
    with pytest.raises(SetAside, match=r"adb:A is set aside, it failed 3 times in a row: because of agent_killed"):
        setbacks.ended(KILLED)


@pytest.mark.parametrize(
    "between",
    [
        _ended(Outcome.OK),
        _ended(Outcome.OOM, "killed_by_oom"),
        _ended(Outcome.UNSUPPORTED, "unsupported_model"),
        _ended(Outcome.TIMEOUT, "timeout"),
        _ended(Outcome.FAILED, "runner_failed"),
    ],
)
def test_a_result_of_a_cell_shows_that_the_device_works(between: RunBundle) -> None:
    setbacks = Setbacks("adb:A")
    for bundle in (LOST, LOST, between, LOST, LOST):
        setbacks.ended(bundle)
    with pytest.raises(SetAside):
        setbacks.ended(LOST)


def test_a_run_that_was_not_tried_tells_nothing() -> None:
    setbacks = Setbacks("adb:A")
    for bundle in (LOST, LOST, _ended(Outcome.OOM, "does_not_fit", tried=False)):
        setbacks.ended(bundle)
    with pytest.raises(SetAside):
        setbacks.ended(LOST)


def test_an_odd_answer_of_the_agent_counts() -> None:
    setbacks = Setbacks("adb:A")
    for _ in range(2):
        setbacks.trouble(AgentError("not JSON"))
    with pytest.raises(SetAside, match="not JSON"):
        setbacks.trouble(AgentError("not JSON"))


@pytest.mark.parametrize("error", [Unauthorized("a dialog"), NoSpace("full"), StoreError("disk full")])
def test_what_does_not_pass_by_itself_is_not_tried_again(error: MeltError) -> None:
    with pytest.raises(type(error)):
        Setbacks("adb:A").trouble(error)
