"""The process outside the phone that boots it, and boots it again; when it ends, the phone is gone."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import linux
from .device import REBOOT, Outfit, first_process
from .image import system_image
from .paths import control_socket, run_folder
from .profiles import load
from .requirements import register_qemu
from .rootfs import make_storage, remove_storage

Event = dict[str, Any]
_BOOT_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC


@dataclass(frozen=True)
class Options:
    """How a phone is played. `port` 0: a free one. `boot_s`: how long a reboot keeps the phone away."""

    profile: str
    port: int = 0
    data_mb: int = 512
    serial: str | None = None
    boot_s: float = 3.0
    adbd: str | None = None
    adb_keys: str | None = None


class Supervisor:
    """Plays one phone in this process and its children; to be run in a process of one thread, as root."""

    def __init__(self, options: Options, on_event: Callable[[Event], None], stop_fd: int | None = None) -> None:
        self._options = options
        self._on_event = on_event
        self._profile = load(options.profile)
        self._image = system_image(Path(options.adbd) if options.adbd else None)
        self._listener = _bound(options.port)
        self.port = int(self._listener.getsockname()[1])
        self._storage = run_folder(self.port)
        self._wake_read, self._wake_write = os.pipe()
        self._stop_fd = stop_fd

    def run(self) -> int:
        """Play the phone until told to stop by SIGTERM, SIGINT or the end of `stop_fd`; return an exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.write(self._wake_write, b"x"))
        shutil.rmtree(self._storage, ignore_errors=True)
        self._storage.mkdir(parents=True)
        control = socket.socket(socket.AF_UNIX)
        control.bind(str(control_socket(self.port)))
        control.listen()
        try:
            linux.own_user_namespace()
            linux.unshare(linux.CLONE_NEWNS, "a mount namespace")
            linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
            register_qemu()
            make_storage(self._storage, self._options.data_mb)
            return self._boots(control)
        finally:
            remove_storage(self._storage)

    def _boots(self, control: socket.socket) -> int:
        asleep_s = 0.0
        while True:
            status = self._boot(control, asleep_s)
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # the port stays ours, but nobody answers
            if status != REBOOT:
                self._on_event({"event": "ended", "status": status})
                return 0 if status is None else 1
            planned = self._next_boot()
            boot_s = planned.get("boot_s")
            asleep_s = planned.get("asleep_s", 0.0)
            if self._stopped_within(self._options.boot_s if boot_s is None else boot_s):
                return 0

    def _next_boot(self) -> dict[str, Any]:
        path = self._storage / "persist/next_boot.json"
        try:
            planned: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        path.unlink()
        return planned

    def _boot(self, control: socket.socket, asleep_s: float) -> int | None:
        """Run one boot to its end; return its status, None when it was stopped from outside."""
        events_read, events_write = os.pipe()
        lifeline_read, lifeline_write = os.pipe()
        supervisor = os.getpid()
        outfit = Outfit(
            profile=self._profile,
            image=self._image,
            storage=self._storage,
            serial=self._options.serial or f"VIRTUAL{self.port:05}",
            real_adbd=self._options.adbd is not None,
            data_bytes=self._options.data_mb << 20,
            adb_keys=self._options.adb_keys,
            listener=self._listener,
            control=control,
            events_fd=events_write,
            lifeline_fd=lifeline_read,
            asleep_s=asleep_s,
        )

        def boot() -> int:
            linux.die_with_parent(supervisor)
            os.close(lifeline_write)
            os.close(events_read)
            return _in_namespaces(outfit)

        child = linux.fork(boot, outfit.failed)
        os.close(events_write)
        os.close(lifeline_read)
        try:
            stopped = self._follow(events_read)
            if stopped:
                os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            return None if stopped else status
        finally:
            os.close(lifeline_write)
            os.close(events_read)

    def _follow(self, events_read: int) -> bool:
        """Hand on the phone's events until it is gone; true when it shall be stopped."""
        rest = b""
        with selectors.DefaultSelector() as selector:
            self._register_stop(selector)
            selector.register(events_read, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd != events_read:
                        return True
                    data = os.read(events_read, 1 << 16)
                    if not data:
                        return False
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._hand_on(line)

    def _hand_on(self, line: bytes) -> None:
        event = json.loads(line)
        if event["event"] == "booted":
            event |= {"port": self.port}
        self._on_event(event)

    def _stopped_within(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            self._register_stop(selector)
            return bool(selector.select(seconds))

    def _register_stop(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._wake_read, selectors.EVENT_READ)
        if self._stop_fd is not None:
            selector.register(self._stop_fd, selectors.EVENT_READ)


def _in_namespaces(outfit: Outfit) -> int:
    """Make the namespaces of one boot and wait for its first process."""
    linux.unshare(_BOOT_NAMESPACES, "the namespaces of a phone")
    linux.start_clocks_anew(outfit.asleep_s)
    first = linux.fork(lambda: first_process(outfit), outfit.failed)
    outfit.listener.close()
    outfit.control.close()
    os.close(outfit.events_fd)
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


def _bound(port: int) -> socket.socket:
    """Return a socket that holds a port without listening. A port asked for by number stays with its socket."""
    for _ in range(20):
        number = port
        if not number:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                number = probe.getsockname()[1]
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
        except OSError:
            listener.close()
            if port:
                raise
        else:
            return listener
    raise OSError("no free port was found")
