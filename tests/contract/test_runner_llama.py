"""The real runners on the embedded model: what agents/PROTOCOL.md promises, and what they do with bad input.

One suite for the Python runner and the native one: what differs is said at the test where it does.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import native_runners
import pytest

from melt._layout import agents_dir
from melt.engines import registry

pytestmark = pytest.mark.slow  # a model is loaded again and again

_MODEL = Path(__file__).parents[2] / "melt" / "models" / "data" / "tiny-pydoc-f16.gguf"
_DEADLINE_S = 60


class Run:
    """A finished runner: its events, and the report that its adapter makes of them."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]):
        self.exit_code = done.returncode
        self.stderr = done.stderr.decode()
        self.events = [json.loads(line) for line in done.stdout.splitlines()]
        self.report = registry.get("llama.cpp").parse(done.stdout.splitlines())

    def all(self, event: str) -> list[dict]:
        return [e for e in self.events if e["event"] == event]

    @property
    def token_ids(self) -> list[list[int]]:
        return [g["token_ids"] for g in self.all("generation")]


def _python() -> list[str]:
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed (extra: llama)")
    return [sys.executable, str(agents_dir() / "runners" / "llama_cpp.py")]


def _native() -> list[str]:
    return [str(native_runners.for_this_machine())]


@pytest.fixture(
    scope="module",
    params=[pytest.param(_python, id="python"), pytest.param(_native, id="native", marks=native_runners.BUILDS)],
)
def runner(request) -> list[str]:
    """How each runner is started."""
    return request.param()


@pytest.fixture
def run(runner, tmp_path) -> Callable[..., Run]:
    def start(*, model: Path | str = _MODEL, address_space: int | None = None, **job: object) -> Run:
        settings = {"threads": 1, **job.pop("settings", {})}
        path = tmp_path / "job.json"
        path.write_text(json.dumps({"model": str(model), "settings": settings, **job}))
        limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (address_space,) * 2)) if address_space else None
        return Run(
            subprocess.run([*runner, path], capture_output=True, timeout=_DEADLINE_S, preexec_fn=limit, check=False)
        )

    return start


_ONCE = {"warmup": 0, "repetitions": 1}


def test_a_request_is_timed_from_submission_to_its_last_token(run):
    done = run(workload={"n_prompt": 40, "n_gen": 6}, settings={"n_batch": 16}, repeat={"warmup": 1, "repetitions": 2})
    assert (done.exit_code, done.stderr) == (0, "")
    assert [e["event"] for e in done.events] == ["hello", "load", *["generation"] * 3, "finish"]
    assert [g["warmup"] for g in done.all("generation")] == [True, False, False]
    assert [g["repetition"] for g in done.all("generation")] == [0, 0, 1]
    latest_ns = done.all("load")[0]["t1_ns"]
    for g in done.all("generation"):
        prefill = g["prefill"]
        times = [latest_ns, g["submit_ns"], prefill["t0_ns"], *(t for _, t in prefill["batches"]), *g["token_ns"]]
        assert all(a < b or a == b == times[1] for a, b in pairwise(times))
        assert [n for n, _ in prefill["batches"]] == [16, 16, 8]
        assert prefill["batches"][-1][1] == prefill["t1_ns"]
        assert len(g["token_ns"]) == len(g["token_ids"]) == 6
        latest_ns = g["token_ns"][-1]
    assert done.all("finish")[0]["t_ns"] >= latest_ns
    assert done.report.complete
    assert len({tuple(ids) for ids in done.token_ids}) == 1


def test_prefill_alone_still_has_a_first_token(run):
    done = run(workload={"n_prompt": 20}, repeat=_ONCE)
    (generation,) = done.report.generations
    assert len(generation.token_ns) == 1
    assert generation.token_ns[0] > generation.submit_ns
    assert [w.phase for w in done.report.windows] == ["load", "prefill"]


def test_decode_alone_counts_every_token(run):
    done = run(workload={"n_gen": 5}, repeat=_ONCE)
    assert done.all("generation")[0]["prefill"] is None
    assert [(w.phase, w.n_tokens, w.depth) for w in done.report.windows[1:]] == [("decode", 5, 0)]


