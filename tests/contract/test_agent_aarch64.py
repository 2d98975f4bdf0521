"""The agent for phones and boards, under emulation: the same answers; of speed this says nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_rig import Agent

from melt.errors import AgentError
from melt.targets.agent import AgentBinaries
from melt.targets.jobfile import File, Group, Job, Poll, Prepare

pytestmark = pytest.mark.slow


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[Agent]:
    qemu = shutil.which("qemu-aarch64-static")
    if qemu is None:
        pytest.skip("needs qemu-aarch64-static (Debian: qemu-user-static)")
    try:
        binary = AgentBinaries.find().path("Linux", "aarch64")
    except AgentError as error:
        pytest.skip(str(error))
    rig = Agent(binary, tmp_path, emulator=(qemu,))
    yield rig
    rig.close()


def test_version(emulated: Agent) -> None:
    answer = emulated.json("version")
    assert (answer["arch"], answer["agent"]) == ("aarch64", AgentBinaries.find().version)


@pytest.mark.parametrize("way", ["plain", "fastest"])
def test_its_own_instructions_hash_as_the_plain_code_does(emulated: Agent, tmp_path: Path, way: str) -> None:
    """The emulated CPU has the crypto extension."""
    emulated.env["MELT_SHA256"] = way
    data = os.urandom(300_001)
    for size in (0, 1, 55, 56, 64, 65, 128, 300_001):
        path = tmp_path / "file"
        path.write_bytes(data[:size])
        assert emulated.json("hash", path)["sha256"] == hashlib.sha256(data[:size]).hexdigest()


@pytest.mark.parametrize(
    ("cpu", "path", "taken"),
    [
        ("max", "", ("i8mm", "asimd")),
        ("max", "asimddp", ("asimddp", "asimd")),
        ("cortex-a53", "i8mm", ("asimd", "asimd")),
        ("max", "plain", ("plain", "plain")),
    ],
)
def test_compute_takes_what_the_cpu_has(emulated: Agent, cpu: str, path: str, taken: tuple[str, str]) -> None:
    """It fails where a loop's results are not those of the operations that it counts; the rate is the emulator's."""
    emulated.env |= {"MELT_COMPUTE": path, "QEMU_CPU": cpu}
    answer = emulated.json("compute", "--threads", "2", "--ms", "40")
    assert (answer["int8_path"], answer["f32_path"]) == taken
    assert answer["int8_ops_per_s"] > 0
    assert answer["f32_ops_per_s"] > 0


def test_a_file_received(emulated: Agent, tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    sha256 = hashlib.sha256(data).hexdigest()
    path = tmp_path / "store" / "ab" / "model"
    assert emulated.run("receive", path, "3000001", "0", sha256, stdin=data[:2_000_000]).returncode == 1
    assert emulated.json("receive", path, "3000001", "2000000", sha256, stdin=data[2_000_000:])["size"] == len(data)
    assert path.read_bytes() == data
    assert emulated.json("hash", "--known", path)["sha256"] == sha256
    assert b'"used_s":0}' in emulated.run("stored", tmp_path / "store").stdout


def test_hash_and_read(emulated: Agent, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\0" * 100_000)
    assert emulated.json("hash", path)["sha256"] == hashlib.sha256(b"\0" * 100_000).hexdigest()
    path.write_bytes(b"content")
    assert emulated.run("read", path).stdout == f"{path} 7\ncontent\n".encode()


def test_a_short_job(emulated: Agent) -> None:
    groups = (Group(0, 20_000_000, (File(0, "/proc/version"), File(1, "/proc/{pid}/comm"))),)
    job = Job(
        run_id="r",
        runner=("/bin/sh", "-c", "sleep 0.3; echo done"),
        groups=groups,
        polls=(Poll(2, 100_000_000, ("echo", "polled")),),
        prepares=(Prepare("p", ("echo", "prepared")),),
    )
    folder = emulated.started(job)
    end = folder.end()
    assert (end["reason"], end["exit_code"]) == ("completed", 0)
    assert [line.data for line in folder.lines(0)] == [b"done"]
    assert folder.lines(2)[0].data == b"polled\n"
    assert folder.events("prepared")[0].data["stdout"] == "prepared\n"
    assert not folder.journal().torn
    ticks = folder.ticks()
    assert len(ticks) > 5
    assert ticks[0].contents[0] == Path("/proc/version").read_bytes()
