"""Which level to take: dominance, limits and their doubts, on figures that were planted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_samples import text_quality

from melt.analysis.choice import (
    DECODE,
    ENERGY,
    LOSS,
    MEMORY,
    SIZE,
    Candidate,
    Figure,
    Relation,
    dominated,
    over_sessions,
    quality_loss,
    relation,
)
from melt.analysis.recommend import Limit, Met, recommend, state_of
from melt.report.quants_text import figure_text, reason

FAST, SLOW = (20.0, 20.1, 19.9, 20.05, 19.95, 20.0), (10.0, 10.1, 9.9, 10.05, 9.95, 10.0)


def level(name: str, tps=FAST, size: float = 100.0, kl: float | None = 0.01, **more: Figure) -> Candidate:
    rate = over_sessions(tps)
    figures = {SIZE: Figure(size, exact=True), **more}
    if rate is not None:
        figures[DECODE] = rate
    text = None if kl is None else text_quality(name, kl, kl=kl)
    if text is not None and (loss := quality_loss(text)) is not None:
        figures[LOSS] = loss
    return Candidate(level=name, artifact=None, figures=figures, sessions=len(tps), text=text)


def said(candidates, advice) -> str:
    return reason(candidates, advice, dominated(candidates))


def tps(bound: float) -> Limit:
    return Limit("--min-tps", DECODE, bound, f"{bound:g}")


def loss(bound: float) -> Limit:
    return Limit("--max-quality-loss", LOSS, bound, f"{100 * bound:g}%")


def test_what_is_worse_in_all_is_dominated_and_what_is_best_in_something_is_not():
    good = level("good", FAST, 100, 0.01)
    worse = level("worse", SLOW, 120, 0.02)
    small = level("small", SLOW, 50, 0.05)
    assert dominated([good, worse, small]) == {"worse": ("good",)}


def test_a_header_makes_no_level_larger():
    plain, weighed = level("Q4_K_M", size=2_142_000, kl=0.02), level("Q4_K_M+imatrix", size=2_142_300, kl=0.01)
    assert dominated([plain, weighed]) == {"Q4_K_M": ("Q4_K_M+imatrix",)}, "better, and as large"
    assert recommend([plain, weighed], (), "size").level == "Q4_K_M+imatrix"
    assert not dominated([plain, level("smaller", size=2_130_000, kl=0.02), weighed]).keys() & {"smaller"}


def test_a_difference_that_was_not_seen_keeps_nobody_from_dominating():
    luckier = level("luckier", tuple(v + 0.01 for v in FAST), 120, 0.02)
    assert relation(level("good"), luckier, DECODE) is Relation.EVEN
    assert dominated([level("good"), luckier]) == {"luckier": ("good",)}


def test_few_sessions_dominate_nobody_by_speed_but_keep_from_being_dominated():
    assert relation(level("a", FAST[:2]), level("b", SLOW[:2]), DECODE) is Relation.SEEMS_BETTER
    alike = {"size": 100.0, "kl": None}
    assert not dominated([level("a", FAST[:2], **alike), level("b", SLOW[:2], **alike)])
    assert not dominated([level("small", SLOW[:2], 50, 0.01), level("large", FAST[:2], 100, 0.01)])


def test_what_is_measured_of_one_alone_leaves_it_open():
    assert not dominated([level("a"), level("b", SLOW, 200, None)])


def test_a_ring_of_levels_has_a_level_that_is_not_dominated():
    """Each is told better than the next in one thing, and cannot be told apart in the others."""

    def one(name: str, *values: float) -> Candidate:
        spread = (0.84, 0.92, 0.98, 1.02, 1.08, 1.16)
        of = [tuple(value * s for s in spread) for value in values]
        figures = {n: over_sessions(v) for n, v in zip((DECODE, MEMORY, ENERGY), of, strict=True)}
        return Candidate(level=name, artifact=None, figures={k: v for k, v in figures.items() if v}, sessions=6)

    ring = [one("a", 100, 10, 11), one("b", 80, 8, 10), one("c", 90, 11.5, 8)]
    assert len(dominated(ring)) < len(ring)


def test_limits_change_the_recommendation():
    levels = [level("Q8", SLOW, 200, 0.001), level("Q4", FAST, 100, 0.02), level("Q2", (30.0,) * 6, 50, 0.3)]
    assert recommend(levels, ()).level is None
    assert recommend(levels, [tps(5)]).level == "Q8"
    assert recommend(levels, [tps(15)]).level == "Q4"
    assert recommend(levels, [tps(25)]).level == "Q2"
    assert recommend(levels, [loss(0.05)]).level == "Q4", "only the quality is limited: the fastest that keeps it"
    assert recommend(levels, [loss(0.05)], "quality").level == "Q8"
    assert recommend(levels, (), "size").level == "Q2"
    assert recommend(levels, [tps(15), loss(0.01)]).level is None


def test_the_reason_names_what_was_met_and_what_better_levels_miss():
    levels = [level("Q8", SLOW, 200, 0.001), level("Q4", FAST, 100, 0.02), level("Q2", (30.0,) * 6, 50, 0.3)]
    text = said(levels, recommend(levels, [tps(15)]))
    assert text.startswith("Q4: the best quality of the 2 that meet your limit (decode 20.0 ±0.1 tok/s >= 15, quality")
    assert text.endswith("; Q8 misses --min-tps (decode 10.0 ±0.1 tok/s).")
    none = said(levels, recommend(levels, [tps(60)]))
    assert none == (
        "No level meets all limits for certain: --min-tps 60 excludes all; Q2 comes nearest "
        "(decode 30.0 tok/s is under 60 by 50 %)."
    )


def test_a_figure_stands_beside_its_bound_in_the_same_unit():
    size, energy = Figure(101 * 2.0**20, exact=True), over_sessions((0.412, 0.41, 0.414))
    assert energy is not None
    one = level("Q8", **{SIZE: size, ENERGY: energy})
    over = Limit("--max-size", SIZE, 90e6, "90MB")
    assert said([one], recommend([one], [over])).endswith("(file size 106 MB is over 90MB by 18 %).")
    kept = [Limit("--max-size", SIZE, 120 * 2.0**20, "120MiB"), Limit("--max-energy", ENERGY, 0.5, "500mJ")]
    assert "(file size 101 MiB <= 120MiB, energy per token 412 ±5 mJ/tok <= 500mJ)" in said(
        [one], recommend([one], kept)
    )
    small = level("tiny", size=4.5e6)
    assert "(file size 0.00450 GB <= 3GB)" in said([small], recommend([small], [Limit("--max-size", SIZE, 3e9, "3GB")]))


def test_the_only_level_that_is_left_names_what_each_other_one_misses():
    levels = [level("Q8", SLOW, 200, 0.001), level("Q4", FAST, 100, 0.02), level("Q2", (30.0,) * 6, 50, 0.3)]
    text = said(levels, recommend(levels, [tps(15), loss(0.05)]))
    assert text.startswith("Q4: the only level")
    assert "; Q8 misses --min-tps (decode 10.0 ±0.1 tok/s); Q2 misses --max-quality-loss (quality loss 3" in text


def test_one_chunk_tells_a_loss_but_not_how_sure_it_is():
    quality = text_quality("one", 0.02, kl=0.02)
    assert quality.text is not None
    quality = replace(quality, text=replace(quality.text, chunk_kl=quality.text.chunk_kl[:1], chunk_nll=(3.0,)))
    found = quality_loss(quality)
    assert found is not None
    assert (found.low, found.high) == (None, None)
    one = replace(level("one", kl=None), text=quality, figures={LOSS: found})
    assert state_of(one, loss(0.5)) is Met.NOT_CERTAIN
    reference = level("origin", kl=None)
    method = replace(quality.method, reference_sha256=quality.artifact.sha256)
    own = replace(quality, method=method, text=replace(quality.text, kl_mean=None, chunk_kl=()))
    reference = replace(reference, text=own, figures={LOSS: Figure(0.0, exact=True)})
    assert relation(reference, one, LOSS) is Relation.SEEMS_BETTER


def test_a_limit_within_the_interval_is_not_certain():
    wide = level("wide", (9.0, 10.0, 11.0))
    assert state_of(wide, tps(10)) is Met.NOT_CERTAIN
    advice = recommend([wide], [tps(10)])
    assert (advice.level, advice.nearest) == (None, "wide")
    assert "is not certain for wide" in said([wide], advice)
    assert "more sessions would tell" in said([wide], advice)
    doubtful = replace(wide, figures={**wide.figures, LOSS: Figure(0.02, 0.01, 0.03)})
    for limits, what in (([loss(0.02)], "text"), ([loss(0.02), tps(10)], "text and more sessions")):
        assert f"; more {what} would tell" in said([doubtful], recommend([doubtful], limits))
    assert " by 1200 %)" in said([doubtful], recommend([doubtful], [loss(0.0015385)]))
    two = level("two", (9.0, 16.0))
    advice = recommend([two], [tps(10)])
    assert "(decode 12.5 tok/s, 9.0 to 16.0 by session, which may miss 10; more" in said([two], advice)
    one = level("one", (10.2,))
    assert state_of(one, tps(10)) is Met.NOT_CERTAIN, "one session gives no interval: a twentieth is not certain"
    assert state_of(one, tps(9)) is Met.MET
    assert state_of(one, tps(11)) is Met.MISSED


def test_a_meter_that_may_be_far_off_makes_no_limit_certain_however_few_the_sessions():
    for sessions in ((1.0,), (1.0, 1.0), (1.0, 1.0, 1.0)):
        energy = over_sessions(sessions, uncertainty=0.5)
        assert energy is not None
        one = level("one", **{ENERGY: energy})
        states = [state_of(one, Limit("--max-energy", ENERGY, bound, "")) for bound in (0.4, 1.2, 1.6)]
        assert states == [Met.MISSED, Met.NOT_CERTAIN, Met.MET]


def test_what_was_not_measured_meets_no_limit():
    levels = [replace(level(name), missing={ENERGY: "no power sensor"}) for name in ("a", "b")]
    energy = Limit("--max-energy", ENERGY, 1.0, "1 J")
    advice = recommend(levels, [energy])
    assert (advice.level, advice.nearest) == (None, None), "they are as far from it"
    assert set(advice.met.values()) == {(Met.NOT_MEASURED,)}
    assert said(levels, advice).endswith(": --max-energy 1 J was not measured for any level (no power sensor).")
    slower = [levels[0], level("b", SLOW)]
    advice = recommend(slower, [energy, tps(15)])
    assert advice.nearest == "a"
    assert "; a comes nearest (energy per token not measured: no power sensor)." in said(slower, advice)


def test_what_was_not_measured_decides_nothing():
    levels = [replace(level(name), missing={ENERGY: "no power sensor"}) for name in ("a", "b")]
    undecided = "energy per token, which is to decide, was not measured (no power sensor)."
    assert said(levels, recommend(levels, (), "energy")) == f"No level is recommended: {undecided}"
    advice = recommend(levels[:1], [tps(5)], "energy")
    assert said(levels, advice) == f"No level is recommended: a meets your limit, but {undecided}"


def test_a_level_that_failed_is_never_chosen_and_dominates_nobody():
    failed = replace(level("failed", (), 10, 0.0001), outcome="oom")
    levels = [failed, level("ok", SLOW, 200, 0.02)]
    assert recommend(levels, [loss(0.5)]).level == "ok"
    assert not dominated(levels)
    assert recommend([failed], [loss(0.5)]).level is None
    assert said([failed], recommend([failed], [loss(0.5)])).startswith("No level is recommended: none was measured")


def test_of_levels_alike_in_quality_the_faster_one_is_taken_and_the_tie_is_told():
    alike = text_quality("Q8", 0.01, kl=0.01)
    levels = [
        replace(level("Q8", SLOW, 200, 0.01), text=alike),
        replace(level("Q6", FAST, 150, 0.01), text=alike),
        level("Q2", (30.0,) * 6, 50, 0.3),
    ]
    assert relation(levels[0], levels[1], LOSS) is Relation.EVEN
    advice = recommend(levels, [tps(5)])
    assert advice.level == "Q6", "and Q8 is dominated by it"
    levels[1] = replace(levels[1], figures={**levels[1].figures, SIZE: Figure(300.0, exact=True)})
    advice = recommend(levels, [tps(5)])
    assert (advice.level, advice.ties) == ("Q6", ("Q8",))
    assert "together with Q8, which the data cannot tell from it in that" in said(levels, advice)


def test_loss_is_never_negative_and_perplexity_that_fell_by_luck_does_not_count():
    lucky = text_quality("lucky", -0.2, kl=0.05)
    found = quality_loss(lucky)
    assert found is not None
    assert found.value == pytest.approx(0.0513, abs=0.005)
    assert found.low is not None
    assert 0 <= found.low < found.value
    assert quality_loss(text_quality("without", 0.1)) is None


def test_intervals_are_those_of_student():
    found = over_sessions((9.0, 10.0, 11.0))
    assert found is not None
    # t of 2 degrees of freedom is 4.303; logarithms of 9, 10 and 11 have a standard deviation of 0.1003.
    assert (found.low, found.high) == pytest.approx((7.75, 12.75), abs=0.05)
    assert over_sessions((9.0, 10.0)) == Figure(9.5, values=(9.0, 10.0))
    assert over_sessions(()) is None
    widened = over_sessions((10.0, 10.0, 10.0), 0.5)
    assert widened is not None
    assert (widened.low, widened.high) == (9.5, 10.5)
    restless = over_sessions((3.0, 10.0, 33.0))
    assert restless is not None
    assert figure_text(restless, "tok/s").startswith("10.0 [0."), "a ± would say that it may be below nothing"
    cooled = over_sessions((-1.0, 0.0, 1.0))
    assert cooled is not None
    assert cooled.low == pytest.approx(-2.484, abs=0.01)


_LEVELS = st.lists(
    st.tuples(
        st.lists(st.floats(1, 100), min_size=1, max_size=7),
        st.integers(1, 5),
        st.one_of(st.none(), st.sampled_from([0.001, 0.01, 0.02, 0.1])),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(
    _LEVELS, st.floats(0.5, 120), st.floats(0.001, 0.2), st.sampled_from([None, "quality", "speed", "size", "energy"])
)
def test_never_one_that_violates_a_limit_or_is_dominated_by_one_that_meets_them(drawn, rate, share, goal):
    levels = [
        replace(level(f"L{i}", tuple(tps), size, kl), outcome="oom" if failed else None)
        for i, (tps, size, kl, failed) in enumerate(drawn)
    ]
    by = {one.level: one for one in levels}
    limits = [tps(rate), loss(share)]
    advice = recommend(levels, limits, goal)
    beaten = dominated(levels)
    assert set(beaten) < set(by) or not beaten
    assert all(by[name].runs for others in beaten.values() for name in others)
    said(levels, advice)
    if advice.level is None:
        return
    chosen = by[advice.level]
    assert chosen.runs
    assert chosen.figures[DECODE].reach[0] >= rate
    assert chosen.figures[LOSS].reach[1] <= share
    assert not set(beaten.get(chosen.level, ())) & set(advice.eligible)
