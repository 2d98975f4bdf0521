"""A melt of its own for each test, and what tests of it wait for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from melt_rig import Melt


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Quantized files are shared by all tests: making them is tested elsewhere."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def melt(tmp_path: Path, models_dir: Path) -> Iterator[Melt]:
    state = tmp_path / "state"
    env = {
        **os.environ,
        "XDG_STATE_HOME": str(state),
        "MELT_MODELS": str(models_dir),
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }
    melt = Melt(env, tmp_path / "store", state)
    yield melt
    melt.clean_up()


@pytest.fixture
def wait_for() -> Callable[..., object]:
    """Wait for a condition with a deadline; the name is what the failure says."""

    def wait(what: str, condition: Callable[[], object], timeout_s: float = 30) -> object:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
            time.sleep(0.02)  # The condition is on another process's files: there is nothing to be woken by.
        return found

    return wait


@pytest.fixture
def give_python() -> Callable[[Path], None]:
    """Give a home the interpreter of these tests where `melt provision` would have put one."""

    def give(home: Path) -> None:
        python = home / ".melt" / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        # A link would not do: Python looks for its packages beside the name it was started by.
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)

    return give
