"""The runner for phones and 64-bit Arm boards, run by an emulator of the CPUs that they have."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import native_runners
import pytest

from melt._layout import agents_dir
from melt.analysis.outcome import outcome
from melt.engines import registry
from melt.engines.base import RunnerReport
from melt.records import Outcome

pytestmark = native_runners.BUILDS
_QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
if _QEMU is None:
    pytest.skip("qemu-aarch64-static is not installed (package qemu-user-static)", allow_module_level=True)

_MODEL = Path(__file__).parents[2] / "melt" / "models" / "data" / "tiny-pydoc-f16.gguf"
_DEADLINE_S = 300
_VARIANTS = ("v8.0", "v8.2", "i8mm")


@pytest.fixture(scope="module")
def runners() -> dict[str, Path]:
    return native_runners.build("android-arm64", *_VARIANTS)


@pytest.fixture
def job(tmp_path) -> Path:
    path = tmp_path / "runner.json"
    job = {
        "model": str(_MODEL),
        "workload": {"n_prompt": 40, "n_gen": 12, "n_depth": 8},
        "settings": {"threads": 1, "seed": 5},
        "repeat": {"warmup": 0, "repetitions": 1},
    }
    path.write_text(json.dumps(job))
    return path


def _emulate(cpu: str, *argv: object) -> subprocess.CompletedProcess[bytes]:
    command = [_QEMU, "-cpu", cpu, *map(str, argv)]
    return subprocess.run(command, capture_output=True, timeout=_DEADLINE_S, check=False)


def _report(done: subprocess.CompletedProcess[bytes]) -> RunnerReport:
    return registry.get("llama.cpp-native").parse(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("variant", "cpu", "feature"),
    [
        ("v8.0", "cortex-a53", None),
        ("v8.0", "max", None),
        ("v8.2", "cortex-a76", "DOTPROD"),
        ("v8.2", "max", "DOTPROD"),
        ("i8mm", "max", "MATMUL_INT8"),
    ],
)
@pytest.mark.usefixtures("needs_llama_cpp")
def test_a_variant_runs_on_the_cpus_that_it_is_for_and_says_what_the_python_runner_says(
    runners, job, variant, cpu, feature
):
    done = _emulate(cpu, runners[variant], job)
    assert (done.returncode, done.stderr) == (0, b"")
    report = _report(done)
    assert report.complete
    assert report.used["variant"] == variant
    assert (feature or "NEON") in str(report.used["cpu_features"])
    assert feature is not None or "DOTPROD" not in str(report.used["cpu_features"])
    python = subprocess.run(
        [sys.executable, agents_dir() / "runners" / "llama_cpp.py", job], capture_output=True, check=True
    )
    # Half-precision weights are summed in other orders by each CPU's code; on this model no order changes a choice.
    assert report.generations[0].token_ids == _report(python).generations[0].token_ids
    assert report.used["engine_revision"] == _report(python).used["engine_revision"]
    assert report.memory["kv_cache_bytes"] == _report(python).memory["kv_cache_bytes"]


@pytest.mark.parametrize(
    ("variant", "cpu", "lacks"),
    [
        ("v8.2", "cortex-a53", "atomics asimdhp asimddp"),
        ("i8mm", "cortex-a53", "atomics asimdhp asimddp i8mm"),
        ("i8mm", "cortex-a76", "i8mm"),
    ],
)
def test_a_variant_for_a_better_cpu_refuses_before_it_dies(runners, job, variant, cpu, lacks):
    done = _emulate(cpu, runners[variant], job)
    assert done.returncode == 1
    report = _report(done)
    assert report.failure is not None
    assert report.failure.code == "unsupported_cpu"
    assert report.failure.message == f"this runner was built for the CPU variant {variant}, and this CPU lacks: {lacks}"
    assert outcome(report, [], {"reason": "completed", "exit_code": 1}, "")[0] is Outcome.UNSUPPORTED


def test_the_binaries_are_static_small_and_of_no_machine(runners):
    """A phone has no loader for them, and each device gets one pushed over its link."""
    for path in runners.values():
        data = path.read_bytes()
        assert data[:4] == b"\x7fELF"
        assert data[18:20] == (183).to_bytes(2, "little")  # EM_AARCH64
        assert b"/lib/ld-" not in data
        assert len(data) < 8 << 20


def test_phones_and_boards_share_a_binary_and_what_is_built_is_not_built_again(runners):
    said: list[str] = []
    again = native_runners.runners.build("llama_native", said.append, target="linux-arm64", variants=_VARIANTS)
    assert (again, said) == (runners, [])


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b'{"model": 3}'])
def test_a_damaged_job_is_refused_by_the_emulated_runner_too(runners, job, data):
    job.write_bytes(data)
    done = _emulate("cortex-a53", runners["v8.0"], job)
    report = _report(done)
    assert (done.returncode, report.failure and report.failure.code) == (1, "bad_request")
