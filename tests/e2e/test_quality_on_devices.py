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


def test_a_phone_scores_texts_with_the_native_runner(melt: Melt, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(shipped_text().data[:2000])
    asked = (*ASKED, "--text", str(text), "--chunks", "3")
    native_runners.build("android-arm64", "i8mm")
    with adb_server(CLIENTS[0]) as server, playing("pixel-8") as phone:
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        server.connect(phone.address)
        there = json.loads(melt(*asked, "--device", phone.address, timeout_s=600).stdout)
        known = melt(*asked, "--device", phone.address)
        refused = melt(*ASKED, "--tasks", str(_task(tmp_path)), "--device", phone.address, check=2)
    assert {row["device"] for row in there} == {"Google Pixel 8"}
    assert all(row["known"] for row in json.loads(known.stdout))
    assert "scores texts, not questions" in refused.stderr
    here = json.loads(melt(*asked).stdout)
    for row, other in zip(there, here, strict=True):
        assert row["n_tokens"] == other["n_tokens"]
        assert row["perplexity"] == pytest.approx(other["perplexity"], rel=1e-3)
        if row["kl_mean"] is not None:
            assert row["kl_mean"] == pytest.approx(other["kl_mean"], rel=2e-2)
    assert len({row["device_id"] for row in (*there, *here)}) == 2


@pytest.mark.parametrize(("n_ctx", "max_chunks"), [(65, 3), (1024, 1)])
def test_the_native_runner_scores_as_the_python_program(tmp_path: Path, n_ctx: int, max_chunks: int) -> None:
    data, path = tmp_path / "text", tmp_path / "job.json"
    data.write_bytes(shipped_text().data)
    models = [str(MODEL), Library().resolve("tiny-pydoc", "q2_k").path]
    job = {"kind": "text", "data": str(data), "reference": 0, "n_ctx": n_ctx, "max_chunks": max_chunks, "threads": 1}
    path.write_text(json.dumps({**job, "models": [{"path": models[0], "begin": 1 % max_chunks}, {"path": models[1]}]}))
    native = _events(native_runners.for_this_machine(), "--score", path)
    path.write_text(
        json.dumps(
            {**job, "models": [{"path": p, "begin": b} for p, b in zip(models, (1 % max_chunks, 0), strict=True)]}
        )
    )
    python = _events(sys.executable, agents_dir() / "runners" / "llama_quality.py", path, "--detached")
    assert [event["event"] for event in native] == [event["event"] for event in python]
    assert native[0]["engine_version"] == python[0]["engine_version"]
    assert native[1] == python[1]
    for one, other in zip(native[2:-1], python[2:-1], strict=True):
        assert (one["model"], one["index"]) == (other["model"], other["index"])
        assert np.mean(one["nll"]) == pytest.approx(np.mean(other["nll"]), rel=1e-3)
        assert len(one["nll"]) == len(other["nll"])
        assert one.get("kl", []) == pytest.approx(other.get("kl", []), abs=0.05)
        assert len(one.get("same", [])) == len(other.get("same", []))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "choices"}, "kind must be one of text, not 'choices'"),
        ({"models": []}, "names no models"),
        ({"reference": 1}, "reference is not one of the models"),
        ({"n_ctx": 2048}, "longer than the 1024 that"),
        ({"data": "/nonexistent"}, "cannot read the text /nonexistent"),
        ({"data": str(MODEL.with_name("README.md")), "n_ctx": 1024}, "at least 2048 are needed"),
    ],
)
def test_a_job_that_cannot_be_is_one_sentence(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    data, path = tmp_path / "text", tmp_path / "job.json"
    data.write_bytes(shipped_text().data)
    job = {"kind": "text", "models": [{"path": str(MODEL)}], "data": str(data), "n_ctx": 64, **changed}
    path.write_text(json.dumps(job))
    (error,) = [
        one for one in _events(native_runners.for_this_machine(), "--score", path, code=1) if one["event"] == "error"
    ]
    assert said in error["message"]


def _events(*argv: object, code: int = 0) -> list[dict[str, Any]]:
    done = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
