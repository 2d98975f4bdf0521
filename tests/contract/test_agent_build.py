"""agents/build.py: who asks for an agent at the same time gets the same one, built once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from melt import _layout

BUILD = _layout.agents_dir() / "build.py"


@pytest.mark.slow
def test_of_two_at_once_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    command = [sys.executable, BUILD, "--target", "x86_64-linux-musl", "--out", tmp_path / "bin"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [each.communicate(timeout=240) for each in both]
    assert [each.returncode for each in both] == [0, 0], answers
    assert [out for out, _ in answers] == [f"{tmp_path}/bin/melt-agent-x86_64-linux-musl\n"] * 2
    assert [err.count("building the agent") for _, err in answers].count(1) == 1
