"""Files that come to a device and stay there: received, known by their hash, listed for who makes room."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from agent_rig import Agent, is_alive, wait_for

from melt.errors import AgentError, NoSpace
from melt.targets.agent import AgentClient
from melt.transports.local import LocalTransport

DATA = os.urandom(3_000_001)
SHA256 = hashlib.sha256(DATA).hexdigest()


def receive(
    agent: Agent, path: Path, data: bytes, *, size: int = len(DATA), offset: int = 0, sha256: str = SHA256
) -> subprocess.CompletedProcess[bytes]:
    return agent.run("receive", path, str(size), str(offset), sha256, stdin=data)


def sender(agent: Agent, path: Path) -> subprocess.Popen[bytes]:
    """Begin a `receive` whose link stays open; the caller ends it."""
    words = (str(agent.binary), "receive", str(path), str(len(DATA)), "0", SHA256)
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=agent.env)
    assert process.stdin
    process.stdin.write(DATA[:100_000])
    process.stdin.flush()
    part = path.with_name(path.name + ".part")
    wait_for(lambda: part.exists() and part.stat().st_size == 100_000, "the part")
    return process


def test_what_comes_whole_gets_its_name(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / 'a "model".gguf'
    answer = agent.json("receive", path, str(len(DATA)), "0", SHA256, stdin=DATA + b"the next thing on the link")
    assert answer == {"path": str(path), "size": len(DATA), "sha256": SHA256}
    assert path.read_bytes() == DATA
    assert sorted(p.name for p in path.parent.iterdir()) == ['.a "model".gguf.sha256', 'a "model".gguf']


@pytest.mark.parametrize("kept", [0, 1, 1_000_000, len(DATA)])
def test_a_link_that_breaks_leaves_a_part_to_go_on_from(agent: Agent, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "model"
    part = tmp_path / "model.part"
    cut = receive(agent, path, DATA[: kept if kept < len(DATA) else kept - 1])
    assert cut.returncode == 1
    came = part.stat().st_size
    assert cut.stderr.decode() == f"melt-agent: {path}: {came} of {len(DATA)} bytes came\n"
    assert part.stat().st_blocks * 512 <= came + 65536  # the room that was kept was given back
    part.write_bytes(DATA[:kept] + b"more than was durable"[: len(DATA) - kept])
    assert receive(agent, path, DATA[kept:], offset=kept).returncode == 0
    assert path.read_bytes() == DATA
    assert not part.exists()


def test_a_part_shorter_than_thought_is_kept_and_named(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "model.part").write_bytes(b"abc")
    done = receive(agent, tmp_path / "model", DATA[4:], offset=4)
    assert done.returncode == 1
    assert done.stderr.decode() == f"melt-agent: {tmp_path}/model.part: only 3 bytes are there to go on from\n"


def test_what_has_another_hash_is_removed(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "model.part").write_bytes(b"\0" * 1000)
    done = receive(agent, tmp_path / "model", DATA[1000:], offset=1000)
    assert done.returncode == 1
    assert SHA256.encode() in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_at_all_is_a_file_too(agent: Agent, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"").hexdigest()
    assert receive(agent, tmp_path / "empty", b"", size=0, sha256=sha256).returncode == 0
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize("words", [("1", "2", SHA256), ("1", "-1", SHA256), ("x", "0", SHA256), ("1", "0", "abc")])
def test_wrong_numbers_are_wrong_usage(agent: Agent, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert agent.run("receive", tmp_path / "model", *words).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_second_sender_is_refused_while_bytes_come(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "model"
    first = sender(agent, path)
    assert first.stdin
    words = (str(agent.binary), "receive", str(path), str(len(DATA)), "0", SHA256)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=agent.env) as second:
        at = 100_000
        while second.poll() is None:
            first.stdin.write(DATA[at : at + 1000])
            first.stdin.flush()
            at += 1000
            time.sleep(0.005)  # the pace of a slow link
        assert second.stderr
        assert second.stderr.read().decode() == f"melt-agent: {path}: is being received from elsewhere\n"
        assert second.returncode == 1
    first.communicate(DATA[at:])
    assert first.returncode == 0
    assert path.read_bytes() == DATA


@pytest.mark.slow
def test_a_frozen_sender_is_replaced(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "model"
    frozen = sender(agent, path)
    assert receive(agent, path, DATA[100_000:], offset=100_000).returncode == 0
    frozen.communicate()
    assert frozen.returncode == -signal.SIGKILL
    assert path.read_bytes() == DATA


def test_a_full_disk_is_told_before_the_bytes_travel(shipped_agent: Path, tmp_path: Path) -> None:
    client = AgentClient(LocalTransport(), str(tmp_path))
    client.deploy()
    small = tmp_path / "small"
    small.mkdir()
    local = tmp_path / "local"
    local.write_bytes(DATA)
    if subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=1m", "none", small), check=False, capture_output=True
    ).returncode:
        pytest.skip("needs to mount a small file system")
    try:
        with pytest.raises(NoSpace, match=r"local: no room for .*/small/model: make room"):
            client.receive(local, f"{small}/model", SHA256)
        assert (small / "model.part").stat().st_size == 0
    finally:
        subprocess.run(("umount", small), check=True)


def test_the_client_sends_and_goes_on(shipped_agent: Path, tmp_path: Path) -> None:
    client = AgentClient(LocalTransport(), str(tmp_path))
    client.deploy()
    local = tmp_path / "local"
    local.write_bytes(DATA)
    store = tmp_path / "store"
    remote = f"{store}/ab/model"
    assert client.stored(str(store)).files == ()
    (store / "ab").mkdir(parents=True)
    Path(f"{remote}.part").write_bytes(DATA[:77])
    (part,) = client.stored(str(store)).files
    assert (part.path, part.size) == (f"{remote}.part", 77)
    seen: list[tuple[int, int]] = []
    client.receive(local, remote, SHA256, offset=part.size, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(DATA), len(DATA))
    stored = client.stored(str(store))
    assert [(f.path, f.size) for f in stored.files] == [(remote, len(DATA))]
    assert 0 < stored.free_bytes < stored.total_bytes
    assert client.hash([remote, f"{store}/none"], known=True) == {remote: SHA256}
    with pytest.raises(AgentError, match=r"agent receive: .*what came has the hash"):
        client.receive(local, remote, "0" * 64)


class TestKnown:
    """A hash that was taken before is believed only of the very same file."""

    @staticmethod
    def hash(agent: Agent, path: Path) -> str:
        return str(agent.json("hash", "--known", path)["sha256"])

    def known(self, agent: Agent, path: Path) -> Path:
        """Make the file's hash known, and give the record a mark that tells whether it is believed."""
        path.write_bytes(b"first")
        assert self.hash(agent, path) == hashlib.sha256(b"first").hexdigest()
        record = path.with_name(f".{path.name}.sha256")
        *fields, _ = record.read_bytes().split(b" ")
        record.write_bytes(b" ".join((*fields, b"b" * 64 + b"\n")))
        return record

    def test_a_file_that_was_not_touched_is_not_read_again(self, agent: Agent, tmp_path: Path) -> None:
        record = self.known(agent, tmp_path / "f")
        os.utime(record, (0, 0))
        assert self.hash(agent, tmp_path / "f") == "b" * 64
        assert record.stat().st_mtime > 1e9  # asking is using
        assert agent.json("hash", tmp_path / "f")["sha256"] == hashlib.sha256(b"first").hexdigest()

    def test_a_file_written_with_its_time_set_back_is_read(self, agent: Agent, tmp_path: Path) -> None:
        path = tmp_path / "f"
        self.known(agent, path)
        times = path.stat()
        path.write_bytes(b"other")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert self.hash(agent, path) == hashlib.sha256(b"other").hexdigest()

    def test_a_record_beside_another_file_is_not_believed(self, agent: Agent, tmp_path: Path) -> None:
        record = self.known(agent, tmp_path / "f")
        shutil.copy2(tmp_path / "f", tmp_path / "g")
        shutil.copy2(record, tmp_path / ".g.sha256")
        assert self.hash(agent, tmp_path / "g") == hashlib.sha256(b"first").hexdigest()

    @pytest.mark.parametrize("cut", [0, 5, -1, -2, -65])
    def test_a_record_cut_short_is_not_believed(self, agent: Agent, tmp_path: Path, cut: int) -> None:
        record = self.known(agent, tmp_path / "f")
        record.write_bytes(record.read_bytes()[:cut])
        assert self.hash(agent, tmp_path / "f") == hashlib.sha256(b"first").hexdigest()

    def test_a_record_by_somebody_else_or_by_a_link_is_not_believed(self, agent: Agent, tmp_path: Path) -> None:
        record = self.known(agent, tmp_path / "f")
        record.rename(tmp_path / "aside")
        record.symlink_to("aside")
        assert self.hash(agent, tmp_path / "f") == hashlib.sha256(b"first").hexdigest()
        record.unlink()
        (tmp_path / "aside").rename(record)
        if os.geteuid():
            pytest.skip("needs root to give a file away")
        os.chown(record, 1, 1)
        assert self.hash(agent, tmp_path / "f") == hashlib.sha256(b"first").hexdigest()

    def test_where_no_record_can_be_written_the_file_is_read(self, agent: Agent) -> None:
        assert len(self.hash(agent, Path("/proc/version"))) == 64

    def test_a_received_file_is_known(self, agent: Agent, tmp_path: Path) -> None:
        assert receive(agent, tmp_path / "f", DATA).returncode == 0
        fields = (tmp_path / ".f.sha256").read_text().split()
        info = (tmp_path / "f").stat()
        expected = ["melt-known", "1", info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, SHA256]
        assert fields == [str(field) for field in expected]