def test_tokens_do_not_depend_on_depth_being_cut_or_on_the_size_of_batches(run):
    """The same 60 made-up tokens, as depth or as prompt, whole or in pieces, must lead to the same text."""
    deep = run(workload={"n_depth": 40, "n_prompt": 20, "n_gen": 8}, repeat={"warmup": 1, "repetitions": 2})
    flat = run(workload={"n_prompt": 60, "n_gen": 8}, settings={"n_batch": 7, "n_ubatch": 7}, repeat=_ONCE)
    assert len(deep.token_ids) == 3
    assert {tuple(ids) for ids in deep.token_ids} == {tuple(flat.token_ids[0])}
    assert deep.report.windows[-1].depth == flat.report.windows[-1].depth == 60


def test_seed_chooses_the_made_up_tokens(run):
    ids = [run(workload={"n_prompt": 16, "n_gen": 6}, settings={"seed": s}, repeat=_ONCE).token_ids for s in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_greedy_decoding_is_what_the_high_level_library_generates(run):
    prompt = "The sorted() function returns"
    high_level = (
        "import sys, llama_cpp; m = llama_cpp.Llama(sys.argv[1], n_ctx=256, n_threads=1, verbose=False);"
        "g = m.generate(m.tokenize(sys.argv[2].encode()), temp=0.0, repeat_penalty=1.0, top_k=1);"
        "print([next(g) for _ in range(24)])"
    )
    expected = subprocess.run(
        [sys.executable, "-c", high_level, str(_MODEL), prompt], capture_output=True, timeout=_DEADLINE_S, check=True
    )
    done = run(workload={"kind": "prompts", "prompts": [prompt], "n_gen": 24}, repeat=_ONCE)
    assert done.token_ids == [json.loads(expected.stdout)]


def test_texts_are_tokenized_within_the_request(run):
    done = run(workload={"kind": "prompts", "prompts": ["def f(x):", "größer ✓"], "n_gen": 4}, repeat=_ONCE)
    for tokenize, generation in zip(done.all("tokenize"), done.all("generation"), strict=True):
        assert generation["submit_ns"] == tokenize["t0_ns"] < tokenize["t1_ns"] <= generation["prefill"]["t0_ns"]
        assert tokenize["n"] == generation["n_prompt"] > 0
        assert generation["text"]
    assert len(done.all("generation")) == 2


def test_temperature_follows_the_seed(run):
    workload = {"kind": "prompts", "prompts": ["import"], "n_gen": 16}
    ids = [
        run(workload=workload, settings={"temperature": 1.5, "seed": seed}, repeat={"warmup": 0, "repetitions": 2})
        for seed in (1, 2)
    ]
    assert ids[0].token_ids[0] == ids[0].token_ids[1]
    assert ids[0].token_ids != ids[1].token_ids


def test_sustained_goes_on_until_its_time_is_over(run):
    workload = {"kind": "sustained", "n_prompt": 4, "n_gen": 20, "duration_s": 0.2}
    done = run(workload=workload, repeat={"warmup": 1, "repetitions": 1})
    measured = [g for g in done.report.generations if not g.warmup]
    assert len(done.report.generations) == len(measured) + 1
    assert {g.repetition for g in measured} == {0}
    assert all(g.stop == "length" for g in measured[:-1])
    assert measured[-1].token_ns[-1] - measured[0].submit_ns >= 0.15e9


def test_what_is_in_force_is_said(run):
    settings = {
        "threads": 2,
        "threads_batch": 1,
        "cache_type_k": "q8_0",
        "cache_type_v": "q8_0",
        "n_ubatch": 8,
        "mmap": False,
        "page_cache": "cold",
    }
    done = run(workload={"n_prompt": 300, "n_gen": 2}, settings=settings, repeat=_ONCE)
    used = done.report.used
    assert (used["threads"], used["threads_batch"], used["n_ubatch"], used["mmap"]) == (2, 1, 8, False)
    assert (used["cache_type_k"], used["flash_attn"], used["backend"]) == ("q8_0", "on", "CPU")
    assert used["n_ctx"] == 512
    assert used["page_cache"]["asked"] == "cold"
    # q8_0 keeps 32 values in 34 bytes: 512 cells of 4 layers, K and V of 128 values each.
    assert done.report.memory["kv_cache_bytes"] == 512 * 4 * 2 * 128 // 32 * 34


def test_a_warm_cache_is_whole(run):
    done = run(workload={"n_gen": 1}, repeat=_ONCE)
    assert done.report.used["page_cache"] in (
        {"asked": "warm", "resident_before": 1.0},
        {"asked": "warm", "resident_before": None},
    )


def _patched(folder: Path, change: Callable[[bytes], bytes]) -> Path:
    path = folder / "patched.gguf"
    path.write_bytes(change(_MODEL.read_bytes()))
    return path


def _other_architecture(data: bytes) -> bytes:
    at = data.index(b"llama", data.index(b"general.architecture"))
    return data[:at] + b"qqqqq" + data[at + 5 :]


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda data: data[: len(data) // 2], "bad_model", "not within the file bounds"),
        (lambda data: data[:200], "bad_model", "cannot load"),
        (lambda data: b"", "bad_model", "not a GGUF file"),
        (lambda data: b"GGML" + data[4:], "bad_model", "not a GGUF file"),
        (lambda data: data[:4] + b"\x63" + data[5:], "unsupported_model", "version"),
        (_other_architecture, "unsupported_model", "unknown model architecture: 'qqqqq'"),
    ],
    ids=["truncated", "header only", "empty", "wrong magic", "later version", "unknown architecture"],
)
def test_a_model_that_cannot_be_loaded_is_named(run, tmp_path, change, code, says):
    done = run(model=_patched(tmp_path, change), workload={"n_gen": 2})
    assert done.exit_code == 1
    assert done.report.failure is not None
    assert done.report.failure.code == code
    assert says in done.report.failure.message
    assert not done.report.complete


