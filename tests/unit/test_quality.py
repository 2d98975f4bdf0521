"""Figures of quality and paired comparisons: against scipy, and against cases worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_samples import choices_quality, text_quality
from scipy import stats

from melt.analysis.alike import IncomparableError
from melt.analysis.quality import choice_figures, chosen, mean_and_error, output_figures, text_figures, wilson
from melt.analysis.quality_compare import MIN_CHUNKS, Told, differences, mcnemar, neighbours, paired_means
from melt.errors import ModelError
from melt.records.quality import Quality


def test_perplexity_of_a_coin_is_two() -> None:
    figures = text_figures(np.full((3, 4), math.log(2)))
    assert figures.perplexity == pytest.approx(2)
    assert figures.perplexity_se == pytest.approx(0, abs=1e-12)
    assert (figures.n_tokens, figures.n_chunks) == (12, 3)
    assert figures.kl_mean is None
    assert figures.top1_agreement is None


def test_the_standard_error_is_that_of_llama_perplexity() -> None:
    nll = np.random.default_rng(1).gamma(2, 1.5, (5, 40))
    n, mean = nll.size, nll.mean()
    theirs = math.sqrt(((nll**2).mean() - mean**2) / (n - 1))
    assert text_figures(nll).nll_se == pytest.approx(theirs)
    assert text_figures(nll).perplexity_se == pytest.approx(theirs * math.exp(mean))


def test_divergence_and_agreement() -> None:
    kl = np.arange(100.0).reshape(4, 25)
    figures = text_figures(np.ones((4, 25)), kl, kl < 90)
    assert figures.kl_mean == pytest.approx(49.5)
    assert figures.kl_median == pytest.approx(49.5)
    assert figures.kl_p99 == pytest.approx(98.01)
    assert figures.chunk_kl == (12.0, 37.0, 62.0, 87.0)
    assert figures.n_same_top == 90
    assert figures.top1_low is not None
    assert figures.top1_high is not None
    assert figures.top1_low < 0.9 < figures.top1_high


def test_a_perplexity_beyond_all_numbers_is_a_damaged_model() -> None:
    with pytest.raises(ModelError, match="its weights are damaged"):
        text_figures(np.full((2, 4), 1000.0))


def test_one_value_has_no_error() -> None:
    assert mean_and_error(np.array([3.0])) == (3.0, None)


@given(st.integers(1, 400), st.data())
def test_wilson_is_scipys(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_long_answer_wins_only_by_character() -> None:
    assert chosen([-4.0, -6.0], [2, 12]) == (0, 1)
    assert chosen([-1.0, -1.0], [3, 3]) == (0, 0)


def test_counts_of_right_answers() -> None:
    figures = choice_figures([True, False, True, True], [True, True, True, True])
    assert (figures.n, figures.n_correct, figures.accuracy) == (4, 3, 0.75)
    assert (figures.accuracy_norm, figures.accuracy_norm_high) == (1.0, 1.0)


def test_the_paired_test_is_scipys() -> None:
    draws = np.random.default_rng(2)
    first = draws.normal(3, 0.4, 20)
    second = first + draws.normal(0.02, 0.05, 20)
    found, expected = paired_means("nll", list(first), list(second)), stats.ttest_rel(second, first)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_chunks_differ_more_than_levels_and_pairing_sees_through_it() -> None:
    first = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    second = [a + change for a, change in zip(first, (0.01, 0.012, 0.009, 0.011, 0.01, 0.008, 0.01), strict=True)]
    assert stats.ttest_ind(first, second).pvalue > 0.9
    assert paired_means("nll", first, second).told is Told.WORSE
    assert paired_means("nll", second, first).told is Told.BETTER


def test_what_is_not_known_is_not_claimed() -> None:
    few = paired_means("nll", [1.0] * (MIN_CHUNKS - 1), [2.0] * (MIN_CHUNKS - 1))
    assert (few.told, few.low, few.p_value) == (Told.TOO_FEW, None, None)
    same = paired_means("kl", [1.0] * 9, [1.0] * 9)
    assert (same.told, same.p_value) == (Told.ALIKE, 1.0)
    assert paired_means("kl", [1.0] * 9, [1.5] * 9).told is Told.WORSE


def test_equal_levels_are_told_apart_in_one_of_twenty_trials() -> None:
    draws = np.random.default_rng(3)
    told = [paired_means("nll", list(draws.normal(0, 1, 12)), list(draws.normal(0, 1, 12))).told for _ in range(2000)]
    wrong = sum(one is not Told.ALIKE for one in told) / len(told)
    assert 0.035 < wrong < 0.065


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_mcnemar_is_the_binomial_test_of_what_changed(answers: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in answers], [b for _, b in answers]
    won, lost = sum(b and not a for a, b in answers), sum(a and not b for a, b in answers)
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    found = mcnemar(first, second)
    assert found.p_value == pytest.approx(expected)
    assert found.mean == pytest.approx((won - lost) / len(answers))
    assert found.low is not None
    assert found.high is not None
    assert -1.001 <= found.low < found.high <= 1.001 or len(answers) < 8


def test_mcnemar_by_hand() -> None:
    # 10 questions changed, all to the worse: 2 / 2**10.
    found = mcnemar([True] * 40 + [False] * 10, [True] * 30 + [False] * 20)
    assert found.p_value == pytest.approx(2 / 1024)
    assert found.told is Told.WORSE
    assert mcnemar([True] * 5 + [False], [True] * 4 + [False] * 2).told is Told.ALIKE


def test_levels_in_their_order() -> None:
    levels = [
        text_quality("Q8_0", 0.0, kl=0.001),
        text_quality("Q4_K_M", 0.02, kl=0.01),
        text_quality("Q2_K", 0.2, kl=0.1),
    ]
    for _, _, changes in neighbours(levels):
        assert [(change.quantity, change.told) for change in changes] == [("nll", Told.WORSE), ("kl", Told.WORSE)]


def test_unlike_evaluations_are_refused_and_the_field_is_named() -> None:
    first = text_quality("Q8_0", 0.0)
    for name, value, said in (
        ("dataset_sha256", "f" * 64, "content of the dataset"),
        ("n_ctx", 256, "n_ctx"),
        ("reference_sha256", "e" * 64, "reference"),
        ("engine_version", "llama-cpp-python 9", "engine_version"),
    ):
        second = text_quality("Q4_0", 0.1)
        second = replace(second, method=replace(second.method, **{name: value}))
        with pytest.raises(IncomparableError, match=said):
            differences(first, second)
    renamed = text_quality("Q4_0", 0.1)
    assert differences(first, replace(renamed, method=replace(renamed.method, dataset="wiki.txt")))
    elsewhere = text_quality("Q4_0", 0.1)
    elsewhere = replace(elsewhere, device=replace(elsewhere.device, device_id="another", name="board"))
    with pytest.raises(IncomparableError, match="device differs"):
        differences(first, elsewhere)
    with pytest.raises(IncomparableError, match="kind"):
        differences(first, choices_quality("Q4_0", [True, False]))
    with pytest.raises(IncomparableError, match="number of chunks"):
        differences(first, text_quality("Q4_0", 0.1, n_chunks=9))


def test_drift_is_paired_over_samples_and_labels_over_answers() -> None:
    def outputs(quant: str, cosines: list[float], right: list[bool]) -> Quality:
        samples = [
            {"cosine": cosine, "max_error": 1 - cosine, "rows": 2, "same": 1, "right": answer}
            for cosine, answer in zip(cosines, right, strict=True)
        ]
        figures = output_figures(samples, "scores", reference=False)
        return replace(text_quality(quant, 0.1), text=None, outputs=figures)

    near = [0.999 - 1e-5 * n for n in range(12)]
    first = outputs("int8-dynamic", near, [True] * 12)
    second = outputs("int4", [cosine - 0.01 - 1e-4 * (n % 3) for n, cosine in enumerate(near)], [False] * 12)
    assert first.outputs is not None
    assert (first.outputs.cosine_min, first.outputs.top1_agreement, first.outputs.accuracy) == (near[-1], 0.5, 1)
    drift, accuracy = differences(first, second)
    assert (drift.quantity, drift.told, drift.n) == ("drift", Told.WORSE, 12)
    assert drift.mean == pytest.approx(0.0101)
    assert (accuracy.quantity, accuracy.told, accuracy.mean) == ("accuracy", Told.WORSE, -1)


def test_the_reference_has_answers_but_no_drift() -> None:
    samples = [{"cosine": 1.0, "max_error": 0.0, "rows": 1, "same": 1, "right": True}]
    figures = output_figures(samples, "scores", reference=True)
    assert (figures.accuracy, figures.cosine_mean, figures.max_error, figures.n_rows) == (1, None, None, None)
