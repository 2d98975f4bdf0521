"""How a step of the build fails: in one sentence that names the step and its log."""

from __future__ import annotations

import subprocess
from pathlib import Path


class BuildError(Exception):
    """A step of the build failed; the sentence names the step and the log."""


class Unavailable(BuildError):
    """This machine cannot build adbd at all; the sentence says what is missing."""


def logged(step: str, command: list[str], log: Path, folder: Path) -> None:
    """Run a command in `folder` with its output appended to `log`. Raises BuildError naming the step."""
    with log.open("ab") as output:
        output.write(f"--- {step}\n".encode())
        output.flush()
        status = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if status.returncode:
        raise BuildError(f"{step} failed: {_reason(log, step)}; the whole log is {log}")


def _reason(log: Path, step: str) -> str:
    said = log.read_text(errors="replace").rpartition(f"--- {step}\n")[2]
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    telling = [line for line in lines if line.startswith(("E:", "dpkg-source: error")) or "error:" in line]
    return telling[0] if telling else lines[-1]
