"""The report of a self-test: a summary for the screen, a Markdown file that shows every step, JSON that reads back."""

from __future__ import annotations

import json
from threading import Event

import pytest

from melt.analysis.selftest import Selftest, Status, Step, absent, verdict
from melt.cli.main import main
from melt.codec import from_dict, to_dict
from melt.errors import DeviceError
from melt.fleet.selftest.course import Course, until
from melt.records import Cpu, DeviceFacts
from melt.report.selftest import render_selftest, summary

FACTS = DeviceFacts(
    device_id="macos-1",
    kind="ssh",
    name="Mac mini",
    os="macos",
    os_build="macOS 15.1 (24B83)",
    kernel="24.1.0",
    arch="arm64",
    soc="Apple M1",
    cpus=(Cpu(index=0),),
    power_mode="automatic",
)


def made(*steps: Step) -> Selftest:
    return Selftest(
        selector="ssh:mac",
        melt_version="0.1.0",
        agent_version="174dcb6ab27c37ff",
        host="Linux x86_64",
        started_utc_ns=1_763_700_000_000_000_000,
        device=FACTS,
        steps=steps,
        snapshot={"$ sw_vers": "ProductName:\tmacOS\n"},
    )


def step(name: str, finding, duration_s: float = 0.25) -> Step:
    return Step(room="link", name=name, finding=finding, duration_s=duration_s)


RAW = "a | b\n```\nfence\n````\n"
FOUND = made(
    step("round trip", verdict(True, "2 | ms", {"median_s": 0.002, "worst_s": None})),
    step("signal", verdict(False, "-9 instead of -15", raw=RAW)),
    step("power", absent("no meter")),
)


def test_the_summary_counts_and_names_what_failed() -> None:
    text = render_selftest(FOUND, "table")
    assert text.endswith("3 steps: 1 pass, 1 fail, 1 not there\n")
    assert "FAIL" in text
    assert "0.2 s" in text or "0.3 s" in text


def test_the_document_holds_everything_in_fences_that_nothing_breaks() -> None:
    text = render_selftest(FOUND, "md")
    assert text.startswith("# melt selftest: Mac mini\n")
    assert "2 \\| ms" in text
    assert "`median_s` 0.002, `worst_s` -" in text
    assert f"`````text\n{RAW}\n`````" in text
    assert "ProductName" in text
    assert text.count("<details>") == text.count("</details>") == 1


def test_json_reads_back() -> None:
    document = json.loads(render_selftest(FOUND, "json"))
    assert (document.pop("format"), document.pop("version")) == ("melt-selftest", 1)
    assert from_dict(Selftest, document) == FOUND == from_dict(Selftest, to_dict(FOUND))


def test_a_device_that_was_not_reached_has_a_report_too() -> None:
    lost = Selftest(
        selector="ssh:mac",
        melt_version="0.1.0",
        agent_version=None,
        host="Linux",
        started_utc_ns=0,
        device=None,
        steps=(step("system", verdict(False, "no such host")),),
    )
    assert "# melt selftest: ssh:mac" in render_selftest(lost, "md")
    assert not lost.fine
    assert summary(lost) == "1 steps: 1 fail"


def test_an_error_of_melts_fails_its_step_and_the_next_is_taken() -> None:
    said: list[str] = []
    course = Course(said.append, Event())

    def broken():
        raise DeviceError("the cable is out")

    course.take("link", "one", broken)
    course.take("link", "two", lambda: verdict(True, "fine"))
    assert [one.finding.status for one in course.steps] == [Status.FAIL, Status.PASS]
    assert course.steps[0].finding.said == "the cable is out"
    assert "link: one FAILED: the cable is out" in said


def test_waiting_ends_with_its_deadline() -> None:
    assert until(lambda: True, 0)
    assert not until(lambda: False, 0.01)


@pytest.mark.parametrize(
    "words",
    [
        ("local", "--seconds", "0"),
        ("local", "--seconds", "many"),
        ("local", "-o", "/nowhere/report.md"),
        ("local", "-o", "/"),
        ("local", "--device", "adb:x"),
        ("telnet:host",),
    ],
)
def test_what_cannot_be_is_refused_at_once(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["selftest", *words])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert capsys.readouterr().out == ""
