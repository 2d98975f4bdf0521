"""The adapter for a llama-bench of the user's: its command line, and what it reads of several versions of its JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from analysis_samples import figures, make_start, notes
from hypothesis import given
from hypothesis import strategies as st
from store_samples import make_bundle

from melt.analysis.evaluate import evaluate
from melt.engines import registry
from melt.engines.llama_bench import LlamaBench
from melt.errors import EngineError, UsageError
from melt.records import Outcome, Repeat, Settings, Verdict, Workload
from melt.telemetry.journal import Event

_DATA = Path(__file__).parents[1] / "data" / "llama_bench"
_TEXTS = {path.name: path.read_bytes() for path in sorted(_DATA.glob("*.json*"))}
_ENGINE = LlamaBench("/opt/llama/bin/llama-bench")


def _parse(text: bytes):
    return _ENGINE.parse(text.splitlines())


@pytest.mark.parametrize(
    ("name", "counts", "used"),
    [
        ("2023-metal.json", (2, 2), {"backend": "Metal", "n_gpu_layers": 99, "threads": 4, "decode_depth": 0}),
        (
            "2024-vulkan.json",
            (2, 0),
            {"backend": "Vulkan", "n_gpu_layers": 20, "flash_attn": "on", "mmap": False, "cache_type_v": "q8_0"},
        ),
        # It says 99 layers, as it was told; nothing in this build could have taken them.
        ("2025-cpu.json", (1, 1), {"backend": "CPU", "n_gpu_layers": 0, "flash_attn": "off", "decode_depth": 768}),
        ("2026-pinned.json", (3, 3), {"backend": "CPU", "threads": 1, "flash_attn": "on", "decode_depth": 32}),
        ("2026-pinned.jsonl", (3, 3), {"prefill_depth": 0, "decode_depth": 32, "n_ubatch": 512}),
        ("2026-verbose.json", (2, 0), {"model_type": "llama ?B F16", "prefill_depth": 0}),
    ],
)
def test_versions_of_its_json(name, counts, used):
    report = _parse(_TEXTS[name])
    assert tuple(len(report.samples.get(rate, ())) for rate in ("prefill_tps", "decode_tps")) == counts
    assert {key: report.used.get(key) for key in used} == used
    assert report.complete
    assert report.memory["model_bytes"] > 0
    assert not report.windows


def test_every_captured_output_is_read():
    assert {name for name in _TEXTS if not _parse(_TEXTS[name]).complete} == set()


def test_what_version_left_open_is_absent():
    used = _parse(_TEXTS["2023-metal.json"]).used
    assert not {"flash_attn", "mmap", "cache_type_k"} & set(used)
    assert used["engine_revision"] == "llama.cpp 0a1b2c3 (build 1500)"


def test_of_two_depths_the_prompt_counts_at_the_lesser_and_the_decode_behind_it():
    assert _parse(_TEXTS["2025-cpu.json"]).samples == {"prefill_tps": (128.0,), "decode_tps": (10.0,)}


def test_samples_are_made_of_times_or_else_of_the_mean():
    test = {"n_prompt": 0, "n_gen": 100, "samples_ns": [1e9, 2e9], "avg_ts": 75.0}
    assert _parse(json.dumps(test).encode()).samples == {"decode_tps": (100.0, 50.0)}
    del test["samples_ns"]
    assert _parse(json.dumps(test).encode()).samples == {"decode_tps": (75.0,)}
    test["avg_ts"] = 0
    assert not _parse(json.dumps(test).encode()).samples


@given(name=st.sampled_from(sorted(_TEXTS)), data=st.data())
def test_a_torn_output_is_never_complete_and_what_is_whole_of_it_is_kept(name, data):
    text = _TEXTS[name].rstrip()
    last = text.rindex(b"}" if name.endswith("l") else b"]")
    cut = data.draw(st.integers(0, last))
    report = _parse(text[:cut])
    begun_anew = name.endswith("l") and text[:cut].rstrip().endswith(b"}")
    assert not report.complete or begun_anew
    whole = _parse(text).samples
    for rate, values in report.samples.items():
        assert len(values) in (len(whole[rate]), 1)


@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from(sorted(_TEXTS)))
def test_no_text_makes_it_raise(lines, name):
    _ENGINE.parse([*lines, *_TEXTS[name].splitlines(), *lines])


@pytest.mark.parametrize("value", [None, "x", True, [], {}, -1, 10**400, float("inf")])
@pytest.mark.parametrize("field", ["n_prompt", "n_depth", "samples_ts", "samples_ns", "flash_attn", "n_gpu_layers"])
def test_a_damaged_field_costs_that_field_only(field, value):
    test = {"n_prompt": 8, "n_gen": 0, "n_depth": 0, "samples_ts": [5.0], "n_threads": 3, "model_size": 7}
    report = _parse(json.dumps({**test, field: value}).encode())
    assert report.used["threads"] == 3
    assert report.memory == {"model_bytes": 7}


def _command(**changed):
    start = make_bundle().start
    spec = {"workload": Workload(n_prompt=512, n_gen=128), "settings": Settings(threads=4), **changed}
    spec = replace(start.spec, **spec)
    return _ENGINE.command(spec, start.artifact, model_path="/m.gguf", runner_dir="/d", python="python3")


def _flags(**changed) -> dict[str, str]:
    argv = _command(**changed).argv
    return {flag: value for flag, value in pairwise(argv) if flag.startswith("-")}


def test_the_command_asks_for_decoding_behind_the_prompt():
    command = _command(repeat=Repeat(repetitions=3))
    assert command.argv[:3] == ("/d/llama-bench", "-m", "/m.gguf")
    assert command.env == {"LD_LIBRARY_PATH": "/d"}
    flags = _flags(repeat=Repeat(repetitions=3))
    assert (flags["-p"], flags["-n"], flags["-d"], flags["-r"], flags["-t"]) == ("512", "128", "0,512", "3", "4")
    assert (flags["-b"], flags["-ub"], flags["-ctk"], flags["-ctv"], flags["-ngl"]) == (
        "2048",
        "512",
        "f16",
        "f16",
        "0",
    )


@pytest.mark.parametrize(
    ("workload", "depths"),
    [
        (Workload(n_prompt=512), None),
        (Workload(n_gen=64), None),
        (Workload(n_gen=64, n_depth=100), "100"),
        (Workload(n_prompt=8, n_depth=100), "100"),
        (Workload(n_prompt=8, n_gen=4, n_depth=100), "100,108"),
    ],
)
def test_a_depth_is_named_only_where_there_is_one(workload, depths):
    """Versions until 2025 do not know -d."""
    assert _flags(workload=workload).get("-d") == depths


def test_flags_of_some_versions_are_passed_only_when_needed():
    assert not {"-fa", "-mmp", "--no-warmup"} & set(_command().argv)
    argv = _command(settings=Settings(flash_attn="off", mmap=False), repeat=Repeat(warmup=0)).argv
    assert " ".join(argv).endswith("-fa 0 -mmp 0 --no-warmup")


@pytest.mark.parametrize(
    "changed",
    [
        {"workload": Workload(kind="prompts", prompts=("x",), n_gen=3)},
        {"workload": Workload(kind="sustained", n_gen=3, duration_s=3.0)},
        {"settings": Settings(threads=4, threads_batch=2)},
    ],
)
def test_what_llama_bench_cannot_do_is_refused(changed):
    with pytest.raises(EngineError, match="llama-bench"):
        _command(**changed)


def test_the_registry_takes_the_path(tmp_path):
    engine = registry.get(f"llama-bench:{tmp_path}/my bench")
    with pytest.raises(EngineError, match="there is no such file"):
        engine.for_device(make_bundle().start.device)
    (tmp_path / "my bench").touch()
    (tmp_path / "libggml.so").touch()
    assert engine.for_device(make_bundle().start.device) is engine
    assert engine.runner_files() == (tmp_path / "my bench", tmp_path / "libggml.so")
    with pytest.raises(UsageError, match="needs the program"):
        registry.get("llama-bench")


def _evaluated(text: bytes, **settings: object):
    start = make_start(settings=Settings(**settings))
    start = replace(start, spec=replace(start.spec, workload=Workload(n_prompt=32, n_gen=8)))
    exited = Event(name="runner_exited", t_ns=1, data={"exit_code": 0, "signal": None})
    return evaluate(start, _parse(text), [], [exited], torn=False, end={"reason": "completed", "exit_code": 0})


def test_its_samples_become_metrics_and_what_it_does_not_know_says_so():
    evaluation = _evaluated(_TEXTS["2026-pinned.json"], threads=1)
    assert evaluation.outcome is Outcome.OK
    samples = _parse(_TEXTS["2026-pinned.json"]).samples
    assert figures(evaluation)["decode_tps"] == pytest.approx(sorted(samples["decode_tps"])[1])
    assert [figures(evaluation, i)["prefill_tps"] for i in range(3)] == pytest.approx(list(samples["prefill_tps"]))
    sources = {m.name: m.source for m in evaluation.metrics if m.repetition is None}
    assert (sources["prefill_tps"], sources["decode_tps"]) == ("llama-bench", "llama-bench")
    for name in ("ttft_s", "tpot_s", "itl_p50_s", "e2e_s", "load_s", "energy_decode_j"):
        assert figures(evaluation)[name] is None
        assert "tells no times" in notes(evaluation)[name]


@pytest.mark.parametrize(
    ("settings", "code"), [({"threads": 2}, "wrong_threads"), ({"threads": 1, "n_gpu_layers": 99}, "wrong_backend")]
)
def test_what_it_really_used_is_judged(settings, code):
    evaluation = _evaluated(_TEXTS["2026-pinned.json"], **settings)
    assert evaluation.verdict is Verdict.INVALID
    assert code in {reason.code for reason in evaluation.reasons}
