"""Faults on command: one JSON object a line, to a socket of the phone and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from . import linux
from .adbd import Adbd
from .link import Link
from .rootfs import count_oom_kill
from .system import System, as_root

_TIMEOUT_S = 30.0


class ControlError(Exception):
    """The phone refused a command, or is gone."""


def send(path: Path, command: str, **arguments: object) -> dict[str, Any]:
    """Send one command and return the answer; a phone that boots answers when it is up. Raises ControlError."""
    request = json.dumps({"command": command, **arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(request)
            line = connection.makefile("rb").readline()
    except OSError as error:
        raise ControlError(f"no phone answers at {path}: {error}") from None
    if not line:
        raise ControlError(f"the phone ended before it answered {command!r}")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise ControlError(f"{command}: {answer['error']}")
    return answer


class Controls:
    """The phone's side: what each command does."""

    def __init__(self, system: System, link: Link, daemon: Adbd | None, data_bytes: int) -> None:
        self._system = system
        self._link = link
        self._daemon = daemon
        self._data_bytes = data_bytes
        self._commands: dict[str, Callable[..., Awaitable[dict[str, Any] | None]]] = {
            "drop": self._drop,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "throttle": self._throttle,
            "latency": self._latency,
            "drop_after": self._drop_after,
            "disk_full": self._disk_full,
            "disk_free": self._disk_free,
            "reboot": self._reboot,
            "unauthorized": lambda: self._authorize(False),
            "authorize": lambda: self._authorize(True),
            "kill": self._kill,
            "ramp": self._ramp,
            "battery": self._battery,
            "plug": self._plug,
            "screen": self._screen,
            "set_sysfs": self._set_sysfs,
            "state": self._state,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the commands of one connection, until whoever asks hangs up or is killed."""
        with contextlib.suppress(ConnectionError):
            await self._converse(reader, writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request = json.loads(line)
            command = request.pop("command")
            try:
                answer = await self._commands[command](**request) or {}
            except KeyError:
                answer = {"error": f"unknown; known: {', '.join(self._commands)}"}
            except (TypeError, ValueError, OSError) as error:
                answer = {"error": str(error)}
            if command != "state":
                self._system.note("fault", command=command, **request)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()

    async def _drop(self) -> dict[str, Any]:
        return {"connections": self._link.drop()}

    async def _freeze(self) -> None:
        self._link.freeze(True)

    async def _thaw(self) -> None:
        self._link.freeze(False)

    async def _throttle(self, bytes_per_s: float) -> None:
        self._link.bytes_per_s = float(bytes_per_s)

    async def _latency(self, seconds: float, answers_s: float | None = None) -> None:
        self._link.latency_s = float(seconds)
        self._link.answer_latency_s = float(seconds if answers_s is None else answers_s)

    async def _drop_after(self, n_bytes: int) -> None:
        self._link.drop_after_bytes = int(n_bytes)

    async def _disk_full(self) -> None:
        await self._disk_free(0)

    async def _disk_free(self, kb: int | None) -> None:
        """Leave so much room on /data; None: as much as the phone has."""
        found = os.statvfs("/data")
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        # A size of 0 would mean "no limit" to tmpfs.
        size = self._data_bytes if kb is None else max(used + int(kb) * 1024, found.f_frsize)
        with as_root():
            flags = linux.MS_REMOUNT | linux.MS_NOSUID | linux.MS_NODEV
            linux.mount(None, "/data", None, flags, f"size={size}")

    async def _reboot(self, boot_s: float | None = None, asleep_s: float = 0.0) -> None:
        with as_root():
            Path("/persist/next_boot.json").write_text(json.dumps({"boot_s": boot_s, "asleep_s": asleep_s}))
        self._system.reboot("control")

    async def _authorize(self, allowed: bool) -> None:
        if self._daemon is None:
            raise ValueError("a real adbd is played, whose keys are its own")
        await self._daemon.authorize(allowed)

    async def _kill(
        self, match: str, signal_number: int = signal.SIGKILL, out_of_memory: bool = False
    ) -> dict[str, Any]:
        """Signal the processes whose command line holds `match`; for lack of memory with the traces that it leaves."""
        killed = []
        for pid, words in _processes():
            if match in words:
                message = _kill_message(pid, words)
                with as_root():
                    # As the kernel does: who waits for the process finds it counted.
                    if out_of_memory:
                        count_oom_kill()
                        self._system.state.logcat("I", "lowmemorykiller", message)
                    os.kill(pid, signal_number)
                killed.append(pid)
        return {"killed": killed}

    async def _ramp(self, temperature_c: float | None = None, seconds: float = 0.0) -> None:
        self._system.physics.ramp(temperature_c, float(seconds))
        self._system.refresh()

    async def _battery(self, **values: str | float | None) -> None:
        known = {"level", "status", "current_a", "voltage_uv", "temperature_c"}
        if unknown := set(values) - known:
            raise ValueError(f"unknown {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
        for name, value in values.items():
            if value is None:
                self._system.state.forced.pop(name, None)
            else:
                self._system.state.forced[name] = str(value)
        self._system.refresh()

    async def _plug(self, plugged: bool = True) -> None:
        self._system.state.plugged = bool(plugged)
        self._system.refresh()

    async def _screen(self, on: bool = True) -> None:
        self._system.state.screen_on = bool(on)

    async def _set_sysfs(self, values: dict[str, str]) -> None:
        with as_root():
            self._system.sysfs.set({name.removeprefix("/sys/"): str(value) for name, value in values.items()})

    async def _state(self) -> dict[str, Any]:
        return self._system.state.summary()


def _kill_message(pid: int, words: str) -> str:
    """Say it as lmkd.cpp of AOSP does."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    freed = f"{pages * os.sysconf('SC_PAGE_SIZE') // 1024}kB rss, 0kB swap"
    name = words.split()[0]
    return f"Kill '{name}' ({pid}), uid 2000, oom_score_adj 900 to free {freed}; reason: low watermark is breached"


def _processes() -> list[tuple[int, str]]:
    """Return the command lines of all processes but the phone's own two."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) not in (1, os.getpid()):
            try:
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words.strip():
                found.append((int(folder.name), words))
    return found
