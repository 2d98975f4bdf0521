"""Whenever a writer is killed: what it acknowledged is there, whole, and nothing else can be seen."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from store_processes import (
    hold_a_spool,
    kill,
    open_when_told,
    publish_and_die_at,
    publish_for_ever,
    sample_of,
    start,
    take_leftovers_when_told,
)

from melt.store.store import Store
from melt.store.upkeep import collect_garbage, verify

KILLS = 20


def _check_whole(root: Path) -> set[str]:
    """Return the published runs, after checking that each is whole and readable."""
    with Store.open(root) as store:
        harm = [finding for finding in verify(store) if finding.harmful]
        assert harm == []
        for run_id in store.run_ids():
            assert store.collectors(run_id) == ["self", "sensors"]
        return set(store.run_ids())


@pytest.mark.slow
def test_two_writers_killed_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(4)
    acknowledged: set[str] = set()
    for round_ in range(KILLS // 2):
        writers = [start(publish_for_ever, tmp_path, f"w{round_}{side}") for side in "ab"]
        for _, said in writers:
            acknowledged.add(said.recv())
        # No further sign to wait for: any moment from now on is as good as another.
        writers[0][0].join(chance.uniform(0, 0.08))
        for process, said in writers:
            kill(process)
            try:
                while True:
                    acknowledged.add(said.recv())
            except EOFError:
                pass
    published = _check_whole(tmp_path)
    assert acknowledged <= published
    assert len(published) <= len(acknowledged) + KILLS, "at most one run per kill was done but not yet said"
    with Store.open(tmp_path) as store:
        collect_garbage(store)
        assert list(verify(store)) == []


@pytest.mark.slow
def test_killed_at_every_step(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    died = 0
    for step in range(100):
        run_id = f"r{step}"
        process, said = start(publish_and_die_at, tmp_path, run_id, step)
        process.join(30)
        assert process.exitcode is not None
        survived = process.exitcode == 0
        assert (run_id in _check_whole(tmp_path)) >= survived
        with Store.open(tmp_path) as store:
            store.publish(sample_of(run_id))
            assert store.bundle(run_id).start == sample_of(run_id).start
        said.close()
        if survived:
            break
        died += 1
    assert survived
    assert died >= 6, "files, their folder, the move and the folder above are all steps to die at"
    with Store.open(tmp_path) as store:
        collect_garbage(store)
        assert list(verify(store)) == []


@pytest.mark.slow
def test_many_create_one_store_at_once(tmp_path: Path) -> None:
    root = tmp_path / "store"
    openers = [start(open_when_told, root) for _ in range(6)]
    for _, talk in openers:
        assert talk.recv() == "ready"
    for _, talk in openers:
        talk.send("go")
    assert [talk.recv() for _, talk in openers] == ["opened"] * 6
    assert len(_check_whole(root)) == 6


@pytest.mark.slow
def test_a_killed_run_is_left_over_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    holders = [start(hold_a_spool, tmp_path, f"r{i}") for i in range(3)]
    for _, said in holders:
        assert said.recv() == "holding"
    assert store.leftovers() == [], "their owners live"
    for process, _ in holders:
        kill(process)
    takers = [start(take_leftovers_when_told, tmp_path) for _ in range(3)]
    for _, talk in takers:
        assert talk.recv() == "ready"
    for _, talk in takers:
        talk.send("go")
    taken = [run_id for _, talk in takers for run_id in talk.recv()]
    assert sorted(taken) == ["r0", "r1", "r2"], "each by exactly one"
    for process, _ in takers:
        kill(process)
    again = store.leftovers()
    assert [spool.run_id for spool in again] == ["r0", "r1", "r2"], "the takers died too"
    assert again[0].read_document("start.json") == b"{}"
    assert again[0].journal_path.read_bytes() == b"half a jour"


@pytest.fixture(autouse=True)
def _no_thread_is_left(tmp_path: Path):
    yield
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
        child.join()
