"""Plug-ins as they may come: broken, two of one name, called as melt's own. Each gets a sentence, others nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from melt import plugins
from melt.cli._doctor_plugins import plugins_here
from melt.engines import registry
from melt.engines.base import Command, Generation, RunnerReport
from melt.errors import DeviceError, EngineError, UsageError
from melt.records import Sampling, Stream, Window
from melt.telemetry import platforms
from melt.telemetry.base import Discovery, FileSource
from melt.telemetry.meters import make_meter
from melt.telemetry.meters.base import MeterError
from melt.telemetry.platforms import linux
from melt.telemetry.platforms.added import declared_wrongly, joined
from melt.transports.registry import open_transport, resolve

MODULE = """
from melt.engines.base import RunnerReport
from melt.errors import UsageError
from melt.records import Window
from melt.telemetry.base import Discovery

class Engine:
    formats = ("gguf",)
    def __init__(self, argument): self.name, self.argument = "good:" + argument, argument
    def for_device(self, device): return None if device == "odd" else self
    def runner_files(self): return "runner.py"
    def built_runner(self): raise KeyError("x")
    def command(self, *given): return given[0] if given else 7 / 0
    def parse(self, lines):
        if self.argument == "none": return None
        if self.argument == "early": return RunnerReport(windows=(Window(phase="decode", t0_ns=2, t1_ns=1),))
        return RunnerReport(complete=bool(*lines))

class Half:
    def __init__(self, argument): self.name = argument

class Meter:
    def __init__(self, options, where): self.options = options
    def open(self): raise OSError("no such port")
    def start(self): pass
    def read(self): pass
    def switch(self, on): pass
    def close(self): pass

def board(address):
    raise UsageError("a board needs a number") if not address else ConnectionError("nobody answers")

class Fan:
    SYSTEMS, GLOBS, COMMANDS = ("linux",), ("/sys/fan",), {}
    def discover(self, snapshot, sampling): raise ValueError("no fan")

NUMBER = 7
fan, words = Fan(), Fan()
words.GLOBS = "/sys/fan"
"""

POINTS = {
    "good 1.0": """
[melt.engines]
good = some_plugin:Engine
half = some_plugin:Half
gone = some_plugin:NoSuchThing
ends = ends_plugin:Engine
twice = some_plugin:Engine
llama.cpp = some_plugin:Engine
number = some_plugin:NUMBER
[melt.transports]
board = some_plugin:board
[melt.power_meters]
mine = some_plugin:Meter
[melt.telemetry]
fan = some_plugin:fan
words = some_plugin:words
""",
    "other 2.0": "[melt.engines]\ntwice = some_plugin:Engine\n",
}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install packages with entry points of every kind."""
    (tmp_path / "some_plugin.py").write_text(MODULE)
    (tmp_path / "ends_plugin.py").write_text("raise SystemExit('bye')")
    for package, points in POINTS.items():
        name, version = package.split()
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(points)
    damaged = tmp_path / "damaged-1.0.dist-info"
    damaged.mkdir()
    (damaged / "entry_points.txt").write_bytes(b"[melt.engines]\nno equals sign\n\xff")
    monkeypatch.syspath_prepend(str(tmp_path))
    caches = (plugins._installed, platforms._platform)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
    sys.modules.pop("some_plugin", None)


