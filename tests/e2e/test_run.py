"""`melt run` end to end with the real agent, the real runner and the tiny model."""

from __future__ import annotations

import json
import re

import pytest
from melt_rig import SMALL, Melt


@pytest.mark.slow
def test_levels_are_measured_stored_and_compared(melt: Melt) -> None:
    done = melt("run", *SMALL, "--quant", "q8_0,q4_0", "-o", "json")
    comparison = json.loads(done.stdout)
    assert "q8_0" in done.stdout
    assert comparison
    runs = melt.runs()
    assert len(runs) == 4
    assert {run["quant"] for run in runs} == {"q8_0", "q4_0"}
    assert {run["outcome"] for run in runs} == {"ok"}
    assert not melt.job_dirs(), "a published run leaves nothing on the device"
    assert not list((melt.store / "spool").iterdir())
    assert melt.here("store", "verify").returncode == 0
    said = re.search(r"random order; --order-seed ([0-9]+) repeats it", done.stderr)
    assert said is not None
    shown = json.loads(melt.here("show", "last", "-o", "json").stdout)
    assert (shown["start"]["spec"]["order"], shown["start"]["spec"]["order_seed"]) == ("random", int(said[1]))


@pytest.mark.slow
def test_what_a_run_says_can_be_read_back(melt: Melt) -> None:
    melt("run", *TINY_REQUEST)
    shown = json.loads(melt.here("show", "last", "-o", "json").stdout)
    metrics = {m["name"]: m["value"] for m in shown["metrics"] if m["repetition"] is None}
    assert metrics["ttft_s"] > 0
    assert metrics["decode_tps"] > 0
    assert metrics["tpot_s"] == pytest.approx(1 / metrics["decode_tps"], rel=0.2)
    assert metrics["peak_rss_bytes"] > 7e6
    assert 0 <= metrics["agent_cpu_ratio"] < 0.5
    # The tiny model's weights may stay in a cache, which is faster than the memory that B is of: no bound above.
    assert metrics["mbu_ratio"] > 0
    assert 0 < metrics["mfu_decode_ratio"] < metrics["mfu_prefill_ratio"] <= 1
    assert metrics["roofline_decode_ratio"] == pytest.approx(
        max(metrics["mbu_ratio"], metrics["mfu_decode_ratio"]), rel=0.01
    )
    assert 0 < metrics["memory_used_ratio"] < metrics["memory_pressure_ratio"] < 1


TINY_REQUEST = ("--model", "tiny-pydoc", "--quant", "q8_0", "-pg", "64,32", "-r", "3", "-t", "1")


@pytest.mark.slow
def test_tables_go_to_stdout_and_progress_to_stderr(melt: Melt) -> None:
    done = melt("run", *TINY_REQUEST)
    assert "decode" in done.stdout
    assert "[1/1]" in done.stderr
    assert "[1/1]" not in done.stdout


@pytest.mark.parametrize("form", ["table", "md", "json", "jsonl", "csv"])
def test_dry_run_measures_nothing(melt: Melt, form: str) -> None:
    done = melt.here("run", *SMALL, "--quant", "q8_0,q4_0", "--dry-run", "-o", form)
    assert "q4_0" in done.stdout
    assert not melt.job_dirs()


@pytest.mark.slow
def test_prompt_files_and_sustained_workloads(melt: Melt, tmp_path) -> None:
    (tmp_path / "questions.jsonl").write_text('{"prompt": "def main("}\n{"prompt": "The list type"}\n')
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "name: both\nmodels:\n  - {model: tiny-pydoc, quants: [q8_0]}\n"
        "workloads:\n  - {prompts: questions.jsonl, gen: 8}\n  - {sustained: 1s, prompt: 16, gen: 16}\n"
        "repeat: {warmup: 0, repetitions: 2}\n"
    )
    melt("run", str(plan))
    assert {run["outcome"] for run in melt.runs()} == {"ok"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "no-such-model"), "no-such-model"),
        (("--model", "tiny-pydocs"), "tiny-pydoc"),
        (("--model", "tiny-pydoc", "--quant", "q8_00"), "q8_0"),
        (("--model", "./missing.gguf"), "missing.gguf"),
        (("missing-plan.yaml",), "missing-plan.yaml"),
        (("--model", "tiny-pydoc", "--engine", "llama.cp"), "llama.cpp"),
        (("--model", "tiny-pydoc", "--device", "nowhere"), "nowhere"),
        (("--model", "tiny-pydoc", "-p", "many"), "many"),
    ],
)
def test_what_cannot_be_gets_one_sentence(melt: Melt, words: tuple[str, ...], said: str) -> None:
    done = melt.here("run", *words, check=2)
    assert said in done.stderr
    assert done.stdout == ""


def test_a_damaged_model_is_named(melt: Melt, tmp_path) -> None:
    from importlib import resources

    whole = resources.files("melt.models").joinpath("data/tiny-pydoc-f16.gguf").read_bytes()
    for name, data in {"short.gguf": whole[:200_000], "magic.gguf": b"FUGG" + whole[4:], "empty.gguf": b""}.items():
        path = tmp_path / name
        path.write_bytes(data)
        done = melt.here("run", "--model", str(path), check=2)
        assert name in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_context_that_is_too_long_is_a_result(melt: Melt) -> None:
    done = melt("run", "--model", "tiny-pydoc", "--workload", "pp100000", "-r", "1", check=1)
    (run,) = melt.runs()
    assert run["outcome"] == "unsupported"
    assert "context" in done.stderr + done.stdout
