"""A host that can be killed: melt's own `conduct_sweep` in a process of its own, on boards that live in another one.

What is melt's stays melt's: recovering, conducting, leases, spool, store. Exchanged are the way to a device, what waits
(nobody sleeps: the board is told that time passes), and the clocks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NoReturn, Self
from unittest.mock import patch

from sqlalchemy import Engine, event

from melt.cli import _progress
from melt.cli.run import conduct_sweep
from melt.errors import MeltError, TransportError, UsageError
from melt.events import Event, RunEnded
from melt.fleet.sweep import Sweep, load
from melt.records import Artifact
from melt.transports.base import Completed, Progress

_HASTE = 20.0
"""How much longer than asked a wait lasts: minutes of patience cost a few tries."""
_CRASHED = 70


@dataclass(frozen=True, slots=True)
class HostFault:
    """Something that befalls the host at its `operation`th durable one: an fsync, a rename, a commit.

    `kind` is kill, full (its disk), clock (its UTC jumps by `amount` s) or interrupt (Ctrl-C).
    """

    operation: int
    kind: str
    after: bool = False
    amount: float = 0.0

    def __str__(self) -> str:
        more = f" by {self.amount:+.0f} s" if self.kind == "clock" else ""
        return f"host: {self.kind}{more} {'after' if self.after else 'before'} its operation {self.operation}"


@dataclass(frozen=True, slots=True)
class World:
    """Where a host works, and on what. `ballast` is a file on the store's disk that can fill it, None: it cannot."""

    sweep: Sweep
    artifact: Artifact
    store: Path
    state: Path
    log: Path
    ballast: Path | None


class _Clock:
    """The host's time, a thread for itself: nobody waits for what happens on other devices."""

    def __init__(self) -> None:
        self._thread = threading.local()
        self._monotonic_ns, self._utc_ns = time.monotonic_ns, time.time_ns
        self.jump_ns = 0

    def wait(self, seconds: float) -> None:
        """Let a thread's time pass; its device is told with the next question."""
        self.passed(seconds)
        self._thread.owed_s = getattr(self._thread, "owed_s", 0.0) + seconds

    def passed(self, seconds: float) -> None:
        self._thread.skipped_ns = getattr(self._thread, "skipped_ns", 0) + int(seconds * 1e9)

    def owed_s(self) -> float:
        """Return what a thread waited since it was last asked."""
        owed_s, self._thread.owed_s = getattr(self._thread, "owed_s", 0.0), 0.0
        return owed_s

    def monotonic_ns(self) -> int:
        return self._monotonic_ns() + getattr(self._thread, "skipped_ns", 0)

    def utc_ns(self) -> int:
        return self._utc_ns() + self.jump_ns

    @contextmanager
    def injected(self) -> Iterator[None]:
        with (
            patch("time.monotonic_ns", self.monotonic_ns),
            patch("time.monotonic", lambda: self.monotonic_ns() / 1e9),
            patch("time.time_ns", self.utc_ns),
            patch("time.time", lambda: self.utc_ns() / 1e9),
            patch("time.sleep", self.wait),
        ):
            yield


