"""Every verb that needs no running job, on the real binary."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agent_rig import Agent, wait_for

from melt.errors import AgentError
from melt.targets.agent import AgentBinaries, AgentClient
from melt.targets.jobfile import Job, encode_field
from melt.transports.local import LocalTransport


def test_version(agent: Agent) -> None:
    answer = agent.json("version")
    assert answer == {
        "agent": AgentBinaries.find().version,
        "protocol": 1,
        "os": "linux",
        "arch": platform.machine(),
    }


@pytest.mark.parametrize(
    "words",
    [(), ("fly",), ("start",), ("version", "x"), ("tail", "x"), ("tail", "x", "-1"), ("tail", "x", "0", "--fast"),
     ("hash",), ("read",), ("bandwidth", "--threads"), ("bandwidth", "--bytes", "1"),
     ("compute", "--ms", "0"), ("compute", "--seconds", "1"),
     ("burst",), ("burst", "10", "10"), ("burst", "0"), ("burst", "1001"), ("burst", *["1"] * 65),
     ("burst", "--threads", "0", "1")],
)  # fmt: skip
def test_wrong_usage_exits_2_and_says_what_there_is(agent: Agent, words: tuple[str, ...]) -> None:
    done = agent.run(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"usage: melt-agent VERB")


def test_clock_answers_each_line_with_the_clock_of_python(agent: Agent) -> None:
    before_ns = time.monotonic_ns()
    done = agent.run("clock", stdin=b"\nanything\n\n")
    after_ns = time.monotonic_ns()
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 3
    assert before_ns <= answers[0]["t_ns"] <= answers[1]["t_ns"] <= answers[2]["t_ns"] <= after_ns
    assert abs(answers[0]["realtime_ns"] - time.time_ns()) < 60e9
    assert answers[0]["boottime_ns"] > 0


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 262144, 262145, 3_000_001])
def test_hash_is_the_sha256(agent: Agent, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file with blank"
    path.write_bytes(data)
    answer = agent.json("hash", path)
    assert answer == {"path": str(path), "sha256": hashlib.sha256(data).hexdigest(), "size": size}


NIST = {  # FIPS 180-4's examples (SHA256.pdf) and a million times "a"
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}


@pytest.mark.parametrize("way", ["plain", "vector", "fastest"])
def test_every_way_of_hashing_agrees(agent: Agent, tmp_path: Path, way: str) -> None:
    expected = {}
    for i, data in enumerate([*NIST, *(os.urandom(n) for n in (*range(60, 70), 127, 128, 129, 4096, 99_991))]):
        path = tmp_path / f"{i}"
        path.write_bytes(data)
        expected[str(path)] = NIST.get(data) or hashlib.sha256(data).hexdigest()
    agent.env["MELT_SHA256"] = way
    answers = [json.loads(line) for line in agent.run("hash", *expected).stdout.splitlines()]
    assert {answer["path"]: answer["sha256"] for answer in answers} == expected


def test_hash_names_what_it_cannot_read(agent: Agent, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b'/\xff"\xc3\xa9\n'
    Path(os.fsdecode(odd)).write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    done = agent.run("hash", os.fsdecode(odd), tmp_path / "none", tmp_path, tmp_path / "pipe")
    first, *others = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["path"] == os.fsdecode(odd)
    assert first["size"] == 1
    assert [o["error"] for o in others] == ["No such file or directory", "Is a directory", "Invalid argument"]


def test_read_gives_names_and_bytes_as_they_are(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "a 1").write_bytes(b"\x00\n%")
    (tmp_path / "a 2").write_bytes(b"")
    (tmp_path / "a 3").write_bytes(b"y" * 70000)
    (tmp_path / "a 4").mkdir()
    os.mkfifo(tmp_path / "a 5")
    done = agent.run("read", tmp_path / "a *", tmp_path / "nothing*")
    name = encode_field(str(tmp_path / "a "))
    assert done.stdout == b"".join(
        (name + b"1 3\n\x00\n%\n", name + b"2 0\n\n", name + b"3 65536\n" + b"y" * 65536 + b"\n", name + b"5 -1\n")
    )


def test_read_through_the_client_equals_the_files(shipped_agent: Path, tmp_path: Path) -> None:
    client = AgentClient(LocalTransport(), str(tmp_path))
    client.deploy()
    found = client.read(["/sys/class/net/lo/*", "/proc/sys/kernel/ostype", "/nope/*"])
    assert found["/proc/sys/kernel/ostype"] == b"Linux\n"
    assert found["/sys/class/net/lo/mtu"] == Path("/sys/class/net/lo/mtu").read_bytes()


def test_bandwidth_is_a_positive_number_of_whole_passes(agent: Agent) -> None:
    answer = agent.json("bandwidth", "--threads", "1", "--bytes", str(8 << 20), "--seconds", "1")
    assert answer["bytes_per_s"] > 1e8
    assert (answer["threads"], answer["bytes"]) == (1, 8 << 20)
    assert answer["passes"] >= 3


@pytest.mark.parametrize("path", ["avx512_vnni", "avx_vnni", "avx2", "avx512f", "fma", "plain", "no such path"])
def test_compute_counts_what_it_computes(agent: Agent, path: str) -> None:
    """Each loop adds up its own results, and the agent fails where they are not those of the operations it counts."""
    agent.env["MELT_COMPUTE"] = path
    answer = agent.json("compute", "--threads", "2", "--ms", "40")
    assert sorted(answer) == ["f32_ops_per_s", "f32_path", "int8_ops_per_s", "int8_path", "threads"]
    assert answer["threads"] == 2
    assert answer["int8_ops_per_s"] > 1e7
    assert answer["f32_ops_per_s"] > 1e7
    flags = Path("/proc/cpuinfo").read_text().split()
    taken = (answer["int8_path"], answer["f32_path"])
    assert path in taken or path not in (*flags, "plain"), "the CPU has what was asked for"
    assert all(one in (*flags, "plain") for one in taken)


def test_compute_lasts_as_long_as_it_is_told(agent: Agent) -> None:
    began_s = time.monotonic()
    agent.json("compute", "--threads", "1", "--ms", "200")
    assert 0.19 < time.monotonic() - began_s < 5


def test_a_burst_says_when_it_was_busy(agent: Agent) -> None:
    before_ns = time.monotonic_ns()
    answer = agent.json("burst", "--threads", "1", "30", "20", "10", "40", "50")
    after_ns = time.monotonic_ns()
    edges_ns = [edge for span in answer["busy_ns"] for edge in span]
    assert (answer["threads"], len(answer["busy_ns"])) == (1, 3)
    assert [before_ns, *edges_ns, after_ns] == sorted([before_ns, *edges_ns, after_ns])
    for (begun_ns, ended_ns), asked_ms in zip(itertools.pairwise(edges_ns), (30, 20, 10, 40, 50), strict=True):
        assert ended_ns - begun_ns >= asked_ms * 1_000_000


def test_a_burst_works_while_it_says_so_and_rests_in_between(agent: Agent) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURES_CPU, str(agent.binary), "burst", "--threads", "2", "40", "300", "40"],
        capture_output=True,
        check=True,
    )
    used_s = json.loads(done.stdout)
    assert 0.02 < used_s < 0.25, "two threads work 80 ms of 380"


_MEASURES_CPU = """\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


