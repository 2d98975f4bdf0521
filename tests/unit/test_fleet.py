"""The small decisions of the fleet: what is refused, what a sweep lacks, how long a plan takes, who has the device."""

from __future__ import annotations

import multiprocessing
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from store_samples import make_bundle

from melt.errors import DeviceError, UsageError
from melt.fleet.history import seconds_per_repetition
from melt.fleet.lease import Holder, lease
from melt.fleet.refuse import refusal
from melt.fleet.sweep import Sweep, load, missing, save
from melt.plan.expand import cell_key
from melt.records import Gate, Outcome, RunSpec, Settings, Verdict
from melt.store.store import Store
from melt.traces import RunBundle


def _spec(run_id: str = "r1", sweep_id: str = "s1") -> RunSpec:
    return replace(make_bundle().start.spec, run_id=run_id, sweep_id=sweep_id)


def _bundle(run_id: str, sweep_id: str, outcome: Outcome = Outcome.OK) -> RunBundle:
    bundle = make_bundle()
    start = replace(bundle.start, spec=_spec(run_id, sweep_id))
    return replace(bundle, start=start, stop=replace(bundle.stop, run_id=run_id, outcome=outcome))


def test_what_cannot_fit_is_an_out_of_memory_result_without_harm() -> None:
    start = make_bundle().start
    small = replace(start.device, memory_total_bytes=1 << 20)
    bundle = refusal(start.spec, start.artifact, small)
    assert bundle is not None
    assert (bundle.stop.outcome, bundle.stop.verdict) == (Outcome.OOM, Verdict.INVALID)
    (reason,) = bundle.stop.reasons
    assert reason.code == "does_not_fit"
    assert reason.figures["needed_bytes"] > reason.figures["total_bytes"]
    assert "1.00 MiB" in reason.message


@pytest.mark.parametrize("total", [None, 1 << 50])
def test_what_may_fit_is_tried(total: int | None) -> None:
    start = make_bundle().start
    assert refusal(start.spec, start.artifact, replace(start.device, memory_total_bytes=total)) is None


def test_what_others_leave_no_room_for_is_skipped() -> None:
    start = make_bundle().start
    busy = replace(start.device, memory_total_bytes=8 << 30, memory_available_bytes=64 << 20, swap_free_bytes=1 << 20)
    bundle = refusal(start.spec, start.artifact, busy)
    assert bundle is not None
    assert bundle.stop.outcome is Outcome.SKIPPED
    (reason,) = bundle.stop.reasons
    assert reason.code == "memory_occupied"
    assert reason.figures["available_bytes"] == 64 << 20
    assert "of the device's 8.00 GiB only 65.0 MiB can be had now" in reason.message


@pytest.mark.parametrize(
    ("device", "spec"),
    [
        ({"swap_free_bytes": 4 << 30}, {}),
        ({"os": "android"}, {}),
        ({"memory_available_bytes": None}, {}),
        ({"memory_total_bytes": 1 << 20}, {"gate": Gate(must_fit=False)}),
        ({"memory_total_bytes": 1 << 20, "arch": "x86_64"}, {"settings": Settings(n_gpu_layers=-1)}),
    ],
    ids=["swap makes room", "Android ends apps", "nobody knows", "asked for", "a GPU with its own memory"],
)
def test_what_the_system_can_make_room_for_is_tried(device: dict[str, object], spec: dict[str, object]) -> None:
    start = make_bundle().start
    tight = replace(start.device, memory_total_bytes=8 << 30, memory_available_bytes=64 << 20)
    assert refusal(replace(start.spec, **spec), start.artifact, replace(tight, **device)) is None


