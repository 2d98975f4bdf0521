"""Which session a run belongs to: another with each block, boot and melt, and what lay before it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.events import Note, Reading
from melt.fleet.sessions import Sessions
from melt.records import Apart, DeviceFacts, Gate, RunSpec, Session
from melt.session.connect import Site
from melt.store.store import Store
from melt.targets.base import Target

FACTS = make_bundle().start.device
ZONE = "/sys/class/thermal/thermal_zone0/"
COOL = Gate(temperature_max_c=40.0)


def spec(block: int, **parts: object) -> RunSpec:
    return replace(make_bundle(block=block).start.spec, **parts)


def site(facts: DeviceFacts = FACTS, milli_c: str = "41500") -> Site:
    snapshot = {f"{ZONE}type": b"x86_pkg_temp\n", f"{ZONE}temp": f"{milli_c}\n".encode()}
    # Nothing is asked of the device: what it is reached by is not looked at.
    target = Target("local", None, None, "/root", facts, "python3")  # type: ignore[arg-type]
    return Site("local", None, target, snapshot, 0, 0)  # type: ignore[arg-type]


def booted(boot_id: str | None) -> Site:
    return site(replace(FACTS, boot_id=boot_id))


def test_runs_of_a_block_are_one_session_and_the_next_block_is_another() -> None:
    sessions = Sessions()
    made = [sessions.of(spec(block), site()) for block in (0, 0, 1, 1, 2)]
    assert [session.number for session in made] == [0, 0, 1, 1, 2]
    assert made[0] is made[1]
    assert [session.apart for session in made[::2]] == [Apart.START, Apart.BLOCK, Apart.BLOCK]
    assert len({session.uid for session in made}) == 3
    first = made[0]
    assert (first.sweep_id, first.device_id, first.boot_id) == ("s0", FACTS.device_id, "b1")
    assert first.temperature_c == 41.5
    assert first.rested_s is None
    assert abs(first.began_utc_ns - time.time_ns()) < 60e9


def test_a_boot_begins_another_session_within_a_block() -> None:
    sessions = Sessions()
    made = [sessions.of(spec(0), booted(boot_id)) for boot_id in ("b1", "b1", "b2", "b2")]
    assert [(s.number, s.apart) for s in made] == [
        (0, Apart.START),
        (0, Apart.START),
        (1, Apart.BOOT),
        (1, Apart.BOOT),
    ]
    assert sessions.of(spec(1, gate=COOL), booted("b3")).apart is Apart.BOOT


@pytest.mark.parametrize(
    ("gate", "apart"),
    [
        (Gate(), Apart.BLOCK),
        (Gate(battery_min_ratio=0.5, cpu_idle_min_ratio=0.9), Apart.BLOCK),
        (COOL, Apart.COOL_DOWN),
        (Gate(temperature_stable_c=0.5), Apart.COOL_DOWN),
        (Gate(pause_s=30.0), Apart.PAUSE),
        (Gate(pause_s=30.0, temperature_max_c=40.0), Apart.COOL_DOWN),
    ],
)
def test_what_the_gate_asks_for_separates_sessions(gate: Gate, apart: Apart) -> None:
    sessions = Sessions()
    assert sessions.of(spec(0, gate=gate), site()).apart is Apart.START
    assert sessions.of(spec(1, gate=gate), site()).apart is apart


def before(**parts: object) -> Session:
    kept = Session(
        uid="u",
        sweep_id="s0",
        device_id=FACTS.device_id,
        block=2,
        number=6,
        apart=Apart.BLOCK,
        began_utc_ns=1,
        boot_id="b1",
    )
    return replace(kept, **parts)


@pytest.mark.parametrize(
    ("last", "gate", "apart"),
    [
        ({}, Gate(), Apart.START),
        ({}, COOL, Apart.COOL_DOWN),
        ({"boot_id": "b0"}, Gate(), Apart.BOOT),
        ({"boot_id": None}, Gate(), Apart.START),
    ],
)
def test_a_sweep_that_is_gone_on_with_counts_on_also_in_the_same_block(
    last: dict[str, str | None], gate: Gate, apart: Apart
) -> None:
    session = Sessions(before(**last)).of(spec(2, gate=gate), site())
    assert (session.number, session.apart) == (7, apart)


def test_the_temperature_is_that_at_which_the_gate_opened() -> None:
    sessions, seen = Sessions(), []
    watched = sessions.watching(seen.append)
    events = [Reading("local", 55.0), Note("waiting"), Reading("local", 39.5)]
    for event in events:
        watched(event)
    assert sessions.of(spec(0), site()).temperature_c == 39.5
    assert sessions.of(spec(1), site()).temperature_c == 41.5, "what another gate saw is no matter"
    assert seen == events


@pytest.mark.parametrize("milli_c", ["0", "-256000", "400000", ""])
def test_a_temperature_that_none_can_have_is_not_known(milli_c: str) -> None:
    assert Sessions().of(spec(0), site(milli_c=milli_c)).temperature_c is None


def test_a_device_rests_from_the_end_of_its_last_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    sessions = Sessions(used_utc_ns=time.time_ns() - 90 * 10**9)
    assert sessions.of(spec(0), site()).rested_s == pytest.approx(90, abs=5)
    sessions.rests()
    now_s += 12.5
    assert sessions.of(spec(1), site()).rested_s == 12.5
    # The clock of the host was set back since: it tells nothing.
    assert Sessions(used_utc_ns=time.time_ns() + 10**12).of(spec(0), site()).rested_s is None


def test_a_store_tells_what_to_go_on_from(tmp_path) -> None:
    first = Sessions().of(spec(0), site())
    bundle = make_bundle()
    with Store.open(tmp_path) as store:
        store.publish(replace(bundle, start=replace(bundle.start, session=first)))
        known = Sessions.known(store, "s0", FACTS.device_id)
        assert (known.before, known.used_utc_ns) == (first, bundle.stop.ended_utc_ns)
        assert Sessions.known(store, "s1", FACTS.device_id).before is None
