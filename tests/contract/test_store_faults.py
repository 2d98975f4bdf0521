"""A store that cannot be used says so in one sentence, and what was in it stays."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_processes import start, use_as_nobody
from store_samples import make_bundle, make_trace

from melt.errors import StoreError
from melt.store.store import Store
from melt.store.upkeep import collect_garbage, verify


def publish_some(root: Path, count: int = 3) -> None:
    with Store.open(root) as store:
        for i in range(count):
            store.publish(make_bundle(f"r{i}", position=i, traces=(make_trace(20),)))


def refused(root: Path, *, create: bool = True) -> str:
    with pytest.raises(StoreError) as caught:
        Store.open(root, create=create)
    message = str(caught.value)
    assert "\n" not in message
    assert str(root) in message
    return message


def test_no_store_there(tmp_path: Path) -> None:
    assert "no results store" in refused(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists(), "looking makes nothing"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "in the way" in refused(tmp_path / "file")
    assert "in the way" in refused(tmp_path / "file" / "below")


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").write_bytes(b"this is a text" * 1000)
    assert "is not a results store" in refused(tmp_path)
    assert (tmp_path / "runs.sqlite").read_bytes().startswith(b"this is a text")


def test_a_database_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        connection.execute("CREATE TABLE runs (id)")
    connection.close()
    assert "another program" in refused(tmp_path)


def test_a_newer_store(tmp_path: Path) -> None:
    publish_some(tmp_path)
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9000'")
    connection.close()
    assert "newer melt" in refused(tmp_path)


def test_newer_documents(tmp_path: Path) -> None:
    publish_some(tmp_path)
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        connection.execute("UPDATE runs SET start_json = json_set(start_json, '$.version', 99) WHERE run_id = 'r1'")
    connection.close()
    with Store.open(tmp_path) as store:
        with pytest.raises(StoreError, match="format 99"):
            store.bundle("r1")
        assert store.bundle("r0").start.spec.run_id == "r0"
        assert [finding.where for finding in verify(store)] == ["r1"]


def _read_all(root: Path) -> None:
    with Store.open(root) as store:
        store.bundles()
        list(verify(store))


def test_a_damaged_database(tmp_path: Path) -> None:
    publish_some(tmp_path, 30)
    path = tmp_path / "runs.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + bytes(len(whole) - 8192))
    with pytest.raises(StoreError, match="is damaged"):
        _read_all(tmp_path)


def test_a_missing_and_a_damaged_trace(tmp_path: Path) -> None:
    publish_some(tmp_path)
    trace = tmp_path / "traces" / "r0" / "sensors.parquet"
    (tmp_path / "traces" / "r1" / "sensors.parquet").write_bytes(b"PAR1" + bytes(100))
    trace.unlink()
    with Store.open(tmp_path) as store:
        with pytest.raises(StoreError, match=r"r0/sensors\.parquet is missing"):
            store.trace("r0", "sensors")
        with pytest.raises(StoreError, match="cannot be read as Parquet"):
            store.trace("r1", "sensors")


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes; the kernel then refuses as it does on a full disk, with another number."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("limit_bytes", [1000, 100_000])
def test_files_that_may_not_grow(tmp_path: Path, limit_bytes: int) -> None:
    """The small limit stops the traces, the large one the database's log."""
    publish_some(tmp_path)
    with Store.open(tmp_path) as store:
        failed = None
        with file_size_limit(limit_bytes):
            for i in range(3, 60):
                try:
                    store.publish(make_bundle(f"r{i}", position=i, traces=(make_trace(20),)))
                except StoreError as error:
                    failed = (i, str(error))
                    break
        assert failed is not None
        assert "\n" not in failed[1]
        assert str(tmp_path) in failed[1]
        assert len(store.run_ids()) == failed[0]
        assert [f for f in verify(store) if f.harmful] == []
        store.publish(make_bundle(f"r{failed[0]}", position=failed[0], traces=(make_trace(20),)))
        assert len(store.run_ids()) == failed[0] + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    words = [mount or "mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or mount is None or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("a full disk needs the right to mount a small one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _publish_until_refused(root: Path) -> tuple[list[str], str]:
    done: list[str] = []
    with Store.open(root) as store:
        while True:
            run_id = f"r{len(done):03d}"
            try:
                store.publish(make_bundle(run_id, position=len(done), traces=(make_trace(500, seed=len(done)),)))
            except StoreError as error:
                return done, str(error)
            done.append(run_id)


def _spool_too_much(root: Path) -> None:
    with Store.open(root) as store, store.spool("live") as spool:
        spool.write_document("d", bytes(600_000))


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    done, said = _publish_until_refused(small_disk)
    assert "no room" in said
    assert str(small_disk) in said
    assert len(done) > 3
    with pytest.raises(StoreError, match=r"no room"):
        _spool_too_much(small_disk)
    roomy = tmp_path / "roomy"
    shutil.copytree(small_disk, roomy)
    with Store.open(roomy) as store:
        assert sorted(store.run_ids()) == done, "what was acknowledged is there, and nothing else"
        assert [f for f in verify(store) if f.harmful] == []
        collect_garbage(store)


def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    """Reading works; writing is refused in one sentence."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to become another user")
    root = tmp_path / "store"
    publish_some(root)
    for folder in (p for p in (tmp_path, *tmp_path.parents) if p.stat().st_uid == 0 and p != p.parent):
        folder.chmod(folder.stat().st_mode | 0o055)
    process, said = start(use_as_nobody, root, tmp_path / "warm")
    runs, *refusals = said.recv()
    process.join()
    assert runs == ["r0", "r1", "r2"]
    assert len(refusals) == 4
    for refusal in refusals:
        assert str(root) in refusal
        assert "cannot" in refusal
        assert "\n" not in refusal
