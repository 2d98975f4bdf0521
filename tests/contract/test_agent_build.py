"""agents/build.py: who asks for an agent at the same time gets the same one, built once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from agent_rig import wait_for

_AGENTS = Path(__file__).resolve().parents[2] / "agents"
"""The checkout's: what is installed has the agents that were built, and nothing to build them with."""

_BUILD = """\
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import build

folder = Path(sys.argv[2])

def compile_agent(compiler, target, flags, output):
    with (folder / "compiled").open("a") as compiled:
        compiled.write(target + "\\n")
    while not (folder / "go").exists():
        time.sleep(0.01)
    output.write_bytes(b"an agent")

build.compile_agent = compile_agent
print("asks", flush=True)
build.build(["x86_64-linux-musl"], folder / "bin")
"""
"""The real build but for the compiler, which takes minutes where nothing of it is cached."""


@pytest.mark.slow
def test_of_two_at_once_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _BUILD, str(_AGENTS), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        wait_for(lambda: (tmp_path / "compiled").exists() or first.poll() is not None, "the first one to compile")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "asks\n"
            (tmp_path / "go").touch()
            assert first.wait(30) == second.wait(30) == 0
    assert (tmp_path / "compiled").read_text() == "x86_64-linux-musl\n"
