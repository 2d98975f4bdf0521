"""The figures of quality are those of llama.cpp's own llama-perplexity, and order the levels as they should."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import perplexity_tool
import pytest

from melt.analysis.quality_compare import Told, differences
from melt.models.catalog import catalog
from melt.models.library import Library
from melt.quality.evaluate import Evaluation, evaluate_text
from melt.quality.text import shipped_text
from melt.records.quality import TextFigures
from melt.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LEVELS = ("Q8_0", "Q4_K_M", "Q2_K")


def evaluated(model: str, n_ctx: int, chunks: int, folder: Path) -> list[Evaluation]:
    library = Library()
    reference = library.resolve(model, None)
    artifacts = [reference, *(library.resolve(model, level) for level in LEVELS)]
    with Store.open(folder) as store:
        # One thread: where other tests compute too, two would mostly wait for each other.
        return evaluate_text(
            store, artifacts, shipped_text(), reference=reference, n_ctx=n_ctx, max_chunks=chunks, threads=1
        )


def check_against_llama_perplexity(found: Sequence[Evaluation], n_ctx: int, chunks: int, folder: Path) -> None:
    program, text, base = perplexity_tool.build(), folder / "text", folder / "base"
    text.write_bytes(shipped_text().data)
    first = found[0].quality
    theirs = perplexity_tool.perplexity(program, Path(first.artifact.path), text, n_ctx=n_ctx, chunks=chunks, base=base)
    assert first.text is not None
    assert first.text.perplexity == pytest.approx(theirs["perplexity"], rel=1e-4)
    assert first.text.perplexity_se == pytest.approx(theirs["perplexity_se"], rel=1e-3)
    for evaluation in found[1:]:
        theirs = perplexity_tool.divergence(program, Path(evaluation.quality.artifact.path), base, n_ctx=n_ctx)
        _check(evaluation.quality.text, theirs)


def _check(ours: TextFigures | None, theirs: dict[str, float]) -> None:
    assert ours is not None
    assert ours.kl_mean is not None
    assert ours.top1_agreement is not None
    # Their reference is rounded to 16 bits, and cut off 16 nats below the likeliest token.
    assert ours.perplexity == pytest.approx(theirs["perplexity"], rel=1e-3)
    assert abs(ours.kl_mean - theirs["kl_mean"]) < max(theirs["kl_se"] / 3, 2e-6)
    assert ours.kl_se == pytest.approx(theirs["kl_se"], rel=0.05, abs=2e-6)
    assert ours.kl_median == pytest.approx(theirs["kl_median"], rel=0.02, abs=5e-6)
    assert ours.kl_p99 == pytest.approx(theirs["kl_p99"], rel=0.05, abs=5e-6)
    # A tie or two may fall either way.
    assert abs(ours.top1_agreement - theirs["top1_agreement"]) <= 3 / ours.n_tokens


def test_a_tiny_model(tmp_path: Path) -> None:
    found = evaluated("tiny-pydoc", 256, 40, tmp_path)
    check_against_llama_perplexity(found, 256, 40, tmp_path)
    better, worse = (differences(a.quality, b.quality) for a, b in pairwise(found[1:]))
    for changes in (better, worse):
        by = {change.quantity: change for change in changes}
        assert by["kl"].told is Told.WORSE, "Q8_0 keeps more than Q4_K_M, and that more than Q2_K"
        assert by["kl"].low is not None
        assert by["kl"].low > 0
    first = {change.quantity: change for change in differences(found[0].quality, found[1].quality)}
    assert "kl" not in first, "the reference has no divergence from itself"


def test_a_real_model(tmp_path: Path) -> None:
    model = "smollm2-135m-instruct"
    if Library().peek(model, None) is None:
        pytest.skip(f"{model} is not on this machine: melt models pull {model}")
    assert catalog()[model].n_params > 1e8
    found = evaluated(model, 128, 4, tmp_path)
    check_against_llama_perplexity(found, 128, 4, tmp_path)
    means = [quality.text.kl_mean for quality in (e.quality for e in found[1:]) if quality.text]
    assert means == sorted(means)
