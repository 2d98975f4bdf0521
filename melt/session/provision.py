"""Make melt's Python environment on a board or Mac: agents/provision does it there, as a job of the agent.

So it outlives the link and this process, and whoever asks again while it goes on follows it instead of starting a
second one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from melt._layout import agents_dir
from melt.errors import DeviceError, TransportError, UsageError
from melt.session.collect import Collected, collect
from melt.session.connect import Reached, reach
from melt.session.detached import begin, job_folder
from melt.session.occupied import JOBS, running_jobs
from melt.session.patience import BOOT_S
from melt.targets.blobs import Blobs
from melt.targets.jobfile import Job
from melt.targets.provision import JOB_PREFIX, Provisioned, Said, parse_line, provisioned, write_wish
from melt.targets.system import identify
from melt.telemetry.journal import Event as JournalEvent
from melt.telemetry.journal import Line, Record
from melt.transports.registry import open_transport, resolve

_PROGRAM = "provision.py"
_STDOUT, _STDERR = 0, 1
_FIND_PYTHON = """
stub=
if command -v xcode-select >/dev/null && ! xcode-select -p >/dev/null 2>&1; then stub=/usr/bin/python3; fi
for name in python3 /usr/bin/python3 /opt/homebrew/bin/python3 /usr/local/bin/python3; do
    found=$(command -v "$name") && [ "$found" != "$stub" ] && "$found" -c "" 2>/dev/null && echo "$found" && exit