class TestClient:
    """The host's side, over a real transport."""

    def test_deploys_once_and_again_when_it_is_not_the_same(self, shipped_agent: Path, tmp_path: Path) -> None:
        client = AgentClient(LocalTransport(), str(tmp_path))
        with pytest.raises(AgentError, match="not deployed"):
            client.version()
        assert client.deploy().agent == client.expected_version
        path = Path(client.path)
        made = path.stat().st_mtime_ns
        client.deploy()
        assert path.stat().st_mtime_ns == made
        path.unlink()
        path.write_text('#!/bin/sh\necho \'{"agent":"old","protocol":1,"os":"linux","arch":"x"}\'\n')
        path.chmod(0o755)
        assert client.deploy().agent == client.expected_version

    def test_names_the_devices_it_has_no_agent_for(self) -> None:
        binaries = AgentBinaries("v", Path("bin"), {"x86_64-linux-musl": {"file": "a"}})
        assert binaries.path("Linux", "x86_64") == Path("bin/a")
        with pytest.raises(AgentError, match="no agent for Linux on riscv64, only for x86_64-linux-musl"):
            binaries.path("Linux", "riscv64")

    def test_clock_offset_to_the_same_machine_is_nothing(self, shipped_agent: Path, tmp_path: Path) -> None:
        client = AgentClient(LocalTransport(), str(tmp_path))
        client.deploy()
        offset_ns, uncertainty_ns = client.clock_offset(20)
        assert abs(offset_ns) <= uncertainty_ns

    def test_arithmetic_is_measured_as_the_agent_says(self, shipped_agent: Path, tmp_path: Path) -> None:
        client = AgentClient(LocalTransport(), str(tmp_path))
        client.deploy()
        found = client.compute(1)
        assert found.threads == 1
        assert found.int8_ops_per_s > 1e8
        assert found.f32_ops_per_s > 1e8
        assert {found.int8_path, found.f32_path} <= {*Path("/proc/cpuinfo").read_text().split(), "plain"}

    def test_a_burst_is_on_the_clock_of_the_device(self, shipped_agent: Path, tmp_path: Path) -> None:
        client = AgentClient(LocalTransport(), str(tmp_path))
        client.deploy()
        before_ns = time.monotonic_ns()
        (first, last) = client.burst((10, 5, 20))
        assert before_ns <= first[0] < first[1] < last[0] < last[1] <= time.monotonic_ns()

    def test_an_agent_that_is_still_at_work_is_waited_for(self, tmp_path: Path) -> None:
        client = AgentClient(LocalTransport(), str(tmp_path))
        client._path = str(tmp_path / "agent")
        script = '#!/bin/sh\nprintf \'\\n\\n{"path":"%s",\' "$2"; echo \'"sha256":"abc","size":1}\'\n'
        Path(client.path).write_text(script)
        Path(client.path).chmod(0o755)
        assert client.hash(["big"]) == {"big": "abc"}
        Path(client.path).write_text("#!/bin/sh\necho\n")
        with pytest.raises(AgentError, match="agent hash ended before it answered"):
            client.hash(["big"])

    def test_a_tail_whose_listener_leaves_ends(self, agent: Agent, tmp_path: Path) -> None:
        folder = agent.started(Job(run_id="r", runner=("sleep", "60")))
        channel = LocalTransport().open((str(agent.binary), "tail", str(folder.path), "0", "--follow"))
        assert channel.read(8, 10.0) == b"MELTJRN1"
        process = channel._process.pid  # type: ignore[attr-defined]
        channel.close()
        wait_for(lambda: not Path(f"/proc/{process}").exists(), "the end of the tail")
