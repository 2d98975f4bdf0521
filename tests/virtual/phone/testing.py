"""For pytest: a phone and an adb, or a skip that says by name what this machine lacks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from .clients import AdbServer, adb_programs
from .handle import VirtualPhone
from .requirements import Unavailable, require

CLIENTS = ("system", "wheel")
"""The adb of the system, and the newer one of the adbutils package."""

CLIENT_PARAMS = (CLIENTS[0], pytest.param(CLIENTS[1], marks=pytest.mark.slow))
"""Parameters for a test that holds for every adb; all but the first are slow, since most of it says the same twice."""


@contextlib.contextmanager
def playing(profile: str = "pixel-8", **options: object) -> Iterator[VirtualPhone]:
    """Play a phone, or skip; the options are those of VirtualPhone."""
    try:
        require()
    except Unavailable as reason:
        pytest.skip(str(reason))
    with VirtualPhone(profile, **options) as phone:  # type: ignore[arg-type]
        yield phone
    complaints = [entry["text"] for entry in phone.log() if entry["event"] == "stderr"]
    assert not complaints, "the phone itself failed:\n" + "\n".join(complaints)


@contextlib.contextmanager
def adb_server(client: str) -> Iterator[AdbServer]:
    """Start the server of one of CLIENTS, or skip."""
    programs = adb_programs()
    if client not in programs:
        pytest.skip(f"no {client} adb here: install Debian's adb, or the adbutils package")
    with AdbServer(programs[client]) as server:
        yield server


class Adb:
    """One client, connected to one phone."""

    def __init__(self, server: AdbServer, phone: VirtualPhone) -> None:
        self.server = server
        self.phone = phone
        server.connect(phone.address)

    def run(self, *arguments: str, input_bytes: bytes = b"", timeout_s: float = 30.0) -> CompletedProcess[bytes]:
        """Run the client to its end."""
        return self.server.run(*arguments, serial=self.phone.address, input_bytes=input_bytes, timeout_s=timeout_s)

    def shell(self, command: str) -> str:
        """Return what a command prints; it must end well."""
        done = self.run("shell", command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode()


def eventually(what: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until something is true, or fail."""
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s"
        time.sleep(0.01)