@pytest.mark.parametrize(
    "job",
    [
        {"workload": {"n_prompt": 1000, "n_gen": 30}},
        {"workload": {"n_prompt": 90, "n_gen": 20}, "n_ctx_train": 100},
        {"workload": {"kind": "prompts", "prompts": ["short", "long " * 1000], "n_gen": 2}},
    ],
    ids=["known after loading", "known before", "a text"],
)
def test_a_context_that_is_too_long_is_refused_before_any_work(run, job):
    done = run(**job)
    assert done.exit_code == 1
    assert done.report.failure is not None
    assert done.report.failure.code == "context_too_long"
    assert not done.all("load")


@pytest.mark.parametrize(
    "job",
    [
        {"workload": {}},
        {"workload": {"n_gen": "3"}},
        {"workload": {"n_gen": True}},
        {"workload": {"n_prompt": -1}},
        {"workload": {"kind": "prompts", "prompts": []}},
        {"workload": {"kind": "prompts", "prompts": [""]}},
        {"workload": {"kind": "sustained", "n_gen": 1}},
        {"workload": {"kind": "chat", "n_gen": 1}},
        {"workload": [], "repeat": _ONCE},
        {"workload": {"n_gen": 1}, "repeat": {"repetitions": 0}},
        {"workload": {"n_gen": 1}, "settings": {"cache_type_k": "q9"}},
        {"workload": {"n_gen": 1}, "settings": {"cache_type_v": "q8_0", "flash_attn": "off"}},
        {"workload": {"n_gen": 1}, "model": "/nowhere/model.gguf"},
    ],
)
def test_a_wrong_job_is_refused_with_one_sentence(run, job):
    done = run(**job)
    assert done.exit_code == 1
    assert done.report.failure is not None
    assert done.report.failure.code == "bad_request"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("step", range(5))
def test_a_process_without_memory_says_so(run, runner, step):
    """Whoever runs out first: the dynamic linker, Python, llama.cpp's context, or ggml, which can only abort."""
    megabytes = (20, 28, 36, 44, 64) if runner[0] == sys.executable else (8, 12, 16, 24, 40)
    done = run(workload={"n_prompt": 900, "n_gen": 2}, repeat=_ONCE, address_space=megabytes[step] << 20)
    assert done.exit_code != 0
    assert not done.report.complete
    assert done.report.failure is not None
    assert done.report.failure.code == "out_of_memory"


def test_a_signal_ends_it_after_the_current_token(runner, tmp_path):
    job = tmp_path / "job.json"
    workload = {"n_prompt": 4, "n_gen": 100}
    repeat = {"warmup": 0, "repetitions": 10_000}
    # One thread: on a busy machine threads of llama.cpp wait for each other by spinning, a minute for this.
    job.write_text(
        json.dumps({"model": str(_MODEL), "settings": {"threads": 1}, "workload": workload, "repeat": repeat})
    )
    with subprocess.Popen([*runner, job], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        lines += process.stdout.read().splitlines()
        assert process.wait(_DEADLINE_S) == 128 + signal.SIGTERM
    report = registry.get("llama.cpp").parse(lines)
    assert len(report.generations) >= 1
    assert not report.complete
    assert report.failure is None
