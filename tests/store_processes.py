"""Processes that write to a store and may be killed. They start quickly, from a server that has imported melt."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from store_samples import make_bundle, make_trace

from melt.errors import StoreError
from melt.store.store import Store
from melt.store.upkeep import verify

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["melt.store.store"])


def start(target: Callable[..., None], *args: Any) -> tuple[Any, Connection]:
    """Start a process; returns it and the connection that it speaks through."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=target, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def kill(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def sample_of(run_id: str) -> Any:
    traces = (make_trace(50), make_trace(20, collector="self"))
    return make_bundle(run_id, traces=traces, attachments={"snapshot.json": "{}" * 100})


def publish_for_ever(root: Path, name: str, say: Connection) -> None:
    """Publish run after run, and say each id once it is acknowledged."""
    with Store.open(root) as store:
        number = 0
        while True:
            store.publish(sample_of(f"{name}-{number:04d}"))
            say.send(f"{name}-{number:04d}")
            number += 1


def publish_and_die_at(root: Path, run_id: str, step: int, say: Connection) -> None:
    """Publish one run, but die just before the n-th thing that is made durable, moved or removed."""
    store = Store.open(root)
    left = step

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    os.fsync = dying(os.fsync)
    os.rename = dying(os.rename)
    os.mkdir = dying(os.mkdir)
    os.close = dying(os.close)
    store.publish(sample_of(run_id))
    say.send("published")


def open_when_told(root: Path, say: Connection) -> None:
    """Open a store at the same moment as others, and say how it went."""
    say.send("ready")
    say.recv()
    try:
        with Store.open(root) as store:
            store.publish(sample_of(f"p{os.getpid()}"))
            say.send("opened")
    except Exception as error:  # noqa: BLE001 - the test wants to see whatever it was
        say.send(repr(error))


def hold_a_spool(root: Path, run_id: str, say: Connection) -> None:
    """Begin a run, write what a session writes, and wait to be killed."""
    spool = Store.open(root).spool(run_id)
    spool.write_document("start.json", b"{}")
    spool.journal_path.write_bytes(b"half a jour")
    say.send("holding")
    say.recv()


def take_leftovers_when_told(root: Path, say: Connection) -> None:
    """Take what is left over at the same moment as others, and hold it."""
    store = Store.open(root)
    say.send("ready")
    say.recv()
    taken = store.leftovers()
    say.send([spool.run_id for spool in taken])
    say.recv()


def use_as_nobody(root: Path, warm: Path, say: Connection) -> None:
    """Read a store of somebody else, then try to write to it; say what was read and how each refusal reads."""
    with Store.open(warm) as store:
        # Python's own files may be out of reach for nobody: everything is imported before.
        store.publish(sample_of("r0"))
        list(verify(store))
    os.setgid(65534)
    os.setuid(65534)
    refusals = []

    def refused(act: Callable[[], object]) -> None:
        try:
            act()
        except StoreError as error:
            refusals.append(str(error))

    with Store.open(root, create=False) as store:
        runs = sorted(store.run_ids())
        assert not [finding for finding in verify(store) if finding.harmful]
        refused(lambda: store.publish(sample_of("new")))
        refused(lambda: store.spool("new"))
        refused(lambda: store.tag("r0", ["night"]))
    refused(lambda: Store.open(root))
    say.send([runs, *refusals])