done
exit 1
"""
"""Trying beats looking: one may be there and not start. That of a Mac without its developer tools is not even tried:
it would open a window on the screen.
"""
_AGAIN_S = 1.0


class ProvisionError(DeviceError):
    """A device could not be provisioned. `tail` is the end of the log, which lies on the device at `log`."""

    def __init__(self, message: str, tail: Sequence[str] = (), log: str | None = None) -> None:
        super().__init__(message)
        self.tail = tuple(tail)
        self.log = log


@dataclass(frozen=True, slots=True)
class Result:
    """A device that is as wanted. `changed`: something had to be done for that."""

    found: Provisioned
    changed: bool


def check(selector: str) -> Provisioned | None:
    """Return what a device has, leaving nothing on it. Raises UsageError, TransportError."""
    _refuse_unsuitable(resolve(selector))
    transport = open_transport(selector)
    try:
        return provisioned(transport, identify(transport).root(transport))
    finally:
        transport.close()


def provision(
    selector: str,
    *,
    gpu: bool = True,
    fresh: bool = False,
    see: Callable[[Said], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    stop: Event,
    lost_after_s: float = BOOT_S,
) -> Result:
    """Bring a device's environment to what this melt works with, following what is under way there already.

    `see` gets what the program on the device says, `say` what else is worth a line. `stop` ends it there too.
    Raises UsageError, ProvisionError, DeviceError, TransportError; after the last one it may go on there.
    """
    _refuse_unsuitable(resolve(selector))
    device = reach(selector)
    try:
        _refuse_if_measuring(device)
        following = _Following(device, see, say, stop, lost_after_s)
        job_dir = ""
        while True:
            started = following.start(gpu=gpu, fresh=fresh)
            last = following.follow(started)
            if last.event == "done":
                return _result(device, last)
            holder = str(last.data["job"])
            if holder != job_dir:
                say("it is being provisioned already: following that")
            job_dir = holder
            following.follow(holder, other=True)
            if stop.wait(_AGAIN_S):
                raise ProvisionError("stopped")
    finally:
        device.transport.close()


class _Following:
    """Starts the program on a device, and follows one to its last word."""

    def __init__(
        self,
        device: Reached,
        see: Callable[[Said], None],
        say: Callable[[str], None],
        stop: Event,
        lost_after_s: float,
    ) -> None:
        self._device = device
        self._see = see
        self._say = say
        self._stop = stop
        self._lost_after_s = lost_after_s
        self._python: str | None = None

    def start(self, *, gpu: bool, fresh: bool) -> str:
        """Start the program and return the folder of its job."""
        device = self._device
        if self._python is None:
            self._python = _find_python(device)
        files = sorted((agents_dir() / "provision").glob("*.py"))
        digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        folder = Blobs(device.transport, device.agent, device.root).ensure_together(digests)
        name = JOB_PREFIX + secrets.token_hex(4)
        job_dir = job_folder(device, name)
        job = Job(run_id=name, runner=(self._python, f"{folder}/{_PROGRAM}", f"{job_dir}/wish.json"))
        return begin(device, job, {"wish.json": write_wish(device.root, job_dir, gpu=gpu, fresh=fresh)})

    def follow(self, job_dir: str, *, other: bool = False) -> Said:
        """Return the last word of the program of a job: `done` or `busy`. Raises ProvisionError for any other end.

        Of an `other`'s job any end but `failed` is taken for done: what is still lacking shows at the next look.
        """
        said: list[Said] = []
        events: list[JournalEvent] = []
        complaints: list[str] = []

        def look(records: Sequence[Record]) -> None:
            for record in records:
                if isinstance(record, JournalEvent):
                    events.append(record)
                elif isinstance(record, Line) and record.source == _STDERR:
                    complaints.append(record.data.decode(errors="replace"))
                elif isinstance(record, Line) and record.source == _STDOUT and (one := parse_line(record.data)):
                    said.append(one)
                    self._see(one)

        with TemporaryDirectory() as scratch:
            try:
                collected = collect(
                    self._device.agent,
                    job_dir,
                    Path(scratch) / "journal",
                    see=look,
                    stop=self._stop,
                    lost_after_s=self._lost_after_s,
                    say=self._say,
                )
            except TransportError as error:
                raise type(error)(f"{error}; what was begun goes on there, and `melt provision` follows it") from error
        last = said[-1] if said else None
        if last is not None and last.event in ("done", "busy"):
            return last
        if last is not None and last.event == "failed":
            data = last.data
            raise ProvisionError(f"{self._device.transport.name}: {data['message']}", data["tail"], data["log"])
        if other and not collected.interrupted:
            return Said("done", {})
        raise ProvisionError(f"{self._device.transport.name}: {_why(collected, events, complaints)}", complaints[-20:])


def _why(collected: Collected, events: Sequence[JournalEvent], complaints: Sequence[str]) -> str:
    """Say why the program has no last word."""
    end = collected.end or {}
    if collected.state == "absent":
        return "the link broke before it had begun: provision again"
    exited = next((event.data for event in events if event.name == "runner_exited"), {})
    if collected.interrupted or end.get("reason") == "stopped":
        return "stopped; `melt provision` goes on where it broke off"
    if exited.get("oom_kill"):
        return "memory ran out and the kernel ended it: end other programs or add swap, then provision again"
    if end.get("rebooted"):
        return "it started anew in the middle of this; `melt provision` goes on where it broke off"
    if end.get("reason") == "runner_not_started":
        return "its Python could not be started"
    if complaints:
        return f"provision.py failed there: {complaints[-1]}"
    return "it was ended from outside; `melt provision` goes on where it broke off"


def _refuse_unsuitable(name: str) -> None:
    kind = name.partition(":")[0]
    if kind == "local":
        raise UsageError(
            "local: on this machine runners use melt's own Python: `pip install 'melt[llama,onnx]'` puts the engines in"
        )
    if kind == "adb":
        raise UsageError(f"{name}: a phone has no Python to provision; it gets the native runner: `melt build runner`")


def _refuse_if_measuring(device: Reached) -> None:
    """Compiling would spoil a run that goes on."""
    for name in running_jobs(device.transport, device.agent, device.root):
        if not name.startswith(JOB_PREFIX):
            raise DeviceError(
                f"{device.transport.name}: a run goes on there ({device.root}/{JOBS}/{name}): wait for its end"
            )


def _find_python(device: Reached) -> str:
    done = device.transport.run(("sh", "-c", _FIND_PYTHON))
    said = done.stdout.decode(errors="replace").split("\n")
    if done.exit_code:
        how = "`sudo apt install python3 python3-venv`, on a Mac `xcode-select --install`"
        raise ProvisionError(f"{device.transport.name}: there is no Python 3: {how}")
    return said[0]


def _result(device: Reached, last: Said) -> Result:
    found = provisioned(device.transport, device.root)
    if found is None:
        raise ProvisionError(f"{device.transport.name}: what was made does not start: provision again with --fresh")
    return Result(found, bool(last.data.get("changed")))
