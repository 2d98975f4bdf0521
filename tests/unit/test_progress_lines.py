"""A sweep in a log: which lines are written, how often, and that they hold nothing but text."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from progress_samples import Clock, ended, spec_of

from melt.cli._progress_lines import Lines
from melt.cli._progress_state import SweepState
from melt.cli._progress_text import clean, duration, in_ascii, knows_unicode, shorten, shorten_middle, title, wrap
from melt.events import (
    Event,
    Note,
    Preparing,
    Reading,
    RunBegan,
    RunEnded,
    RunProgress,
    RunSpared,
    SweepPlanned,
    Waiting,
)

A = "adb:R5CT1234"


class Log:
    """Lines over a clock that is set by hand; the time of day is written as its seconds."""

    def __init__(self, *, unicode: bool = True) -> None:
        self.clock = Clock()
        self.clock.s = 0.0
        self.out = io.StringIO()
        self.state = SweepState(self.clock)
        self.lines = Lines(
            self.state, self.out, unicode=unicode, now_s=self.clock, now=lambda: f"00:00:{self.clock.s:02.0f}"
        )

    def see(self, *events: Event, after_s: float = 0.0) -> None:
        self.clock.s += after_s
        for event in events:
            self.state.see(event)
            self.lines.see(event)

    @property
    def text(self) -> str:
        return self.out.getvalue()


def test_a_line_for_each_phase_each_note_and_each_end() -> None:
    log = Log()
    specs = (spec_of(A, 0), spec_of(A, 1))
    first = specs[0]
    log.see(Preparing("fetching smollm2", 10, 100), SweepPlanned(specs, specs), Preparing("connecting", 0, 0, A))
    log.see(Note("no fan", device=A), Note("one model is new"), RunBegan(first), after_s=1)
    log.see(Preparing("pushing smollm2", 10, 100, A), after_s=5)
    log.see(Waiting(A, "temperature", 41.0, 38.0, "c", 300.0), after_s=6)
    log.see(RunProgress(first.run_id, "load", 0, 6), after_s=7)
    log.see(RunProgress(first.run_id, "decode", 1, 6), after_s=8)
    log.see(RunEnded(ended(first)), after_s=20)
    assert log.text == (
        "00:00:00 melt: fetching smollm2\n"
        f"00:00:00 {A}: connecting\n"
        f"00:00:01 {A}: note: no fan\n"
        "00:00:01 melt: note: one model is new\n"
        f"00:00:06 {A}: smollm2-135m-instruct q8_0 tg128 #1: pushing smollm2 10 %\n"
        f"00:00:12 {A}: smollm2-135m-instruct q8_0 tg128 #1: waiting for temperature 41 → 38 °C, at most 5 min\n"
        f"00:00:19 {A}: smollm2-135m-instruct q8_0 tg128 #1: load\n"
        f"00:00:27 {A}: smollm2-135m-instruct q8_0 tg128 #1: decode 2/6\n"
        f"00:00:47 {A}: [1/2] smollm2-135m-instruct q8_0 tg128 #1: "
        "prefill 512.0 tok/s, decode 31.2 tok/s (about 46 s left)\n"
    )


def test_a_run_that_is_spared_is_counted_as_one_that_ended() -> None:
    log = Log()
    specs = (spec_of(A, 0), spec_of(A, 1))
    log.see(SweepPlanned(specs, specs), RunSpared(specs[0], "its rates are known to 2 %"))
    assert log.text == (
        f"00:00:00 {A}: [1/2] smollm2-135m-instruct q8_0 tg128 #1: spared, its rates are known to 2 %\n"
    )


def test_a_device_speaks_every_few_seconds_at_most_and_again_where_something_lasts() -> None:
    log = Log()
    spec = spec_of(A, 0)
    log.see(SweepPlanned((spec,), (spec,)), RunBegan(spec))
    for second in range(1, 131):
        phase = "load" if second < 4 else "decode"
        log.see(RunProgress(spec.run_id, phase, second, 200), Reading(A, 40.0 + second / 100), after_s=1)
    told = [(line.split(" ", 1)[0], line.rsplit(": ", 1)[1]) for line in log.text.splitlines()]
    assert told == [
        ("00:00:01", "load"),
        ("00:00:06", "decode 7/200"),
        ("00:00:66", "decode 67/200"),
        ("00:00:126", "decode 127/200"),
    ]


def test_what_a_device_says_is_on_one_line_and_has_no_control_bytes() -> None:
    log = Log(unicode=False)
    log.see(Note("\x1b[31mtoo hot:\r\n 90 °C → off\x07 … \u202eetis", device="adb:電話"))
    assert log.text == "00:00:00 adb:??: note: [31mtoo hot: 90 C -> off ~ etis\n"


def test_a_log_that_cannot_be_written_does_not_end_the_sweep() -> None:
    log = Log()
    log.out.close()
    log.see(Note("heard by nobody"))


@pytest.mark.parametrize(
    ("encoding", "environ", "known"),
    [
        ("utf-8", {"LANG": "de_DE.UTF-8"}, True),
        ("UTF-8", {"LC_ALL": "", "LANG": "C.UTF-8"}, True),
        ("utf-8", {"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, False),
        ("utf-8", {"LC_CTYPE": "POSIX", "LANG": "de_DE.UTF-8"}, False),
        ("utf-8", {}, False),
        ("iso-8859-1", {"LANG": "de_DE"}, False),
        (None, {"LANG": "de_DE.UTF-8"}, False),
    ],
)
def test_unicode_is_shown_where_the_locale_has_it(encoding: str | None, environ: dict[str, str], known: bool) -> None:
    assert knows_unicode(encoding, environ) is known


def test_texts_are_cut_by_the_cells_they_take() -> None:
    assert shorten("電話電話", 5) == "電話…"
    assert shorten_middle("192.168.100.200:5555", 11) == "192.1…:5555"
    assert wrap("no thermal zone and no hwmon chip", 16) == ["no thermal zone", "  and no hwmon", "  chip"]
    assert [duration(s) for s in (0, 99.4, 99.5, 5969, 5970, 358_199, 400_000)] == [
        "0 s",
        "99 s",
        "2 min",
        "99 min",
        "1.7 h",
        "99.5 h",
        "4.6 d",
    ]
    assert clean(" a\tb\n") == "a b"
    assert in_ascii("12 µs – 3×") == "12 us - 3x"


def test_a_reference_run_is_not_called_a_session() -> None:
    spec = spec_of("phone", 0)
    assert title(spec) == f"{spec.label} #1"
    assert title(replace(spec, reference=True)) == f"{spec.label} (reference)"