def test_an_engine_of_another_package_is_called_with_what_stands_behind_its_name() -> None:
    engine = registry.get("good:a:b")
    assert (engine.name, engine.formats) == ("good:a:b", ("gguf",))
    assert engine.parse([b"x"]).complete


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("half", r"engine 'half' of good 1\.0 \(some_plugin:Half\) is no engine: it is without formats, .*parse"),
        ("gone", r"engine 'gone' of good 1\.0 .* cannot be loaded: AttributeError: .*NoSuchThing"),
        ("ends", r"engine 'ends' of good 1\.0 .* cannot be loaded: SystemExit: bye"),
        ("twice", r"engine 'twice' is offered by good 1\.0 and other 2\.0: uninstall"),
        ("goood", r"unknown engine 'goood': did you mean 'good'\?"),
    ],
)
def test_an_engine_that_cannot_be_used_is_a_sentence(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        registry.get(name)


def test_what_a_plug_in_raises_names_it() -> None:
    engine = registry.get("good")
    with pytest.raises(registry.EngineError, match=r"the engine 'good' of good 1\.0 failed in built_runner: KeyError"):
        engine.built_runner()
    with pytest.raises(registry.EngineError, match="failed in command: ZeroDivisionError"):
        engine.for_device(None).command()  # type: ignore[arg-type, call-arg]
    with pytest.raises(MeterError, match=r"power meter 'mine' of good 1\.0 failed in open: OSError: no such port"):
        make_meter("mine", {}, "x").open()
    with pytest.raises(DeviceError, match=r"transport 'board' of good 1\.0 failed: ConnectionError: nobody answers"):
        open_transport("board:7")
    with pytest.raises(UsageError, match=r"^a board needs a number$"):
        open_transport("board:")


def test_what_no_runner_could_be_started_by_is_a_sentence() -> None:
    engine = registry.get("good")
    for act, words in (
        (engine.runner_files, "gave runner_files that are no tuple of paths: 'runner.py'"),
        (lambda: engine.command(None), "gave a command that is a NoneType, not a Command"),  # type: ignore[arg-type, call-arg]
        (lambda: engine.command(Command(argv=("run", 7))), "gave a command with 7 in it"),  # type: ignore[arg-type, call-arg]
        (lambda: engine.for_device("odd"), "gave nothing in for_device"),  # type: ignore[arg-type]
    ):
        with pytest.raises(EngineError, match=f"the engine 'good' of good 1.0 {words}"):
            act()


def test_melts_own_names_come_first_and_a_bare_word_is_no_plug_in() -> None:
    assert type(registry.get("llama.cpp")).__module__ == "melt.engines.llama_cpp"
    with pytest.raises(UsageError, match="unknown device 'board'"):
        resolve("board")


@pytest.mark.parametrize("argument", ["none", "early"])
def test_a_report_that_cannot_be_is_a_failure_of_the_run(argument: str) -> None:
    report = registry.get(f"good:{argument}").parse([])
    assert report.failure is not None
    assert report.failure.code == "engine_broken"
    assert "engine 'good' of good 1.0" in report.failure.message


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (RunnerReport(windows=(Window(phase="thinking", t0_ns=0, t1_ns=1),)), "phase 'thinking'"),
        (RunnerReport(windows=(Window(phase="decode", t0_ns=0.5, t1_ns=1),)), "no whole nanoseconds"),  # type: ignore[arg-type]
        (RunnerReport(generations=(Generation(repetition=0, warmup=False, submit_ns=5, token_ns=(4,)),)), "backwards"),
        (RunnerReport(samples={"decode_tps": (1.0, -2.0)}), "no positive numbers"),
        (RunnerReport(samples={"speed": (1.0,)}), "samples of 'speed'"),
        (RunnerReport(used={"threads": float("nan")}), "JSON"),
        (RunnerReport(memory={"model_bytes": 1.5}), "no number of bytes"),  # type: ignore[dict-item]
        (RunnerReport(windows=7), "not iterable"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_in_a_report_is_named(report: RunnerReport, words: str) -> None:
    from melt.engines.added import faults

    assert words in " ".join(faults(report))


def test_channels_that_fail_cost_no_others() -> None:
    own = linux.discover({}, Sampling())
    found = platforms.platform("linux").discover({}, Sampling())
    assert found.streams == own.streams
    said = " ".join(found.missing)
    assert "telemetry probe 'fan' of good 1.0 failed in discover: ValueError: no fan" in said
    assert "telemetry probe 'words' of good 1.0 (some_plugin:words) is left out: GLOBS is no tuple of words" in said


FAN = Stream(collector="fan", name="fan_hz", quantity="frequency", unit="hz", site="fan", source="/x", rate_hz=1.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"unit": "rpm"}, "fan_hz is a frequency in 'rpm': it is kept in 'hz'"),
        ({"quantity": "speed"}, "there are temperature, power"),
        ({"collector": "taken"}, "the collector 'taken' is there already"),
        ({"name": "taken"}, "the column taken is there already"),
        ({"rate_hz": 1e6}, "must be 0.01 to 1000"),
    ],
)
def test_channels_that_nobody_could_sample_are_refused(changed: dict[str, object], words: str) -> None:
    taken = FileSource("/y", 1.0, (replace(FAN, collector="taken", name="taken"),), lambda raw: (1.0,))
    added = FileSource("/x", 1.0, (replace(FAN, **changed),), lambda raw: (1.0,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        joined(Discovery(files=(taken,)), Discovery(files=(added,)))


def test_a_parser_of_a_plug_in_that_fails_has_measured_nothing() -> None:
    def parse(raw: bytes) -> tuple[float, ...]:
        return (float(raw), 1.0) if raw == b"2" else (float(raw),)

    (file,) = joined(Discovery(), Discovery(files=(FileSource("/x", 1.0, (FAN,), parse),))).files
    assert file.parse(b"50") == (50.0,)
    assert [str(file.parse(raw)) for raw in (b"x", b"2", b"1e999")] == ["(nan,)"] * 3


def test_the_channels_of_the_documentation_are_channels() -> None:
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"## Channels\n```python\n(.*?)```", text, re.DOTALL)
    probe: dict[str, Any] = {}
    exec(block, probe)
    snapshot = {"/sys/class/hwmon/hwmon2/fan1_input": b"1200\n", "/sys/class/hwmon/hwmon2/temp1_input": b"40000\n"}
    (file,) = joined(Discovery(), probe["discover"](snapshot, Sampling())).files
    assert file.parse(snapshot[file.path]) == (20.0,)
    (source,) = probe["discover"](snapshot, Sampling()).files
    assert [str(source.parse(odd)) for odd in (b"", b"-", b"1e999", b"9" * 400)] == ["(nan,)"] * 4
    assert declared_wrongly(SimpleNamespace(**probe)) is None


def test_doctor_lists_them_with_what_is_wrong() -> None:
    listed = {(one.what, one.package): one.trouble for one in plugins_here()}
    assert listed["engine 'good'", "good 1.0"] is None
    assert listed["power meter 'mine'", "good 1.0"] is None
    assert "never used: engine 'llama.cpp' is melt's own" in str(listed["engine 'llama.cpp'", "good 1.0"])
    assert "offered by good 1.0 and other 2.0" in str(listed["engine 'twice'", "other 2.0"])
    assert "bye" in str(listed["engine 'ends'", "good 1.0"])
    assert "(some_plugin:NUMBER) is of type int" in str(listed["engine 'number'", "good 1.0"])
    assert "GLOBS is no tuple of words" in str(listed["telemetry probe 'words'", "good 1.0"])
    assert listed["telemetry probe 'fan'", "good 1.0"] is None
