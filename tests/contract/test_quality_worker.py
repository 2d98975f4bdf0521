"""The worker that scores, on the embedded model: log-likelihoods as they come out of the package's own Python class."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from melt.errors import ModelError, UsageError
from melt.models.catalog import DATA_DIR
from melt.models.digest import sha256_of
from melt.models.inspect import inspect
from melt.quality.evaluate import evaluate_text
from melt.quality.text import shipped_text
from melt.quality.worker import score
from melt.store.files import lock_folder
from melt.store.quality import qualities_of
from melt.store.store import Store

pytestmark = pytest.mark.slow

MODEL = str(DATA_DIR / "tiny-pydoc-f16.gguf")
PAIRS = (
    ("Return the number of", " items"),
    ("Return the number of", " bytes in the file"),
    ("Return a new list", " of the names"),
    ("", "Return"),
    ("x" + " x" * 299, "  y"),
)

# Tokenized and scored in one go, without a cache, by code that is not melt's.
_INDEPENDENT = """
import json, sys
import numpy as np
from llama_cpp import Llama
llm = Llama(sys.argv[1], n_ctx=1024, n_batch=1024, n_threads=1, logits_all=True, verbose=False)
for context, continuation in json.loads(sys.argv[2]):
    bare = context.rstrip()
    text = context + continuation
    bos = [] if llm.tokenize(b"", add_bos=True) else [llm.token_bos()]
    tokens = bos * (not bare) + llm.tokenize(text.encode(), add_bos=True, special=True)
    begin = len(llm.tokenize(bare.encode(), add_bos=True, special=True)) + len(bos) * (not bare)
    llm.reset()
    llm.eval(tokens)
    rows = llm.scores[begin - 1 : len(tokens) - 1].astype(np.float64)
    sums = np.log(np.exp(rows - rows.max(axis=1, keepdims=True)).sum(axis=1)) + rows.max(axis=1)
    print(json.dumps(float((rows[np.arange(len(rows)), tokens[begin:]] - sums).sum())))
"""


def asked(pairs: tuple[tuple[str, str], ...]) -> list[float]:
    job = {"kind": "choices", "models": [{"path": MODEL, "begin": 0}], "threads": 1}
    events: list[Any] = list(score(job, json.dumps([{"where": "task:1", "pairs": pairs}]).encode()))
    (found,) = [event["log_likelihoods"] for event in events if event["event"] == "choice"]
    return list(found)


@pytest.mark.usefixtures("needs_llama_cpp")
def test_log_likelihoods_are_those_of_another_program() -> None:
    command = [sys.executable, "-c", _INDEPENDENT, MODEL, json.dumps(PAIRS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    assert asked(PAIRS) == pytest.approx(expected, abs=2e-3)


@pytest.mark.usefixtures("needs_llama_cpp")
def test_what_was_computed_before_changes_nothing() -> None:
    alone = [asked((pair,))[0] for pair in PAIRS[:4]]
    assert asked(PAIRS[:4]) == pytest.approx(alone, abs=1e-4)


@pytest.mark.usefixtures("needs_llama_cpp")
def test_line_ends_are_scored_as_they_are() -> None:
    job = {"kind": "text", "models": [{"path": MODEL, "begin": 0}], "reference": None, "n_ctx": 32, "max_chunks": 1}
    lines = ["def f(x):", "    return x", ""] * 20
    found = []
    for end in ("\n", "\r\n"):
        events: list[Any] = list(score({**job, "threads": 1}, end.join(lines).encode()))
        found += [event["nll"] for event in events if event["event"] == "scores"]
    assert found[0] != found[1], "a text of Windows was read as another one"


@pytest.mark.usefixtures("needs_llama_cpp")
def test_a_model_that_changes_under_the_evaluation_is_not_kept(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(Path(MODEL).read_bytes())

    def change(what: str, done: int, _total: int) -> None:
        if what.startswith("scoring") and done == 1:
            with model.open("ab") as file:
                file.write(b"more")

    with Store.open(tmp_path / "store") as store:
        artifact = inspect(model)
        with pytest.raises(ModelError, match="was changed while it was scored"):
            evaluate_text(store, [artifact], shipped_text(), n_ctx=32, max_chunks=2, threads=1, progress=change)
        assert qualities_of(store, artifact.sha256) == []
        assert list(store.layout.quality.iterdir()) == [], "what was scored before the change is not gone on with"


@pytest.mark.usefixtures("needs_llama_cpp")
def test_a_file_that_cannot_be_scored_does_not_end_the_others(tmp_path: Path) -> None:
    good = inspect(MODEL)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(Path(MODEL).read_bytes()[:1_000_000])
    bad = replace(good, path=str(damaged), sha256=sha256_of(damaged))
    failures: list[tuple[str, str]] = []
    with Store.open(tmp_path / "store") as store:
        found = evaluate_text(
            store,
            [bad, good],
            shipped_text(),
            n_ctx=32,
            max_chunks=2,
            threads=1,
            failed=lambda file, error: failures.append((file.sha256, str(error))),
        )
    assert [one.quality.artifact.sha256 for one in found] == [good.sha256]
    ((sha256, reason),) = failures
    assert sha256 == bad.sha256
    assert "damaged.gguf" in reason


@pytest.mark.usefixtures("needs_llama_cpp")
def test_a_second_evaluation_says_that_it_waits(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        store.layout.quality.mkdir()
        other = lock_folder(store.layout.quality)
        assert other is not None
        said: list[str] = []

        def progress(what: str, _done: int, _total: int) -> None:
            if not said:
                os.close(other)
            said.append(what)

        evaluate_text(store, [inspect(MODEL)], shipped_text(), n_ctx=32, max_chunks=1, threads=1, progress=progress)
    assert said[0] == "waiting for another melt that evaluates into this store"
    assert len(said) == 2


@pytest.mark.usefixtures("needs_llama_cpp")
def test_a_question_that_is_too_long_is_named() -> None:
    with pytest.raises(UsageError, match="task:1: an item of"):
        asked((("x " * 3000, " y"),))
