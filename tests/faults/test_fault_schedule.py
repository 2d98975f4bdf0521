"""What befalls a sweep follows from its seed, and no kind of fault is forgotten."""

from __future__ import annotations

from fault_schedule import _KINDS, draw


def test_a_seed_always_draws_the_same_in_words_that_tell_it() -> None:
    assert draw(7) == draw(7)
    assert str(draw(7)) != str(draw(8))
    assert "seed 7" in str(draw(7))


def test_a_few_seeds_have_every_kind_of_fault_and_of_sweep() -> None:
    drawn = [draw(seed) for seed in range(25)]
    assert {fault.kind for one in drawn for fault in one.faults} == set(_KINDS)
    on_hosts = {fault.kind for one in drawn for faults in one.hosts for fault in faults}
    assert on_hosts == {"kill", "full", "clock", "interrupt"}
    assert all(any(getattr(one, what) for one in drawn) for what in ("killed", "pooled", "precise"))
    assert {len(one.hosts) for one in drawn} == {4}