class _Stop(threading.Event):
    """What Ctrl-C sets; waiting for it lets time pass."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.wait((timeout or 0.0) * _HASTE)
        return self.is_set()


class _Shelf:
    """The way to the boards. Each thread takes a line of its own."""

    def __init__(self, lines: Sequence[Connection], clock: _Clock) -> None:
        self._free = deque(lines)
        self._thread = threading.local()
        self._clock = clock

    def ask(self, device: str, verb: str, *words: object) -> Any:
        line = getattr(self._thread, "line", None)
        if line is None:
            line = self._thread.line = self._free.popleft()
        line.send((device, self._clock.owed_s(), verb, words))
        answer = line.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def open(self, selector: str) -> _Transport:
        return _Transport(selector, partial(self.ask, selector), self._clock)


class _Transport:
    """What melt asks of a way to a device (melt/transports/base.py), of a board in another process."""

    def __init__(self, name: str, ask: Callable[..., Any], clock: _Clock) -> None:
        self.name = name
        self._ask = ask
        self._clock = clock

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        return Completed(tuple(argv), *self._ask("run", tuple(argv), timeout_s))

    def open(self, argv: Sequence[str]) -> _Channel:
        if argv[1] == "hash":
            paths = [path for path in argv[2:] if path != "--known"]
            said = self._ask("hashes", paths)
            lines = (
                b'{"path":"%s"%s}\n' % (path.encode(), b',"sha256":"%s"' % one.encode() if one else b"")
                for path, one in zip(paths, said, strict=True)
            )
            return _Channel(self._ask, self._clock, None, b"".join(lines))
        return _Channel(self._ask, self._clock, self._ask("open", tuple(argv)))

    def push(self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None) -> None:
        self._ask("push", remote, local.read_bytes())

    def feed(
        self, argv: Sequence[str], local: Path, *, offset: int = 0, timeout_s: float, progress: Progress | None = None
    ) -> Completed:
        return Completed(tuple(argv), *self._ask("receive", tuple(argv)))

    def pull(self, remote: str, local: Path, *, progress: Progress | None = None) -> None:
        raise TransportError(f"{self.name}: nothing is fetched from a board as a file")

    def close(self) -> None:
        pass


class _Channel:
    """A clock, a list of hashes that came at once, or a journal."""

    def __init__(self, ask: Callable[..., Any], clock: _Clock, number: int | None, said: bytes = b"") -> None:
        self._ask = ask
        self._clock = clock
        self._number = number
        self._said = said

    def read(self, size: int, timeout_s: float) -> bytes | None:
        if self._said or self._number is None:
            said, self._said = self._said, b""
            return said
        data, waited_s = self._ask("read", self._number, size, timeout_s)
        self._clock.passed(waited_s)
        return data

    def write(self, data: bytes) -> None:
        self._said += b'{"t_ns": %d}\n' % self._ask("clock", self._number)

    def close(self) -> int:
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _Fate:
    """Counts what the host does to its disk, and lets happen what is due."""

    def __init__(self, faults: Sequence[HostFault], world: World, clock: _Clock, stop: _Stop) -> None:
        self._faults = faults
        self._world = world
        self._clock = clock
        self._stop = stop
        self._count = 0
        self._lock = threading.Lock()

    def around(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **more: Any) -> Any:
            number = self._next()
            self._let_happen(number, after=False)
            found = action(*args, **more)
            self._let_happen(number, after=True)
            return found

        return act

    def committed(self, *_: object) -> None:
        self._let_happen(self._next(), after=False)

    def _next(self) -> int:
        with self._lock:
            self._count += 1
            return self._count

    def _let_happen(self, number: int, *, after: bool) -> None:
        for fault in self._faults:
            if (fault.operation, fault.after) != (number, after):
                continue
            if fault.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif fault.kind == "full" and self._world.ballast is not None:
                fill(self._world.ballast)
            elif fault.kind == "clock":
                self._clock.jump_ns += int(fault.amount * 1e9)
            elif fault.kind == "interrupt":
                self._stop.set()


def fill(ballast: Path) -> None:
    """Take all the room of a small disk."""
    with ballast.open("ab", buffering=0) as out:
        free = os.statvfs(ballast.parent)
        try:
            os.posix_fallocate(out.fileno(), 0, free.f_bavail * free.f_bsize)
            while True:
                out.write(b"x" * 512)
        except OSError:
            pass


def live(world: World, lines: Sequence[Connection], faults: Sequence[HostFault]) -> NoReturn:
    """Be the host until the sweep is over, or until something kills this process. Never returns."""
    code = _CRASHED
    try:
        log = os.open(world.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - this process's own
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.environ["XDG_STATE_HOME"] = str(world.state)
        code = _conduct(world, lines, faults)
    except MeltError as error:
        print(f"melt: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:  # noqa: BLE001 - what it is, is in the log
        traceback.print_exc()
    finally:
        os._exit(code)


def _conduct(world: World, lines: Sequence[Connection], faults: Sequence[HostFault]) -> int:
    clock = _Clock()
    stop, shelf = _Stop(clock), _Shelf(lines, clock)
    fate = _Fate(faults, world, clock, stop)
    shown = _progress.progress

    @contextmanager
    def progress(*words: Any) -> Iterator[Callable[[Event], None]]:
        with shown(*words) as show:

            def see(event: Event) -> None:
                show(event)
                if isinstance(event, RunEnded):
                    shelf.ask("", "acknowledge", event.bundle.stop.run_id, event.bundle.stop.outcome.value)

            yield see

    @contextmanager
    def interruptible(_promise: str) -> Iterator[_Stop]:
        yield stop

    event.listen(Engine, "commit", fate.committed)
    with ExitStack() as held:
        held.enter_context(clock.injected())
        for name in ("fsync", "fdatasync", "rename", "replace", "pwrite"):
            held.enter_context(patch(f"os.{name}", fate.around(getattr(os, name))))
        held.enter_context(patch("melt.session.connect.open_transport", shelf.open))
        held.enter_context(patch("melt.session.connect._CLOCK_ROUND_TRIPS", 3))
        held.enter_context(patch("melt.cli.run.stop_on_interrupt", interruptible))
        held.enter_context(patch("melt.cli._progress.progress", progress))
        try:
            sweep = load(world.store, world.sweep.sweep_id)
        except UsageError:
            sweep = world.sweep  # Killed before it was written down: the same command again.
        library: Any = SimpleNamespace(resolve=lambda *_, **__: world.artifact)
        args: Any = SimpleNamespace(store=world.store, output="json")
        return conduct_sweep(sweep, library, args)


def prepare_this_process() -> None:
    """Import what a host imports on its way, once for all that are forked."""
    import melt.analysis.alike
    import melt.fleet.carry_out
    import melt.report.comparison
    import melt.store.parquet  # noqa: F401
