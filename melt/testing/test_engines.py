"""What every engine must do, whoever wrote it: `pytest --pyargs melt.testing --melt-engine NAME`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from melt.engines.added import faults
from melt.engines.base import Command, Engine, RunnerReport
from melt.engines.registry import get
from melt.errors import MeltError
from melt.records import Artifact, DeviceFacts, Outcome, Repeat, RunSpec, Sampling, Settings, Verdict, Workload
from melt.targets.readers import OwnFiles
from melt.targets.system import identify, read_facts
from melt.testing.cases import EngineCase, parametrize
from melt.testing.watching import touched
from melt.transports.local import LocalTransport

if TYPE_CHECKING:
    from melt.testing.measured import Measured

_CUTS, _DAMAGES = 40, 60
_JUNK = (b"", b"loading ...", b"\xff\xfe\x00", b"[1, 2", b"{}", b"null", b'"word"', b"[" * 3000, b'{"event": 7}')
_ODD: tuple[object, ...] = (None, True, -1, 0, 2**70, 1e308, "", "x" * 50, [], [None], {}, {"a": {}}, float("nan"))
_MODEL, _FOLDER = "/on the device/a model.bin", "/on the device/runner files"
_WORK = (
    Workload(n_prompt=16, n_gen=8),
    Workload(n_gen=8),
    Workload(n_prompt=16),
    Workload(kind="inference", n_infer=5),
)
"""What an engine is asked for: the first of these that it does not refuse."""
_BROKEN = "failed in command"
"""What melt says where an engine raises what is no error of melt's."""
_OWN_FILES = {"job", "journal", "pid", "end", "end.new", "reserve"}
"""What the agent keeps in a job's folder."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with every engine that is asked for."""
    parametrize(metafunc, "engine_case", EngineCase)


@cache
def this_device() -> DeviceFacts:
    """Return what this machine says of itself."""
    transport = LocalTransport()
    return read_facts(identify(transport), transport, OwnFiles(), "local")[0]


def spec_of(case: EngineCase, **changed: Any) -> RunSpec:
    """Return a run of tokens with a case's engine, two threads and three repetitions."""
    asked = RunSpec(
        run_id="r1",
        sweep_id="s1",
        plan="contract",
        block=0,
        position=0,
        device="local",
        model="m",
        quant=None,
        engine=case.name,
        workload=_WORK[0],
        settings=Settings(threads=2),
        repeat=Repeat(warmup=1, repetitions=3),
        sampling=Sampling(),
    )
    return replace(asked, **changed)


def command_of(engine: Engine, spec: RunSpec) -> Command:
    """Return how a run is started. Raises MeltError for what the engine refuses."""
    artifact = Artifact(name="m", quant=None, format=engine.formats[0], sha256="0" * 64, size_bytes=1, path="/m")
    return engine.command(
        spec, artifact, model_path=_MODEL, runner_dir=_FOLDER, python="/a python/bin/python3", inputs_path=None
    )


def work_of(engine: Engine, case: EngineCase) -> Workload:
    """Return what the engine can be asked for. Fails where it refuses tokens and requests alike."""
    refused = ""
    for workload in _WORK:
        try:
            command_of(engine, spec_of(case, workload=workload))
        except MeltError as error:
            if _BROKEN not in str(error):
                refused = refused or str(error)
                continue
        return workload
    return pytest.fail(f"it refuses {', '.join(one.name for one in _WORK)}, so nothing can be measured: {refused}")


