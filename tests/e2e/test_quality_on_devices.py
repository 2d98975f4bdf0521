"""`melt quality --device`: a board and a phone find what this machine finds, whatever becomes of melt meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import native_runners
import numpy as np
import pytest
from melt_rig import Melt
from virtual.phone.testing import CLIENTS, adb_server, playing
from virtual.ssh_testing import Sshd

from melt._layout import agents_dir
from melt.models.catalog import DATA_DIR
from melt.models.library import Library
from melt.quality.text import shipped_text

pytestmark = [*native_runners.BUILDS, pytest.mark.usefixtures("needs_llama_cpp")]

ASKED = ("quality", "tiny-pydoc", "-q", "q8_0,q2_k", "--ctx", "64", "--threads", "1", "-o", "json")
EXACT = ("nll", "perplexity", "kl_mean", "kl_p99", "top1_agreement", "nll_change_told")
MODEL = DATA_DIR / "tiny-pydoc-f16.gguf"


@pytest.fixture
def board(melt: Melt, tmp_path: Path, give_python: Callable[[Path], None]) -> Iterator[Path]:
    """A board that is this machine behind a server of its own; melt's folder there."""
    with Sshd(tmp_path / "board") as sshd:
        home = tmp_path / "board" / "home"
        give_python(home)
        melt.env.update(sshd.environment)
        yield home / ".melt"
        for agent in (home / ".melt" / "agents").glob("*/melt-agent"):
            for job in (home / ".melt" / "jobs").glob("*"):
                subprocess.run([agent, "stop", job], capture_output=True, timeout=60)


def figures(rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [[row[name] for name in EXACT] for row in rows]


def journalled(melt: Melt) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (melt.store / "quality").glob("*.jsonl"))


def test_stopped_then_killed_it_finds_what_this_machine_finds(
    melt: Melt, board: Path, wait_for: Callable[..., object]
) -> None:
    asked = (*ASKED, "--chunks", "40")
    process = melt.start(*asked, "--device", "board")
    wait_for("the first scores", lambda: process.poll() is not None or journalled(melt) > 0, timeout_s=120)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, list((board / "jobs").glob("*"))) == (1, []), stderr
    assert "was stopped; what was done is kept" in stderr

    kept = journalled(melt)
    process = melt.start(*asked, "--device", "board")
    wait_for("scores to come home", lambda: process.poll() is not None or journalled(melt) > kept + 6, timeout_s=120)
    (scoring,) = _scoring(board)
    os.kill(scoring, signal.SIGSTOP)  # so that it still goes on, however slow this machine is
    process.kill()
    process.wait()
    refused = melt("run", "--model", "tiny-pydoc", "-p", "16", "--device", "board", check=1)
    assert "model files are evaluated there" in refused.stderr
    os.kill(scoring, signal.SIGCONT)
    done = melt(*asked, "--device", "board", timeout_s=600)
    assert "following that" in done.stderr
    rows = json.loads(done.stdout)
    assert not list((board / "jobs").glob("*")), "what was collected is removed from the board"

    here = Melt(melt.env, melt.store.with_name("here"), melt.state)(*asked, timeout_s=600)
    assert figures(rows) == figures(json.loads(here.stdout))
    questions = melt(
        "quality", "tiny-pydoc", "-q", "q2_k", "--tasks", str(_task(board)), "--device", "board", "-o", "json"
    )
    assert [row["n"] for row in json.loads(questions.stdout)] == [4, 4]


def _scoring(board: Path) -> list[int]:
    """The processes that score on the board, which is this machine."""
    job = f"{board}/jobs/quality-".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if any(word.startswith(job) and word.endswith(b"/score.json") for word in words):
                found.append(int(process.name))
    return found


def _task(folder: Path) -> Path:
    path = folder / "sums.jsonl"
    item = {"query": "Return the", "choices": ["list of names", "xqzw"], "gold": 0}
    path.write_text("".join(json.dumps({**item, "query": f"{item['query']} {n}"}) + "\n" for n in range(4)))
    return path


