"""The native runner for tests: built once into the user's cache, where a second test run finds it."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from melt.engines.llama_native import LlamaNative
from melt.records import DeviceFacts
from melt.targets import runners
from melt.targets.cpus import common_features

BUILDS = [pytest.mark.slow, pytest.mark.native, pytest.mark.timeout(1800)]
"""Marks of a test that may be the first to build the runner."""


def build(target: str, *variants: str) -> dict[str, Path]:
    """Return the runner's binaries by variant; skips the test where the tools to build them are not installed."""
    missing = [name for name in ("ziglang", "cmake", "ninja") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (extra: native)")
    return runners.build("llama_native", lambda text: print(text, file=sys.stderr), target=target, variants=variants)


def for_this_machine() -> Path:
    """Return the runner that this machine would be given."""
    features = common_features(Path("/proc/cpuinfo").read_text())
    facts = DeviceFacts(
        device_id="local",
        kind="linux",
        name="here",
        os="linux",
        os_build=None,
        kernel=None,
        arch=platform.machine(),
        cpu_features=features,
    )
    built = LlamaNative().for_device(facts).built_runner()
    assert built is not None
    return build(built.target, built.variant)[built.variant]


def begin_builds() -> subprocess.Popen[bytes]:
    """Build all that tests ask for, beside them: the build takes what CPU time they leave, and holds no worker up.

    The process leads a group of its own. Whoever asks for a binary meanwhile waits for the same build.
    """
    silent = subprocess.DEVNULL
    command = (sys.executable, __file__)
    return subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent, start_new_session=True)


if __name__ == "__main__":
    for_this_machine()
    build("android-arm64")
