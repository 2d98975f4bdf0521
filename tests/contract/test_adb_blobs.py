"""Blobs on a phone: sent once, gone on with after a broken link, and only given up where room is needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.phone import VirtualPhone
from virtual.phone.testing import CLIENT_PARAMS, adb_server, playing

from melt.errors import AgentError, DeviceError, NoSpace
from melt.targets import blobs as blobs_module
from melt.targets.agent import AgentBinaries, AgentClient
from melt.targets.blobs import Blobs
from melt.transports.adb import AdbTransport
from melt.transports.base import Completed, Progress

pytestmark = pytest.mark.slow

ROOT = "/data/local/tmp/melt"
MB = 1_000_000


class CountingTransport(AdbTransport):
    """Remembers what was sent."""

    def __init__(self, serial: str, server: str) -> None:
        super().__init__(serial, server)
        self.offsets: list[int] = []

    def feed(
        self, argv: tuple[str, ...], local: Path, *, offset: int = 0, timeout_s: float, progress: Progress | None = None
    ) -> Completed:
        self.offsets.append(offset)
        return super().feed(argv, local, offset=offset, timeout_s=timeout_s, progress=progress)


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with playing("pixel-8", data_mb=256) as started:
        yield started


@pytest.fixture(scope="module")
def native() -> AgentBinaries:
    """The agent of this machine's processor: the one under qemu does the same, slower."""
    found = AgentBinaries.find()
    return AgentBinaries(
        found.version, found.folder, {**found.targets, "aarch64-linux-musl": found.targets["x86_64-linux-musl"]}
    )


@pytest.fixture(params=CLIENT_PARAMS)
def link(request: pytest.FixtureRequest, phone: VirtualPhone) -> Iterator[CountingTransport]:
    with adb_server(request.param) as server:
        transport = CountingTransport(phone.address, f"127.0.0.1:{server.port}")
        yield transport
        transport.run(["rm", "-rf", f"{ROOT}/blobs"])


@pytest.fixture
def agent(link: CountingTransport, native: AgentBinaries) -> AgentClient:
    client = AgentClient(link, ROOT, native)
    client.deploy()
    return client


@pytest.fixture
def blobs(link: CountingTransport, agent: AgentClient) -> Blobs:
    return Blobs(link, agent, ROOT)


def made(folder: Path, name: str, size: int) -> tuple[Path, str]:
    data = os.urandom(size)
    (folder / name).write_bytes(data)
    return folder / name, hashlib.sha256(data).hexdigest()


def test_a_blob_is_sent_once(blobs: Blobs, link: CountingTransport, tmp_path: Path) -> None:
    local, sha256 = made(tmp_path, "a model.gguf", 3 * MB)
    seen: list[tuple[int, int]] = []
    remote = blobs.ensure(local, sha256, progress=lambda done, total: seen.append((done, total)))
    assert remote == f"{ROOT}/blobs/{sha256[:16]}/a model.gguf"
    assert link.run(["sha256sum", remote]).stdout.split()[0].decode() == sha256
    assert seen[-1] == (3 * MB, 3 * MB)
    assert blobs.ensure(local, sha256) == remote
    assert link.offsets == [0]


def test_after_a_drop_only_the_rest_is_sent(
    blobs: Blobs, link: CountingTransport, phone: VirtualPhone, tmp_path: Path
) -> None:
    local, sha256 = made(tmp_path, "model", 40 * MB)
    phone.fault.drop_after(20 * MB)
    remote = blobs.ensure(local, sha256)
    assert link.run(["sha256sum", remote]).stdout.split()[0].decode() == sha256
    assert link.offsets[0] == 0
    assert len(link.offsets) == 2
    # What travelled last may have been in a buffer of the way: some packets of it, not the whole.
    assert 20 * MB - (4 << 20) < link.offsets[1] <= 20 * MB


def test_a_link_that_stays_away_is_given_up(
    blobs: Blobs, phone: VirtualPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "_GIVE_UP_S", 0.5)
    local, sha256 = made(tmp_path, "model", 1 * MB)
    blobs.ensure(local, sha256)
    phone.fault.unauthorized()
    phone.fault.drop()
    try:
        with pytest.raises(DeviceError):
            blobs.ensure(*made(tmp_path, "other", 1 * MB))
    finally:
        phone.fault.authorize()


def test_what_is_damaged_on_the_way_is_refused(blobs: Blobs, link: CountingTransport, tmp_path: Path) -> None:
    local, _ = made(tmp_path, "model", 1 * MB)
    with pytest.raises(AgentError, match="has the hash"):
        blobs.ensure(local, "0" * 64)
    assert link.offsets == [0, 0]
    assert link.run(["ls", "-A", f"{ROOT}/blobs/{'0' * 16}"]).stdout == b""


def test_a_damaged_part_costs_one_more_try(blobs: Blobs, link: CountingTransport, tmp_path: Path) -> None:
    local, sha256 = made(tmp_path, "model", 3 * MB)
    folder = f"{ROOT}/blobs/{sha256[:16]}"
    link.run(["mkdir", "-p", folder])
    link.run(["sh", "-c", f"head -c 1000000 /dev/zero > {folder}/model.part"])
    blobs.ensure(local, sha256)
    assert link.offsets == [1 * MB, 0]


def test_files_that_belong_together_lie_together_and_run(blobs: Blobs, link: CountingTransport, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n. ${0%/*}/words\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "words").write_text("echo ran\n")
    files = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "tool", tmp_path / "words")}
    folder = blobs.ensure_together(files)
    assert blobs.ensure_together(files) == folder
    assert link.run([f"{folder}/tool"]).stdout == b"ran\n"
    assert link.offsets == [0, 0]


def test_room_is_made_from_the_longest_unused_and_only_where_it_is_needed(
    link: CountingTransport, agent: AgentClient, phone: VirtualPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "_SPARE_BYTES", 2 * MB)
    earlier = Blobs(link, agent, ROOT)
    old, used, third = (earlier.ensure(*made(tmp_path, name, 10 * MB)) for name in ("old", "used", "third"))
    for age, path in ((3000, old), (2000, third), (100, used)):
        link.run(["sh", "-c", f'touch -d @$(( $(date +%s) - {age} )) "$1" "${{1%/*}}/.${{1##*/}}.sha256"', "sh", path])
    now = Blobs(link, agent, ROOT)
    phone.fault.disk_free(15_000)
    try:
        new = now.ensure(*made(tmp_path, "new", 11 * MB))
        there = {file.path for file in agent.stored(f"{ROOT}/blobs").files}
        assert there == {old, used, third, new}
        another = now.ensure(*made(tmp_path, "another", 10 * MB))
        there = {file.path for file in agent.stored(f"{ROOT}/blobs").files}
        assert there == {used, third, new, another}
        with pytest.raises(
            NoSpace, match=r"huge needs 97\.3 MiB, .* is free of .*, and 19\.1 MiB could be given up: remove something"
        ):
            now.ensure(*made(tmp_path, "huge", 100 * MB))
        assert {file.path for file in agent.stored(f"{ROOT}/blobs").files} == there
        assert now.clear() == 20 * MB
        assert {file.path for file in agent.stored(f"{ROOT}/blobs").files} == {new, another}
    finally:
        phone.fault.disk_free()
