"""How runs end: each way has one outcome, one code and one sentence."""

from __future__ import annotations

import pytest
from analysis_samples import COMPLETED, agent_events, at, make_start, run, runner_said

from melt.records import Outcome, Verdict
from melt.telemetry.journal import Event

WHOLE = runner_said()
BROKEN = WHOLE[:3]


def said_error(code):
    return [*WHOLE[:1], {"event": "error", "code": code, "message": f"it said {code}"}]


def ended(reason, **fields):
    return {**COMPLETED, "reason": reason, **fields}


@pytest.mark.parametrize(
    ("said", "exited", "end", "stderr", "outcome", "code"),
    [
        (WHOLE, {}, COMPLETED, "", Outcome.OK, None),
        (WHOLE, {}, COMPLETED, "warning: out of memory soon?", Outcome.OK, None),
        (said_error("out_of_memory"), {"exit_code": 1}, COMPLETED, "", Outcome.OOM, "out_of_memory"),
        (said_error("context_too_long"), {"exit_code": 1}, COMPLETED, "", Outcome.UNSUPPORTED, "context_too_long"),
        (said_error("unsupported_model"), {"exit_code": 1}, COMPLETED, "", Outcome.UNSUPPORTED, "unsupported_model"),
        (said_error("bad_model"), {"exit_code": 1}, COMPLETED, "", Outcome.FAILED, "bad_model"),
        (BROKEN, {"exit_code": None, "signal": 9, "oom_kill": True}, COMPLETED, "", Outcome.OOM, "killed_by_oom"),
        (BROKEN, {"exit_code": None, "signal": 9, "oom_kill": False}, COMPLETED, "", Outcome.FAILED, "runner_killed"),
        (BROKEN, {"exit_code": None, "signal": 9, "oom_kill": None}, COMPLETED, "", Outcome.FAILED, "runner_killed"),
        (
            BROKEN,
            {"exit_code": None, "signal": 6},
            COMPLETED,
            "what(): std::bad_alloc",
            Outcome.OOM,
            "allocation_failed",
        ),
        (BROKEN, {"exit_code": 1}, COMPLETED, "ggml: failed to allocate buffer", Outcome.OOM, "allocation_failed"),
        (
            BROKEN,
            {"exit_code": 1},
            COMPLETED,
            "error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
            Outcome.OOM,
            "allocation_failed",
        ),
        (BROKEN, {"exit_code": 3}, COMPLETED, "no such file\n\n", Outcome.FAILED, "runner_failed"),
        (BROKEN, {}, COMPLETED, "", Outcome.FAILED, "incomplete"),
        (BROKEN, {"exit_code": None, "signal": 9}, ended("timeout"), "", Outcome.TIMEOUT, "timeout"),
        (BROKEN, {"exit_code": None, "signal": 15}, ended("stopped"), "", Outcome.ABORTED, "stopped"),
        (BROKEN, {"exit_code": None, "signal": 9}, ended("tripped"), "", Outcome.FAILED, "tripped"),
        (BROKEN, {}, ended("recovered", rebooted=True), "", Outcome.DEVICE_LOST, "rebooted"),
        (WHOLE, {}, ended("recovered", rebooted=True), "", Outcome.OK, None),
        (WHOLE, {}, ended("agent_killed", exit_code=None), "", Outcome.OK, None),
        (said_error("unsupported_cpu"), {"exit_code": 1}, COMPLETED, "", Outcome.UNSUPPORTED, "unsupported_cpu"),
    ],
)
def test_endings(said, exited, end, stderr, outcome, code):
    seen = run(said, events=agent_events(**exited), end=end, stderr=stderr)
    assert seen.outcome is outcome
    if code is not None:
        assert [reason.code for reason in seen.reasons] == [code]
        assert seen.verdict is Verdict.INVALID
        assert "\n" not in seen.reasons[0].message


@pytest.mark.parametrize(
    ("reason", "outcome", "code"),
    [
        ("agent_killed", Outcome.FAILED, "agent_killed"),
        ("recovered", Outcome.FAILED, "recovered"),
        ("runner_not_started", Outcome.FAILED, "runner_not_started"),
    ],
)
def test_endings_that_nobody_saw(reason, outcome, code):
    seen = run(BROKEN, events=agent_events()[:-1], end=ended(reason, exit_code=None))
    assert (seen.outcome, seen.reasons[0].code) == (outcome, code)


def test_a_device_that_went_away():
    seen = run(BROKEN, events=agent_events()[:-1], end=None, torn=True)
    assert seen.outcome is Outcome.DEVICE_LOST
    assert seen.reasons[0].code == "no_end"


def test_the_end_is_read_from_the_journal_where_the_document_is_missing():
    events = [*agent_events(), Event("end", at(61), dict(COMPLETED))]
    assert run(events=events, end=None).outcome is Outcome.OK


def test_a_failure_quotes_the_last_line_of_stderr():
    seen = run(BROKEN, events=agent_events(exit_code=3), stderr="first\nno such file: x.gguf\n\n")
    assert seen.reasons[0].message == "the runner ended with exit code 3: no such file: x.gguf"
    seen = run(BROKEN, events=agent_events(exit_code=3), stderr="x" * 10_000)
    assert len(seen.reasons[0].message) < 300


def test_why_a_runner_did_not_start_is_said():
    events = [Event("runner_not_started", at(1), {"errno": 2, "message": "No such file or directory"})]
    seen = run([], events=events, end=ended("runner_not_started", exit_code=None))
    assert seen.reasons[0].message == "the runner could not be started: No such file or directory"


@pytest.mark.parametrize(
    ("device", "remedy"),
    [("ssh:lab@orin:22", "`melt provision lab@orin:22`"), ("local", "`pip install 'melt[llama]'`")],
)
@pytest.mark.parametrize(
    ("said", "stderr"),
    [
        ([{"event": "error", "code": "engine_missing", "message": "llama-cpp-python is not installed"}], ""),
        ([], "SyntaxError: future feature annotations is not defined"),
    ],
)
def test_an_engine_that_is_not_there_is_said_how_to_install(device, remedy, said, stderr):
    seen = run(said, start=make_start(device=device), events=agent_events(exit_code=1), end=COMPLETED, stderr=stderr)
    assert seen.outcome is Outcome.FAILED
    assert [reason.code for reason in seen.reasons] == ["engine_missing"]
    assert seen.reasons[0].message.endswith(f": {remedy} installs the engine")


def test_a_board_without_python_is_told_to_be_provisioned():
    events = [Event("runner_not_started", 1, {"errno": 2, "message": "No such file or directory"})]
    seen = run([], start=make_start(device="ssh:orin"), events=events, end=ended("runner_not_started"))
    assert "`melt provision orin`" in seen.reasons[0].message
