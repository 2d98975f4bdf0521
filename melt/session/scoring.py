"""Score model files on a device: a job of the agent's, which outlives the link and this process.

Where there is Python, agents/runners/llama_quality.py does it, elsewhere the native runner: both take the same job and
print the same lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from melt._layout import agents_dir
from melt.engines.llama_native import LlamaNative
from melt.errors import DeviceError, TransportError
from melt.records import Artifact, DeviceFacts
from melt.session.collect import Collected, collect
from melt.session.connect import Reached
from melt.session.detached import begin, job_folder
from melt.session.execute import clean_up
from melt.session.occupied import EVALUATION_PREFIX, JOBS, running_jobs
from melt.session.patience import BOOT_S
from melt.targets import runners
from melt.targets.blobs import Blobs
from melt.targets.jobfile import Job
from melt.targets.provision import LLAMA_CPP, provisioned
from melt.telemetry.journal import Event as JournalEvent
from melt.telemetry.journal import Line, Record

Say = Callable[[str], None]
Pushed = Callable[[str, int, int], None]
"""Told what is being sent, how much of it is there, and how much it is, in bytes."""

_STDOUT, _STDERR = 0, 1
_JOB, _DATA = "score.json", "data"
_PYTHON_FILES = ("llama_quality.py", "llama_api.py", "llama_scoring.py", "runner_io.py")
_NATIVE = "llama-native"


@dataclass(frozen=True, slots=True)
class Program:
    """What scores on a device. `engine_version` is what it says in its `hello`.

    `files` are put beside each other there; `argv` starts it, with `{folder}` for where they lie, `{job}` for the job.
    """

    engine_version: str
    files: tuple[Path, ...]
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be scored: the files, in the order of the job's models, and the text or the items as JSON.

    `key` is the same for whoever wants the same of the same files. `job` is asked when it starts, for what went on
    there already may have brought a part of it.
    """

    key: str
    job: Callable[[], Mapping[str, Any]]
    artifacts: tuple[Artifact, ...]
    data: bytes


def find_program(device: Reached, facts: DeviceFacts, say: Say) -> Program:
    """Return what scores on a device, built first where that must be.

    Raises EngineError, DeviceError, TransportError.
    """
    if facts.os == "android":
        return native_program(facts, say)
    found = provisioned(device.transport, device.root)
    if found is None or found.llama_cpp_version is None:
        name = device.transport.name
        raise DeviceError(
            f"{name}: it has no llama-cpp-python to score with: `melt provision {name.partition(':')[2]}` puts it there"
        )
    return python_program(f"{device.root}/venv/bin/python", found.llama_cpp_version)


def native_program(facts: DeviceFacts, say: Say) -> Program:
    """Return the native runner for a device. Raises EngineError."""
    built = LlamaNative().for_device(facts).built_runner()
    assert built is not None
    files = (runners.ensure(built, say),)
    return Program(LLAMA_CPP.replace("==", " "), files, (f"{{folder}}/{_NATIVE}", "--score", "{job}"))


def python_program(python: str, llama_cpp_version: str) -> Program:
    """Return the program for a device that has Python with llama-cpp-python."""
    files = tuple(agents_dir() / "runners" / name for name in _PYTHON_FILES)
    argv = (python, f"{{folder}}/{_PYTHON_FILES[0]}", "{job}", "--detached")
    return Program(f"llama-cpp-python {llama_cpp_version}", files, argv)


def score_there(
    device: Reached,
    program: Program,
    work: Work,
    *,
    see: Callable[[Mapping[str, Any]], None],
    stop: Event,
    say: Say = lambda _: None,
    pushed: Pushed = lambda *_: None,
    lost_after_s: float = BOOT_S,
) -> str | None:
    """Score on a device, or follow who does that already; `see` gets each event of the program, also an `error`.

    Returns why the program ended without a last word, None where it had one. What was begun stays there only while
    it goes on; `stop` ends it. Raises DeviceError, TransportError (after which it goes on there), what `see` raises.
    """
    job_dir = job_folder(device, f"{EVALUATION_PREFIX}{work.key}")
    _refuse_if_occupied(device, job_dir)
    following = _Following(device, job_dir, see, say, stop, lost_after_s)
    if device.agent.status(job_dir).state != "absent":
        say("this evaluation was begun there before: following that")
        why = following.follow()
        if why is None or stop.is_set():
            return why
    _start(device, program, work, pushed)
    return following.follow()