def test_stored_lists_files_one_folder_down_and_when_they_were_used(agent: Agent, tmp_path: Path) -> None:
    for name in ("top", "a/one", "a/two.part", "a/deeper/three", ".a.sha256", "b/.hidden"):
        path = tmp_path / "store" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        os.utime(path, (0, time.time() - 1000))
    (tmp_path / "store/a/link").symlink_to("one")
    (tmp_path / "store/linked").symlink_to("a")
    agent.json("hash", "--known", tmp_path / "store/a/one")
    done = agent.run("stored", tmp_path / "store")
    assert done.returncode == 0
    client = AgentClient(LocalTransport(), str(tmp_path))
    client._path = str(agent.binary)
    found = {Path(f.path).name: f for f in client.stored(str(tmp_path / "store")).files}
    assert sorted(found) == [".hidden", "one", "two.part"]
    assert found["one"].used_s < 60
    assert 900 < found["two.part"].used_s < 1100


def test_two_agents_never_mix(agent: Agent, tmp_path: Path) -> None:
    """A receiver that ended gives its place back at once."""
    process = sender(agent, tmp_path / "model")
    process.communicate()
    assert process.returncode == 1
    assert not is_alive(process.pid)
    assert receive(agent, tmp_path / "model", DATA[100_000:], offset=100_000).returncode == 0