class TestEngine:
    """An engine is asked on the host, before a run and after it; nothing is started here."""

    @pytest.fixture
    def engine(self, engine_case: EngineCase) -> Engine:
        """Return the engine as it runs on this machine."""
        return get(engine_case.name).for_device(this_device())

    @pytest.fixture
    def work(self, engine: Engine, engine_case: EngineCase) -> Workload:
        """Return what the engine can be asked for."""
        return work_of(engine, engine_case)

    @pytest.fixture
    def whole(self, engine_case: EngineCase) -> dict[str, list[bytes]]:
        """Return the lines of whole runs."""
        if not engine_case.said:
            pytest.skip(f"nothing is known that {engine_case.name} printed: give it in pytest_melt_cases (said=…)")
        return {name: text.splitlines() for name, text in engine_case.said.items()}

    def test_it_says_what_it_is_called_and_what_it_reads(self, engine_case: EngineCase) -> None:
        engine = get(engine_case.name)
        assert engine.name == engine_case.name
        assert isinstance(engine.formats, tuple)
        assert engine.formats, "an engine without formats reads no model"
        assert all(one == one.lower() for one in engine.formats)

    def test_its_files_are_there_side_by_side(self, engine: Engine) -> None:
        files = engine.runner_files()
        assert files or engine.built_runner(), "nothing would be brought to a device: name at least one file"
        assert [path for path in files if not path.is_absolute() or not path.is_file()] == []
        assert len({path.parent for path in files}) < 2, "on this machine files are used where they lie, in one folder"

    def test_a_command_is_words_with_the_paths_in_them_as_they_are(
        self, engine_case: EngineCase, engine: Engine, work: Workload
    ) -> None:
        command = command_of(engine, spec_of(engine_case, workload=work))
        words = [*command.argv, *command.env, *command.env.values()]
        assert command.argv
        assert all(isinstance(word, str) and "\0" not in word for word in words)
        written = [*words, *(content.decode(errors="replace") for content in command.files.values())]
        assert any(_MODEL in word for word in written), "the model's path goes nowhere, or was split at its blank"
        for name in command.files:
            assert "/" not in name
            assert name not in _OWN_FILES
            assert any(f"{{dir}}/{name}" in word for word in words), f"{name} lies in {{dir}}, and nobody says so"

    @pytest.mark.parametrize(
        "changed",
        [
            {"settings": Settings(threads=1)},
            {"workload": Workload(n_prompt=32, n_gen=8)},
            {"workload": Workload(n_prompt=16, n_gen=9)},
            {"workload": Workload(kind="inference", n_infer=6)},
            {"repeat": Repeat(warmup=1, repetitions=4)},
        ],
        ids=["threads", "prompt", "tokens", "requests", "repetitions"],
    )
    def test_what_is_asked_for_arrives_or_is_refused(
        self, engine_case: EngineCase, engine: Engine, work: Workload, changed: dict[str, Any]
    ) -> None:
        plain = command_of(engine, spec_of(engine_case, workload=work))
        try:
            other = command_of(engine, spec_of(engine_case, **{"workload": work, **changed}))
        except MeltError:
            return
        assert other != plain, "it makes no difference to the command, so the run would not be the one asked for"

    @pytest.mark.parametrize(
        "workload",
        [
            Workload(kind="prompts", prompts=("a", "b"), prompts_name="two", n_gen=4),
            Workload(kind="sustained", n_prompt=8, n_gen=8, duration_s=5.0),
            Workload(kind="inference", n_infer=5),
        ],
        ids=["prompts", "sustained", "inference"],
    )
    def test_work_that_it_cannot_do_is_refused_by_a_sentence(
        self, engine_case: EngineCase, engine: Engine, workload: Workload
    ) -> None:
        spec = spec_of(engine_case, workload=workload)
        said = ""
        try:
            command_of(engine, spec)
        except MeltError as error:
            said = str(error)
        assert _BROKEN not in said

    def test_a_command_is_made_of_what_is_given_alone(
        self, engine_case: EngineCase, engine: Engine, work: Workload
    ) -> None:
        spec = spec_of(engine_case, workload=work)
        first = command_of(engine, spec)
        again, did = touched(lambda: command_of(engine, spec))
        assert did == [], "engines touch no file, program or network where they say how a runner is started"
        assert again == first

    def test_a_whole_run_is_measured(self, engine: Engine, whole: dict[str, list[bytes]]) -> None:
        for name, lines in whole.items():
            report = _report(engine, lines)
            assert report.failure is None, name
            assert report.complete, f"{name}: the run ended well, and the report says that it broke off"
            assert report.windows or report.samples, f"{name}: nothing was measured"
            measured = [w.repetition for w in report.windows if not w.warmup and w.repetition is not None]
            assert not measured or set(measured) == set(range(max(measured) + 1)), f"{name}: repetitions count from 0"

    def test_lines_are_read_without_touching_anything(self, engine: Engine, whole: dict[str, list[bytes]]) -> None:
        for lines in whole.values():
            report, did = touched(lambda lines=lines: _report(engine, lines))  # type: ignore[misc]
            assert did == [], "engines touch no file, program or network where they read what a runner said"
            assert _report(engine, iter(lines)) == report, "lines come from any iterable, once"
            _report(engine, lines[:1])
            assert _report(engine, lines) == report, "what was read before must not be remembered"

    def test_nothing_said_is_nothing_measured(self, engine: Engine) -> None:
        report = _report(engine, [])
        assert not report.complete
        assert (report.windows, report.samples, report.generations) == ((), {}, ())

    def test_a_torn_run_tells_no_more_than_it_said(
        self, engine: Engine, engine_case: EngineCase, whole: object
    ) -> None:
        for text in engine_case.said.values():
            report = _report(engine, text.splitlines())
            for at in range(0, len(text), max(1, len(text) // _CUTS)):
                _holds(_report(engine, text[:at].splitlines()), report)
            last = len(text.rstrip()) - len(text.rstrip().splitlines()[-1])
            assert not _report(engine, text[:last].splitlines()).complete, "without its last line a run is not complete"

    def test_junk_between_the_lines_changes_nothing(self, engine: Engine, whole: dict[str, list[bytes]]) -> None:
        for lines in whole.values():
            report = _report(engine, lines)
            for junk in _JUNK:
                _report(engine, [junk])
            noisy = _report(engine, [b"loading ...", b"\xff\xfe", *lines, b"done"])
            assert (noisy.windows, noisy.samples) == (report.windows, report.samples)

    def test_damage_is_no_defect(self, engine: Engine, whole: dict[str, list[bytes]]) -> None:
        draws = random.Random(7)
        for lines in whole.values():
            for _ in range(_DAMAGES):
                _report(engine, _damaged(lines, draws))

    def test_one_line_alone_tells_no_more_than_all(self, engine: Engine, whole: dict[str, list[bytes]]) -> None:
        """While a run goes on its display reads each line by itself."""
        for lines in whole.values():
            report = _report(engine, lines)
            for line in lines:
                _holds(_report(engine, [line]), report)


class TestEngineRuns:
    """A real run, by the agent, into a store: what `melt run --engine NAME` does."""

    def test_a_run_comes_home_and_is_believed(self, engine_case: EngineCase, melt_run: Callable[..., Measured]) -> None:
        words = engine_case.run
        if not words and "gguf" in get(engine_case.name).formats:
            words = ("--model", "tiny-pydoc", "-pg", "16,8", "-r", "2", "-t", "1")
        if not words:
            pytest.skip(f"give words of a `melt run` with {engine_case.name} in pytest_melt_cases (run=…)")
        measured = melt_run(*words, "--engine", engine_case.name)
        for run in measured.runs:
            assert run.stop.outcome is Outcome.OK, [reason.message for reason in run.stop.reasons]
            assert run.stop.verdict is not Verdict.INVALID, [reason.message for reason in run.stop.reasons]
            rates = [m.value for m in run.metrics if m.repetition is None and m.name.endswith(("_tps", "_per_s"))]
            assert any(rates), "no rate was measured"


def _report(engine: Engine, lines: Any) -> RunnerReport:
    """Return what an engine makes of lines; a report that cannot be is no report."""
    report = engine.parse(lines)
    broken = report.failure is not None and report.failure.code == "engine_broken"
    assert not broken, report.failure.message if report.failure else ""
    assert faults(report) == []
    return report


def _holds(part: RunnerReport, whole: RunnerReport) -> None:
    """See that a part of a run gives no window, request or sample that the whole does not."""
    for name in ("windows", "generations", "inferences"):
        assert [one for one in getattr(part, name) if one not in getattr(whole, name)] == []
    # Which of several measurements counts may only show at the end.
    for name, values in part.samples.items():
        assert len(values) <= len(whole.samples.get(name, ()))


def _damaged(lines: list[bytes], draws: random.Random) -> Iterator[bytes]:
    """Give the lines with one of them changed in a way in which a runner, a disk or a user may change it."""
    at = draws.randrange(len(lines))
    for place, line in enumerate(lines):
        if place != at:
            yield line
            continue
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and event:
            event[draws.choice(sorted(event))] = draws.choice(_ODD)
            yield json.dumps(event).encode()
        else:
            cut = draws.randrange(len(line) + 1)
            yield line[:cut] + draws.randbytes(3) + line[cut:]