class _Following:
    """Reads what the program of a job says, to its end."""

    def __init__(
        self,
        device: Reached,
        job_dir: str,
        see: Callable[[Mapping[str, Any]], None],
        say: Say,
        stop: Event,
        lost_after_s: float,
    ) -> None:
        self._device = device
        self._job_dir = job_dir
        self._see = see
        self._say = say
        self._stop = stop
        self._lost_after_s = lost_after_s

    def follow(self) -> str | None:
        """Return why there was no last word, None where there was one; the job's folder is gone then."""
        ended = _Reader(self._see)
        with TemporaryDirectory() as scratch:
            try:
                collected = collect(
                    self._device.agent,
                    self._job_dir,
                    Path(scratch) / "journal",
                    see=ended.look,
                    stop=self._stop,
                    lost_after_s=self._lost_after_s,
                    say=self._say,
                )
            except TransportError as error:
                raise type(error)(f"{error}; the evaluation goes on there, the same command follows it") from error
        clean_up(self._device.transport, self._job_dir, self._stop, self._say)
        return None if ended.last_word else ended.why(collected)


class _Reader:
    """Makes events of the lines of a journal."""

    def __init__(self, see: Callable[[Mapping[str, Any]], None]) -> None:
        self._see = see
        self._begun = b""
        self._exited: Mapping[str, object] = {}
        self._complaint = ""
        self.last_word = False

    def look(self, records: Sequence[Record]) -> None:
        """Look at records in the order of the journal."""
        for record in records:
            if isinstance(record, JournalEvent) and record.name == "runner_exited":
                self._exited = record.data
            elif isinstance(record, Line) and record.source == _STDERR:
                self._complaint = record.data.decode(errors="replace").strip() or self._complaint
            elif isinstance(record, Line) and record.source == _STDOUT:
                # A chunk's scores are longer than a record of the journal.
                self._begun += record.data
                if not record.cut:
                    line, self._begun = self._begun, b""
                    self._heard(line)

    def _heard(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # torn when the device lost its power
        self.last_word = self.last_word or event["event"] in ("finish", "error")
        self._see(event)

    def why(self, collected: Collected) -> str:
        """Say why the program has no last word."""
        end = collected.end or {}
        if collected.interrupted or end.get("reason") == "stopped":
            return "was stopped"
        if self._exited.get("oom_kill"):
            return "was killed there because memory ran out"
        if end.get("rebooted"):
            return "ended when the device started anew"
        if collected.state == "absent":
            return "never began, for the link broke"
        return f"ended there: {self._complaint or 'it said nothing'}"


def _start(device: Reached, program: Program, work: Work, pushed: Pushed) -> None:
    name = f"{EVALUATION_PREFIX}{work.key}"
    job_dir = job_folder(device, name)
    blobs = Blobs(device.transport, device.agent, device.root)
    # The program first: it is small, and what is wrong with it is found out before gigabytes travel.
    folder = blobs.ensure_together({path: hashlib.sha256(path.read_bytes()).hexdigest() for path in program.files})
    paths = []
    for artifact in work.artifacts:

        def moved(done: int, total: int, name: str = Path(artifact.path).name) -> None:
            pushed(f"pushing {name}", done, total)

        paths.append(blobs.ensure(Path(artifact.path), artifact.sha256, progress=moved))
    job = dict(work.job())
    job["models"] = [{**model, "path": path} for model, path in zip(job["models"], paths, strict=True)]
    job["data"] = f"{job_dir}/{_DATA}"
    words = (word.replace("{folder}", folder).replace("{job}", f"{job_dir}/{_JOB}") for word in program.argv)
    begin(device, Job(run_id=name, runner=tuple(words)), {_DATA: work.data, _JOB: json.dumps(job).encode()})


def _refuse_if_occupied(device: Reached, own: str) -> None:
    """Two at once take each other's memory, and a run that goes on would be spoilt."""
    for name in running_jobs(device.transport, device.agent, device.root):
        job_dir = f"{device.root}/{JOBS}/{name}"
        if job_dir != own:
            raise DeviceError(f"{device.transport.name}: something goes on there already ({job_dir}): wait for its end")
