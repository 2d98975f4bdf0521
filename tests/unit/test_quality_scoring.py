"""What the worker makes of logits, against scipy. The engine is not needed for that."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr

from melt._layout import agents_dir


@pytest.fixture(scope="module")
def scoring() -> ModuleType:
    # The runners are programs: they import each other from their own folder.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(agents_dir() / "runners")])
        import llama_scoring

        return llama_scoring


def logits(rows: int, seed: int, spread: float = 4.0) -> np.ndarray:
    return (spread * np.random.default_rng(seed).normal(size=(rows, 500)) + 3).astype(np.float32)


def test_negative_log_likelihoods(scoring: ModuleType) -> None:
    found, tokens = logits(150, 1), list(range(150))
    expected = -log_softmax(found.astype(np.float64), axis=1)[np.arange(150), tokens]
    assert scoring.nll(found, tokens) == pytest.approx(expected, rel=1e-6)


def test_divergence(scoring: ModuleType) -> None:
    reference, other = logits(150, 1), logits(150, 1) + logits(150, 2, 0.1)
    kl, same = scoring.divergence(scoring.remembered(reference), other)
    p, q = (np.exp(log_softmax(one.astype(np.float64), axis=1)) for one in (reference, other))
    assert kl == pytest.approx(rel_entr(p, q).sum(axis=1), rel=1e-4, abs=3e-7)
    assert list(same) == list(p.argmax(axis=1) == q.argmax(axis=1))
    assert 0 < same.sum() < 150


def test_a_model_does_not_diverge_from_itself(scoring: ModuleType) -> None:
    reference = logits(70, 3, 12.0)
    kl, same = scoring.divergence(scoring.remembered(reference), reference)
    assert kl == pytest.approx(0, abs=1e-9)
    assert same.all()