def test_a_sweep_is_found_by_its_beginning_and_lacks_what_has_no_good_end(tmp_path: Path) -> None:
    sweep = Sweep("20260101-a", tuple(_spec(run_id, "20260101-a") for run_id in ("r1", "r2", "r3")))
    save(tmp_path, sweep)
    save(tmp_path, Sweep("20260102-b", ()))
    assert load(tmp_path, "20260101") == sweep
    assert load(tmp_path, None).sweep_id == "20260102-b"
    with pytest.raises(UsageError, match="2 sweeps"):
        load(tmp_path, "2026")
    with pytest.raises(UsageError, match="no sweep 'x'"):
        load(tmp_path, "x")
    with Store.open(tmp_path) as store:
        store.publish(_bundle("r1", "20260101-a"))
        store.publish(_bundle("r2", "20260101-a", Outcome.ABORTED))
        now, todo = missing(sweep, store)
    assert now.specs[0].run_id == "r1"
    assert now.specs[2].run_id == "r3"
    assert now.specs[1].run_id not in {"r1", "r2", "r3"}, "an aborted run is asked for under a new id"
    assert [spec.run_id for spec in todo] == [now.specs[1].run_id, "r3"]


def test_earlier_runs_tell_how_long_a_repetition_takes() -> None:
    bundle = _bundle("r1", "s1")
    start = replace(bundle.start, started_utc_ns=0)
    repeat = start.spec.repeat
    took_s = 2.0 * (repeat.warmup + repeat.repetitions)
    ended = replace(bundle.stop, ended_utc_ns=int(took_s * 1e9))
    known = seconds_per_repetition([replace(bundle, start=start, stop=ended)])
    left_open = replace(start.spec, settings=replace(start.spec.settings, threads=None))
    assert known[cell_key(start.spec)] == known[cell_key(left_open)] == pytest.approx(2.0)
    assert not seconds_per_repetition([_bundle("r1", "s1", Outcome.FAILED)])


_PHONE = "android-0123456789abcdef"


def _try_to_hold(answers: multiprocessing.Queue[str]) -> None:
    try:
        with lease(_PHONE, "Pixel 8"):
            answers.put("held")
    except DeviceError as error:
        answers.put(str(error))


@pytest.mark.slow
def test_a_device_has_one_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = context.Queue()

    def other() -> str:
        process = context.Process(target=_try_to_hold, args=(answers,))
        process.start()
        answer = answers.get(timeout=30)
        process.join()
        return answer

    with lease(_PHONE, "Pixel 8"):
        assert re.match(r"another melt \(process \d+\) is measuring on Pixel 8", other())
        with lease("another phone", "Pixel 6"):
            pass
        with pytest.raises(DeviceError, match="Pixel 8 was named twice, by two addresses"), lease(_PHONE, "Pixel 8"):
            pass
    assert other() == "held"


def test_a_lease_tells_who_comes_next_what_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with lease(_PHONE, "Pixel 8") as first:
        assert (first.epoch, first.before) == (1, Holder())
        first.begin("/data/local/tmp/melt/jobs/a-long-name-of-a-run")
        first.begin("/jobs/r2")
    (path,) = (tmp_path / "melt" / "leases").iterdir()
    with lease(_PHONE, "Pixel 8") as second:
        assert second.epoch == 2
        assert second.before == Holder(epoch=1, pid=os.getpid(), job_dir="/jobs/r2")
    with lease(_PHONE, "Pixel 8") as third:
        assert third.before.job_dir == "/jobs/r2", "as long as nobody began another one"
        path.unlink()
        with lease(_PHONE, "Pixel 8"), pytest.raises(DeviceError, match="the lease of Pixel 8 is lost"):
            third.begin("/jobs/r3")


@pytest.mark.parametrize("torn", [b"", b"4711", b"{", b'{"epoch": 1, "pid"', b'{"later": 1}'])
def test_a_lease_that_cannot_be_read_is_a_new_one(torn: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "melt" / "leases").mkdir(parents=True)
    (tmp_path / "melt" / "leases" / f"{_PHONE}.lock").write_bytes(torn)
    with lease(_PHONE, "Pixel 8") as held:
        assert (held.epoch, held.before) == (1, Holder())