def test_a_phone_finds_with_the_native_runner_what_this_machine_finds(melt: Melt, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(shipped_text().data[:2000])
    asked = (*ASKED, "--text", str(text), "--chunks", "3", "--tasks", str(_task(tmp_path)))
    native_runners.build("android-arm64", "i8mm")
    with adb_server(CLIENTS[0]) as server, playing("pixel-8") as phone:
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        server.connect(phone.address)
        there = json.loads(melt(*asked, "--device", phone.address, timeout_s=600).stdout)
        known = melt(*asked, "--device", phone.address)
    assert {row["device"] for row in there} == {"Google Pixel 8"}
    assert all(row["known"] for row in json.loads(known.stdout))
    here = json.loads(melt(*asked).stdout)
    assert [row["dataset"] for row in there] == ["text"] * 3 + ["sums"] * 3
    for row, other in zip(there, here, strict=True):
        assert [row[name] for name in ("n_tokens", "n", "accuracy")] == [
            other[name] for name in ("n_tokens", "n", "accuracy")
        ]
        if row["perplexity"] is not None:
            assert row["perplexity"] == pytest.approx(other["perplexity"], rel=1e-3)
        if row["kl_mean"] is not None:
            assert row["kl_mean"] == pytest.approx(other["kl_mean"], rel=2e-2)
    assert len({row["device_id"] for row in (*there, *here)}) == 2


def _both(path: Path, job: dict[str, object]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the native runner says to a job, and what the Python program says."""
    path.write_text(json.dumps(job))
    native = _events(native_runners.for_this_machine(), "--score", path)
    python = _events(sys.executable, agents_dir() / "runners" / "llama_quality.py", path, "--detached")
    names = ("event", "model", "index")
    assert [[event.get(name) for name in names] for event in native] == [
        [event.get(name) for name in names] for event in python
    ]
    assert native[0]["engine_version"] == python[0]["engine_version"]
    assert native[1] == python[1]
    return native[2:-1], python[2:-1]


@pytest.mark.parametrize(("n_ctx", "max_chunks"), [(65, 3), (1024, 1)])
def test_the_native_runner_scores_as_the_python_program(tmp_path: Path, n_ctx: int, max_chunks: int) -> None:
    data = tmp_path / "text"
    data.write_bytes(shipped_text().data)
    job = {"kind": "text", "data": str(data), "reference": 0, "n_ctx": n_ctx, "max_chunks": max_chunks, "threads": 1}
    begins = (1 % max_chunks, 0)
    models = [{"path": path, "begin": begin} for path, begin in zip(_models(), begins, strict=True)]
    for one, other in zip(*_both(tmp_path / "job.json", {**job, "models": models}), strict=True):
        assert np.mean(one["nll"]) == pytest.approx(np.mean(other["nll"]), rel=1e-3)
        assert len(one["nll"]) == len(other["nll"])
        assert one.get("kl", []) == pytest.approx(other.get("kl", []), abs=0.05)
        assert len(one.get("same", [])) == len(other.get("same", []))


def test_the_native_runner_answers_as_the_python_program(tmp_path: Path) -> None:
    """The same log-likelihoods within 0.01 %, of Q2_K 0.2 %, with and without a token for the beginning."""
    long = "The list of names is returned. " * 40  # more than is computed at once
    contexts = [
        ("Return the number of", (" items", " bytes in the file")),
        ("", ("Return", " größer ✓")),
        (long, (" x",)),
    ]
    contexts += [(f"{long}It is", (" sorted", f" {long}")), ("<|endoftext|>def", ("\n  f(x):", "  f"))]
    data = tmp_path / "data"
    data.write_text(
        json.dumps([{"where": f"task:{n}", "pairs": [(c, k) for k in ks]} for n, (c, ks) in enumerate(contexts)])
    )
    gguf = bytearray(MODEL.read_bytes())
    # The key's name, its type in 4 bytes, its value.
    key = b"tokenizer.ggml.add_bos_token"
    gguf[gguf.index(key) + len(key) + 4] = 1
    with_bos = tmp_path / "with-bos.gguf"
    with_bos.write_bytes(gguf)
    models = [{"path": str(with_bos), "begin": 0}, *({"path": path, "begin": 2} for path in _models())]
    models.append({"path": "/nowhere", "begin": len(contexts)})  # of which all is known
    job = {"kind": "choices", "models": models, "data": str(data), "threads": 1}
    answers = list(zip(*_both(tmp_path / "job.json", job), strict=True))
    assert len(answers) == 5 + 3 + 3
    for one, other in answers:
        # Kernels of other CPU features add up in other orders, and round what they multiply Q2_K with.
        tolerance = 2e-3 if models[one["model"]]["path"] == _models()[1] else 1e-4
        assert one["log_likelihoods"] == pytest.approx(other["log_likelihoods"], rel=tolerance)


def _models() -> tuple[str, str]:
    return str(MODEL), Library().resolve("tiny-pydoc", "q2_k").path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "chat"}, "kind must be one of text, choices, not 'chat'"),
        ({"models": []}, "names no models"),
        ({"reference": 1}, "reference is not one of the models"),
        ({"n_ctx": 2048}, "longer than the 1024 that"),
        ({"data": "/nonexistent"}, "cannot read the text /nonexistent"),
        ({"data": str(MODEL.with_name("README.md")), "n_ctx": 1024}, "at least 2048 are needed"),
        ({"kind": "choices"}, "they are no list in JSON"),
        ({"kind": "choices", "data": "/nonexistent"}, "cannot read the questions /nonexistent"),
        ({"kind": "choices", "data": [{"where": "t:7", "pairs": [["x", ""]]}]}, "t:7: a choice adds no token"),
        ({"kind": "choices", "data": [{"where": "t:7", "pairs": [["x" * 9000, " y"]]}]}, "t:7: an item of "),
    ],
)
def test_a_job_that_cannot_be_is_one_sentence(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    data, path = tmp_path / "text", tmp_path / "job.json"
    data.write_bytes(shipped_text().data)
    job = {"kind": "text", "models": [{"path": str(MODEL)}], "data": str(data), "n_ctx": 64, **changed}
    if isinstance(job["data"], list):
        data.write_text(json.dumps(job["data"]))
        job["data"] = str(data)
    path.write_text(json.dumps(job))
    (error,) = [
        one for one in _events(native_runners.for_this_machine(), "--score", path, code=1) if one["event"] == "error"
    ]
    assert said in error["message"]


def _events(*argv: object, code: int = 0) -> list[dict[str, Any]]:
    done = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
