"""The Python runner where Python has none of Linux's own calls, as on a Mac: on the embedded model, as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from melt._layout import agents_dir
from melt.engines import registry
from melt.records import DeviceFacts

MODEL = Path(__file__).parents[2] / "melt" / "models" / "data" / "tiny-pydoc-f16.gguf"

NO_LINUX = """
import builtins, os, resource, sys
for name in ("posix_fadvise", "POSIX_FADV_DONTNEED", "sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
real_open = builtins.open
def open_(path, *rest, **options):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return real_open(path, *rest, **options)
builtins.open = open_
"""


@pytest.fixture
def finished(needs_llama_cpp: None, tmp_path: Path) -> subprocess.CompletedProcess[bytes]:
    (tmp_path / "sitecustomize.py").write_text(NO_LINUX)
    job = {
        "model": str(MODEL),
        "workload": {"n_prompt": 8, "n_gen": 4},
        "settings": {"threads": 1, "page_cache": "cold"},
        "repeat": {"warmup": 0, "repetitions": 1},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    runner = agents_dir() / "runners" / "llama_cpp.py"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return subprocess.run(
        [sys.executable, runner, tmp_path / "job.json"], capture_output=True, env=environment, timeout=60, check=False
    )


def test_a_run_needs_nothing_that_only_linux_has(finished: subprocess.CompletedProcess[bytes]) -> None:
    assert finished.returncode == 0, finished.stderr.decode()
    events = {event["event"]: event for event in map(json.loads, finished.stdout.splitlines())}
    assert events["load"]["used"]["affinity"] is None
    assert events["load"]["used"]["backend"] == "CPU"
    assert events["load"]["page_cache"]["asked"] == "cold"
    assert events["finish"]["peak_rss_bytes"] > 1 << 20
    assert b"the page cache cannot be dropped here: only root can" in finished.stderr


def test_a_mac_gets_the_python_runner() -> None:
    mac = DeviceFacts(device_id="m", kind="ssh", name="m", os="macos", os_build=None, kernel=None, arch="arm64")
    engine = registry.get("llama.cpp").for_device(mac)
    assert engine.runner_files()[0].name == "llama_cpp.py"
    assert engine.built_runner() is None
