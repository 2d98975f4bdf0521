"""What contracts are held against: the agent that ships and one that watches itself, adb of each version, SSH."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_rig import Agent
from virtual.phone import VirtualPhone
from virtual.phone.clients import AdbServer
from virtual.phone.testing import CLIENT_PARAMS, Adb, adb_server

from melt.targets.agent import AgentBinaries
from melt.transports.ssh import SshTransport

BUILD = Path(__file__).resolve().parents[2] / "agents" / "build.py"


@pytest.fixture(scope="session")
def shipped_agent() -> Path:
    return AgentBinaries.find().path("Linux", "x86_64")


@pytest.fixture(scope="session")
def sanitized_agent() -> Path:
    done = subprocess.run([sys.executable, BUILD, "--sanitize"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(params=["shipped", pytest.param("sanitized", marks=pytest.mark.slow)])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    """A real agent; of the sanitized one every finding fails the test, also in the detached processes."""
    findings = tmp_path / "findings"
    # Leaks are no findings: what a job holds, it holds until its process ends.
    options = f"detect_leaks=0:log_path={findings}"
    env = {"ASAN_OPTIONS": options, "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={findings}"}
    rig = Agent(request.getfixturevalue(f"{request.param}_agent"), tmp_path, env)
    yield rig
    rig.close()
    assert not [report.read_text() for report in tmp_path.glob("findings.*")]


@pytest.fixture(scope="module", params=CLIENT_PARAMS)
def server(request: pytest.FixtureRequest) -> Iterator[AdbServer]:
    """An adb server of each version."""
    with adb_server(request.param) as started:
        yield started


@pytest.fixture
def adb(server: AdbServer, phone: VirtualPhone) -> Adb:
    """The client of that server, for the phone that the test's own module plays."""
    return Adb(server, phone)


@pytest.fixture
def open_ssh() -> Iterator[Callable[[str], SshTransport]]:
    """Open transports that are closed at the end."""
    opened: list[SshTransport] = []

    def opens(destination: str) -> SshTransport:
        opened.append(SshTransport(destination))
        return opened[-1]

    yield opens
    for transport in opened:
        transport.close()
