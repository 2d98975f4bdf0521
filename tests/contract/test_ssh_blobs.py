"""The agent and its blobs over SSH: put there once, gone on with after a link that broke on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from virtual.ssh_testing import serving
from virtual.sshd import Sshd

from melt.errors import AgentError, NoSpace
from melt.targets.agent import AgentClient
from melt.targets.blobs import Blobs
from melt.transports.base import Completed, Progress
from melt.transports.ssh import SshTransport

pytestmark = pytest.mark.slow

MB = 1_000_000


class CountingTransport(SshTransport):
    """Remembers what was sent, and lets the link break once."""

    def __init__(self, server: Sshd) -> None:
        super().__init__(server.alias)
        self.offsets: list[int] = []
        self.drop_at: int | None = None
        self._server = server

    def feed(
        self,
        argv: Sequence[str],
        local: Path,
        *,
        offset: int = 0,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Completed:
        def watched(done: int, total: int) -> None:
            if self.drop_at is not None and done >= self.drop_at:
                self.drop_at = None
                self._server.drop_links()
            if progress is not None:
                progress(done, total)

        if "receive" in argv:
            self.offsets.append(offset)
        return super().feed(argv, local, offset=offset, timeout_s=timeout_s, progress=watched)


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with serving() as started:
        yield started


@pytest.fixture
def link(server: Sshd) -> Iterator[CountingTransport]:
    transport = CountingTransport(server)
    yield transport
    transport.close()


@pytest.fixture
def root(link: CountingTransport) -> str:
    return link.run(["sh", "-c", "mktemp -d -p ~"]).stdout.decode().strip()


@pytest.fixture
def agent(link: CountingTransport, root: str) -> AgentClient:
    client = AgentClient(link, root)
    client.deploy()
    return client


@pytest.fixture
def blobs(link: CountingTransport, agent: AgentClient, root: str) -> Blobs:
    return Blobs(link, agent, root)


def made(folder: Path, name: str, size: int) -> tuple[Path, str]:
    data = os.urandom(size)
    (folder / name).write_bytes(data)
    return folder / name, hashlib.sha256(data).hexdigest()


def test_the_agent_is_put_there_once_and_answers(agent: AgentClient, link: CountingTransport, root: str) -> None:
    before = link.run(["find", root, "-name", "melt-agent", "-printf", "%i"]).stdout
    assert before
    assert agent.deploy().agent == agent.expected_version
    assert link.run(["find", root, "-name", "melt-agent", "-printf", "%i"]).stdout == before
    offset_ns, uncertainty_ns = agent.clock_offset(n=5)
    assert abs(offset_ns) <= uncertainty_ns + 1_000_000  # the same clock on both sides


def test_a_blob_is_sent_once(blobs: Blobs, link: CountingTransport, root: str, tmp_path: Path) -> None:
    local, sha256 = made(tmp_path, "a model's Größe.gguf", 3 * MB)
    seen: list[tuple[int, int]] = []
    remote = blobs.ensure(local, sha256, progress=lambda done, total: seen.append((done, total)))
    assert remote == f"{root}/blobs/{sha256[:16]}/a model's Größe.gguf"
    assert hashlib.sha256(Path(remote).read_bytes()).hexdigest() == sha256
    assert seen[-1] == (3 * MB, 3 * MB)
    assert blobs.ensure(local, sha256) == remote
    assert link.offsets == [0]


def test_after_a_drop_only_the_rest_is_sent(blobs: Blobs, link: CountingTransport, tmp_path: Path) -> None:
    local, sha256 = made(tmp_path, "model", 40 * MB)
    link.drop_at = 20 * MB
    remote = blobs.ensure(local, sha256)
    assert hashlib.sha256(Path(remote).read_bytes()).hexdigest() == sha256
    assert link.offsets[0] == 0
    assert len(link.offsets) == 2
    # What travelled last may have been on the way: a window of it and what the sockets hold, not the whole.
    assert 20 * MB - (8 << 20) < link.offsets[1] <= 21 * MB


def test_what_is_damaged_on_the_way_is_refused(blobs: Blobs, link: CountingTransport, tmp_path: Path) -> None:
    local, _ = made(tmp_path, "model", 1 * MB)
    with pytest.raises(AgentError, match="has the hash"):
        blobs.ensure(local, "0" * 64)
    assert link.offsets == [0, 0]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a full disk needs root, to mount a small one")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o size=40m none {disk} && exec "$0" "$@"'
    with serving(enter=("unshare", "--mount", "sh", "-c", mounted)) as server:
        link = CountingTransport(server)
        agent = AgentClient(link, str(disk))
        agent.deploy()
        with pytest.raises(NoSpace, match=r"ssh:board: big needs .* is free of .*: remove something"):
            Blobs(link, agent, str(disk)).ensure(*made(tmp_path, "big", 50 * MB))
        link.close()
