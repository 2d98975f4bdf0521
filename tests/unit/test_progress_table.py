"""The table of a sweep as a function of what is known and of the room there is; golden/progress has its looks."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from progress_samples import Clock, ended, selector, spec_of, sweep_of
from rich.cells import cell_len

from melt.cli._progress_columns import live_columns
from melt.cli._progress_layout import View
from melt.cli._progress_state import Stage, SweepState
from melt.cli._progress_table import live, summary
from melt.events import (
    DeviceDone,
    Note,
    OutOfReach,
    Preparing,
    Reading,
    RunBegan,
    RunEnded,
    RunProgress,
    RunsMoved,
    RunSpared,
    SweepPlanned,
    Waiting,
)
from melt.records import Outcome, Repeat, Verdict, Workload

GOLDEN = Path(__file__).parent / "golden" / "progress"


def _look(n_devices: int, view: View, models: int) -> str:
    """Draw a sweep under way and, below a rule, what stays of it."""
    state, _ = sweep_of(n_devices, models=models)
    running, left = ("\n".join(line.plain for line in draw(state, view)) for draw in (live, summary))
    return f"{running}\n{'=' * view.width}\n{left}\n"


@pytest.mark.parametrize(
    ("name", "n_devices", "view", "models"),
    [
        ("1-80x24", 1, View(80, 24), 1),
        ("3-80x24", 3, View(80, 24), 2),
        ("20-80x24", 20, View(80, 24), 1),
        ("20-120x40", 20, View(120, 40), 2),
        ("3-60x24", 3, View(60, 24), 2),
        ("20-60x12", 20, View(60, 12), 1),
        ("3-ascii-80x24", 3, View(80, 24, unicode=False), 2),
        ("8-ascii-120x40", 8, View(120, 40, unicode=False), 2),
    ],
)
def test_it_looks_as_ever(name: str, n_devices: int, view: View, models: int) -> None:
    drawn = _look(n_devices, view, models)
    assert drawn == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    if not view.unicode:
        assert drawn.isascii()


_TEXT = st.text(max_size=90)


@given(
    n_devices=st.integers(0, 30),
    width=st.integers(2, 200),
    height=st.integers(1, 60),
    unicode=st.booleans(),
    notes=st.lists(_TEXT, max_size=12),
    named=_TEXT,
)
def test_nothing_wraps_and_nothing_scrolls(
    n_devices: int, width: int, height: int, unicode: bool, notes: list[str], named: str
) -> None:
    state, _ = sweep_of(n_devices, models=2)
    for note in notes:
        state.see(Note(note, device=named))
    state.see(Preparing(named, 1, 3, selector(0)))
    state.see(Preparing(named, 0, 0))
    lines = live(state, View(width, height, unicode))
    assert len(lines) <= max(1, height - 1)
    for line in lines:
        assert cell_len(line.plain) < width
        assert not any(unicodedata.category(letter) == "Cc" for letter in line.plain)
        assert unicode or line.plain.isascii()


def test_colour_is_never_the_only_sign() -> None:
    """Whatever two devices differ in must be told by the text of their rows."""
    state, _ = sweep_of(8)
    rows = [line for line in summary(state, View(120, 40)) if line.style in ("red", "magenta", "green", "dim")]
    by_style = {str(line.style): line.plain.split(None, 1)[1] for line in rows}
    assert "done" in by_style["green"]
    assert "ended at" in by_style["magenta"]
    assert "not begun" in by_style["dim"]


def _planned(*devices: str, runs: int = 4, history: dict[str, float] | None = None) -> tuple[SweepState, Clock]:
    clock = Clock()
    state = SweepState(clock, history)
    specs = tuple(spec_of(device, i) for i in range(runs) for device in devices)
    state.see(SweepPlanned(specs, specs))
    return state, clock


def test_active_devices_are_shown_first_and_the_rest_is_counted() -> None:
    devices = [f"adb:{i:02d}" for i in range(20)]
    state, _ = _planned(*devices)
    state.see(RunBegan(spec_of("adb:17", 0)))
    lines = [line.plain for line in live(state, View(80, 15))]
    assert lines[2].startswith("17 ")
    assert lines[-1] == "+ 9 more waiting"
    assert len(lines) == 14


def test_a_device_that_ended_early_is_told_before_those_that_wait_and_are_done() -> None:
    state, _ = _planned(*(f"adb:{i:02d}" for i in range(20)), runs=1)
    state.see(RunEnded(ended(spec_of("adb:00", 0))))
    state.see(DeviceDone("adb:18"))
    state.see(RunBegan(spec_of("adb:19", 0)))
    lines = [line.plain for line in live(state, View(80, 10))]
    assert lines[0].endswith(" | 1 device ended early | smollm2-135m-instruct")
    assert [line.split()[0] for line in lines[2:4]] == ["19", "18"]
    assert lines[-1] == "+ 14 more: 13 waiting, 1 done"


def test_a_note_is_shown_once_with_the_devices_it_was_said_of() -> None:
    state, _ = _planned("adb:a", "adb:b", "adb:c")
    for device in ("adb:a", "adb:a", "adb:b"):
        state.see(Note("no fan", device=device))
    state.see(Note("late"))
    assert [line.plain for line in live(state, View(80, 24))][-2:] == ["note: adb:a, adb:b: no fan", "note: late"]
    state.see(Note("no fan", device="adb:c"))
    assert [line.plain for line in live(state, View(80, 24))][-2:] == ["note: late", "note: 3 devices: no fan"]


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (Waiting("local", "temperature", 41.3, 38.0, "c", 510.0), "waiting for temperature 41 → 38 °C, at most 8 min"),
        (Waiting("local", "temperature", 38.4, 38.0, "c", 9), "waiting for temperature 38.4 → 38.0 °C, at most 9 s"),
        (Waiting("local", "battery", 0.12, 0.3, "ratio", 60), "waiting for battery 12 → 30 %, at most 60 s"),
        (Waiting("local", "charging", 1.0, 0.0, "1", 60), "waiting for charging yes → no, at most 60 s"),
        (Waiting("local", "end of rest", 4.0, 60.0, "s", 56), "waiting for end of rest 4 → 60 s, at most 56 s"),
        (
            Waiting("local", "idle CPU time", None, 0.95, "ratio", 60),
            "waiting for idle CPU time ? → 95 %, at most 60 s",
        ),
        (Preparing("pushing tiny", 43, 100, "local"), "pushing tiny 43 %"),
        (RunProgress("local-0", "prefill", 0, 6), "prefill 1/6"),
        (RunProgress("local-0", "collecting", 6, 6), "collecting"),
    ],
)
def test_a_phase_says_what_is_going_on(event: Waiting | Preparing | RunProgress, shown: str) -> None:
    state, _ = _planned("local")
    state.see(RunBegan(spec_of("local", 0)))
    state.see(event)
    assert state.devices["local"].phase.words[0] == shown


def test_a_device_out_of_reach_says_so_until_it_is_heard_of_again() -> None:
    state, _ = _planned("adb:a", "adb:b")
    spec = spec_of("adb:a", 0)
    state.see(RunBegan(spec))
    state.see(RunProgress(spec.run_id, "decode", 2, 6))
    for left_s in (300.0, 240.0):
        state.see(OutOfReach("adb:a", left_s))
    device = state.devices["adb:a"]
    assert device.phase.words == ("out of reach, waited for at most 4 min", "out of reach, 4 min left", "out of reach")
    state.see(Reading("adb:a", 40.0))
    assert device.phase.words[0] == "decode 3/6"
    state.see(OutOfReach("adb:a", 300.0))
    state.see(DeviceDone("adb:a"))
    assert device.phase.words[0] == "ended at: out of reach"
    state.see(OutOfReach("ssh:of-another-sweep", 9.0))
    assert set(state.devices) == {"adb:a", "adb:b"}


def test_a_sustained_run_counts_seconds() -> None:
    state, _ = _planned("local")
    spec = spec_of("local", 0)
    state.see(RunBegan(replace(spec, workload=replace(spec.workload, kind="sustained", duration_s=60.0))))
    state.see(RunProgress(spec.run_id, "decode", 12, 60))
    assert state.devices["local"].phase.words[0] == "decode 12/60 s"


def test_a_rate_has_the_unit_that_its_workload_counts_in() -> None:
    tokens = spec_of("adb:a", 0)
    inferences = replace(spec_of("adb:b", 1), workload=Workload(kind="inference", n_infer=5))
    for specs, title, shown in (
        ((tokens,), "tok/s", ["31.2"]),
        ((inferences,), "inf/s", ["84.0"]),
        ((tokens, inferences), "rate", ["31.2 tok/s", "84.0 inf/s"]),
    ):
        state = SweepState(Clock())
        state.see(SweepPlanned(specs, specs))
        for spec in specs:
            state.see(RunBegan(spec))
            rates = (None, None, 84.0) if spec is inferences else (None, 31.25)
            state.see(RunProgress(spec.run_id, "measured", 1, 6, *rates))
        (column,) = [one for one in live_columns(state) if one.title in ("tok/s", "inf/s", "rate")]
        assert (column.title, [column.texts(device)[0] for device in state.devices.values()]) == (title, shown)


def test_the_time_left_comes_from_earlier_sweeps_and_then_from_this_one() -> None:
    from melt.plan.expand import cell_key

    specs = [spec_of("adb:a", i) for i in range(4)]
    history = {cell_key(spec): 10.0 for spec in specs}
    state, clock = _planned("adb:a", "adb:b", history=history)
    device = state.devices["adb:a"]
    per_run_s = 10.0 * (specs[0].repeat.warmup + specs[0].repeat.repetitions)
    assert state.left_s(device) == pytest.approx(4 * per_run_s)
    assert state.left_s(state.devices["adb:b"]) is None, "nobody has seen it before"
    assert state.sweep_left_s() is None
    state.see(RunBegan(specs[0]))
    clock.s += 2 * per_run_s
    state.see(RunEnded(ended(specs[0])))
    assert state.left_s(device) == pytest.approx(3 * 2 * per_run_s), "today it is half as fast"
    assert state.left_s(state.devices["adb:b"]) == pytest.approx(4 * 2 * per_run_s), "guessed from its neighbour"
    state.see(RunBegan(specs[1]))
    clock.s += 10.0
    assert state.left_s(device) == pytest.approx(3 * 2 * per_run_s - 10.0)


def test_where_runs_may_be_spared_the_time_left_is_the_most_it_can_be() -> None:
    state = SweepState(Clock())
    spec = spec_of("adb:a", 0)
    spec = replace(spec, workload=replace(spec.workload, kind="sustained", duration_s=60.0))
    spec = replace(spec, repeat=Repeat(warmup=0, repetitions=1, sessions=20, until_ci=0.02, min_sessions=3))
    state.see(SweepPlanned((spec,), (spec,)))
    assert state.sweep_left() == "at most 60 s left"


def test_a_sustained_run_lasts_as_long_as_it_is_asked_to() -> None:
    state = SweepState(Clock())
    spec = spec_of("adb:a", 0)
    spec = replace(spec, workload=replace(spec.workload, kind="sustained", duration_s=60.0))
    state.see(SweepPlanned((spec,), (spec,)))
    assert state.sweep_left_s() == 60.0 * (spec.repeat.warmup + spec.repeat.repetitions)


def test_a_run_that_must_be_made_again_is_not_done() -> None:
    state, _ = _planned("adb:a", runs=2)
    state.see(RunBegan(spec_of("adb:a", 0)))
    state.see(RunEnded(ended(spec_of("adb:a", 0), Outcome.ABORTED, Verdict.INVALID)))
    state.see(DeviceDone("adb:a"))
    device = state.devices["adb:a"]
    assert (device.done, device.total, device.phase.words) == (0, 2, ("ended early",))
    assert summary(state, View(80, 24))[-1].plain.endswith("ended early, 1 aborted")


def test_a_resumed_sweep_counts_what_is_done_already() -> None:
    state = SweepState(Clock())
    specs = [*(spec_of("adb:a", i) for i in range(4)), *(spec_of("adb:b", i) for i in range(2))]
    state.see(RunEnded(ended(spec_of("adb:a", 0))))
    state.see(SweepPlanned(tuple(specs), tuple(specs[2:4])))
    counted = {name: (device.done, device.total, device.stage) for name, device in state.devices.items()}
    assert counted == {"adb:a": (2, 4, Stage.WAITING), "adb:b": (2, 2, Stage.DONE)}


def test_runs_that_another_device_takes_over_are_counted_there() -> None:
    state, _ = _planned("adb:a", "adb:b", runs=3)
    own = [spec_of("adb:b", i) for i in range(3)]
    moved = tuple(replace(spec_of("adb:a", i), device="adb:b", run_id=f"new-{i}") for i in (1, 2))
    state.see(DeviceDone("adb:a"))
    for spec in own:
        state.see(RunEnded(ended(spec)))
    assert state.devices["adb:b"].stage is Stage.DONE
    state.see(RunsMoved("adb:a", "adb:b", moved, ("adb:a-1", "adb:a-2")))
    assert state.devices["adb:b"].stage is Stage.WAITING
    for spec in moved:
        state.see(RunBegan(spec))
        state.see(RunEnded(ended(spec)))
    counted = {name: (device.done, device.total, device.stage) for name, device in state.devices.items()}
    assert counted == {"adb:a": (0, 1, Stage.DONE), "adb:b": (5, 5, Stage.DONE)}


def test_what_moves_counts_nowhere_twice_whatever_became_of_it_before() -> None:
    """Of a cell that moves whole a session was measured, one was lost, and one not begun."""
    state, clock = _planned("adb:a", "adb:b", runs=3)
    for number, (outcome, verdict) in enumerate([(Outcome.OK, Verdict.VALID), (Outcome.DEVICE_LOST, Verdict.INVALID)]):
        state.see(RunBegan(spec_of("adb:a", number)))
        clock.s += 60
        state.see(RunEnded(ended(spec_of("adb:a", number), outcome, verdict)))
    state.see(DeviceDone("adb:a"))
    assert live(state, View(80, 24))[0].plain.startswith("1/6 runs | 1 device_lost | ")
    moved = tuple(replace(spec_of("adb:a", i), device="adb:b", run_id=f"new-{i}") for i in range(3))
    state.see(RunsMoved("adb:a", "adb:b", moved, tuple(f"adb:a-{i}" for i in range(3))))
    assert state.sweep_left_s() == pytest.approx(6 * 60)
    assert live(state, View(80, 24))[0].plain.startswith("0/6 runs | 0:02:00 | about 6 min left")
    for spec in (*(spec_of("adb:b", i) for i in range(3)), *moved):
        state.see(RunBegan(spec))
        state.see(RunEnded(ended(spec)))
    state.see(DeviceDone("adb:b"))
    lines = [line.plain for line in summary(state, View(120, 24))]
    assert lines[-4].startswith("6/6 runs | 0:02:00")
    assert lines[-2].startswith("a ")
    assert lines[-2].endswith("failed, 3 runs moved to adb:b")


def test_a_spared_run_is_done_and_no_failure() -> None:
    state, _ = _planned("adb:a", runs=2)
    state.see(RunSpared(spec_of("adb:a", 0), "its rates are known to 2 %"))
    device = state.devices["adb:a"]
    assert (device.done, device.total, device.failed) == (1, 2, 0)
    assert live(state, View(80, 24))[0].plain.startswith("1/2 runs | 1 spared | ")
    state.see(RunSpared(spec_of("adb:a", 1), "its rates are known to 2 %"))
    assert summary(state, View(80, 24))[-1].plain.endswith("done, 2 spared")


def test_a_run_that_is_tried_again_is_counted_once_and_failures_are_told() -> None:
    state, _ = _planned("adb:a", runs=2)
    spec = spec_of("adb:a", 0)
    state.see(RunBegan(spec))
    state.see(Reading("adb:a", 40.0, 0.5))
    state.see(RunBegan(spec))
    state.see(RunEnded(ended(spec, Outcome.FAILED, Verdict.INVALID)))
    state.see(RunEnded(ended(spec, Outcome.FAILED, Verdict.INVALID)))
    device = state.devices["adb:a"]
    assert (device.done, device.failed) == (1, 1)
    assert live(state, View(80, 24))[0].plain.startswith("1/2 runs | 1 failed | ")
    assert list(state.notes) == ["smollm2-135m-instruct q8_0 tg128 #1: failed, the kernel killed it for memory"]
