"""Conditions on devices that are no phones, and clusters by their clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.errors import UsageError
from melt.records import Conditions, Cpu, DeviceFacts, Knob
from melt.session.collect import Collected
from melt.session.restored import sentence
from melt.targets.knobs import KnobPlan, cluster_cpus, plan_knobs
from melt.transports.base import Completed


def cpus(*clocks_ghz: float | None) -> tuple[Cpu, ...]:
    return tuple(Cpu(index=i, max_hz=None if ghz is None else ghz * 1e9) for i, ghz in enumerate(clocks_ghz))


PIXEL_8 = cpus(1.7, 1.7, 1.7, 1.7, 2.37, 2.37, 2.37, 2.37, 2.91)
SNAPDRAGON_8_GEN_3 = cpus(2.27, 2.27, 3.15, 3.15, 3.15, 2.96, 2.96, 3.3)
TWO_KINDS = cpus(1.8, 1.8, 1.8, 1.8, 2.2, 2.2, 2.2, 2.2)


@pytest.mark.parametrize(
    ("device", "name", "expected"),
    [
        (PIXEL_8, "little", "0,1,2,3"),
        (PIXEL_8, "big", "4,5,6,7"),
        (PIXEL_8, "prime", "8"),
        (SNAPDRAGON_8_GEN_3, "little", "0,1"),
        (SNAPDRAGON_8_GEN_3, "mid", "5,6"),
        (SNAPDRAGON_8_GEN_3, "big", "2,3,4"),
        (SNAPDRAGON_8_GEN_3, "prime", "7"),
        (TWO_KINDS, "little", "0,1,2,3"),
        (TWO_KINDS, "big", "4,5,6,7"),
    ],
)
def test_clusters_are_told_apart_by_their_clocks(device: tuple[Cpu, ...], name: str, expected: str) -> None:
    assert cluster_cpus(device, name) == expected


@pytest.mark.parametrize(
    ("device", "name", "hint"),
    [
        (TWO_KINDS, "prime", "it has big, little"),
        (PIXEL_8, "mid", "it has big, little, prime"),
        (cpus(2.0, 2.0), "big", "cannot be told apart"),
        (cpus(None, None), "little", "cannot be told apart"),
    ],
)
def test_a_cluster_that_is_not_there_is_named_with_those_that_are(
    device: tuple[Cpu, ...], name: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=f"no CPUs called '{name}': .*{hint}"):
        cluster_cpus(device, name)


def facts(**changed: object) -> DeviceFacts:
    return replace(make_bundle().start.device, os="linux", kind="local", **changed)  # type: ignore[arg-type]


def never(argv: Sequence[str]) -> Completed:
    raise AssertionError(f"nothing was to be run, but {argv} was")


def test_without_conditions_nothing_is_read() -> None:
    assert plan_knobs(Conditions(), facts(), never) == KnobPlan()


def test_a_cluster_becomes_the_affinity() -> None:
    assert plan_knobs(Conditions(cluster="big"), facts(cpus=PIXEL_8), never) == KnobPlan(affinity="4,5,6,7")


def test_what_this_machine_has_no_knob_for_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="has no knob screen, charging"):
        plan_knobs(Conditions(screen="off", charging="suspended"), facts(), never)
    with pytest.raises(UsageError, match=r"usb_power: only phones .* leave it out for"):
        plan_knobs(Conditions(usb_power="off"), facts(), never)


@pytest.mark.parametrize(
    ("restored", "said"),
    [
        (None, None),
        ([{"what": "svc wifi enable", "ok": True}], None),
        (
            [{"what": "svc wifi enable", "ok": False}, {"what": "sh -c 'a program  of\nmany lines'", "ok": True}],
            "not everything could be put back, do it by hand on the device. Before the run it had wifi 1. "
            "What failed there: svc wifi enable",
        ),
    ],
)
def test_what_could_not_be_put_back_is_named(restored: list[dict[str, object]] | None, said: str | None) -> None:
    knobs = (Knob(name="wifi", before="1", asked="0"), Knob(name="fixed_performance", before=None, asked="true"))
    ended = Collected("ended", {"reason": "completed", "restored": restored}, interrupted=False)
    assert sentence(ended, knobs) == said
    assert sentence(Collected("lost", None, interrupted=False), knobs) is None
