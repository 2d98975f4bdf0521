"""For pytest: a board, or a skip that says by name what this machine lacks; and OpenSSH's own client for it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..phone.requirements import Unavailable
from .handle import VirtualJetson


@contextlib.contextmanager
def playing(profile: str, folder: Path, **options: object) -> Iterator[VirtualJetson]:
    """Play a board, or skip; the options are those of VirtualJetson."""
    try:
        board = VirtualJetson(profile, folder, **options)  # type: ignore[arg-type]
    except Unavailable as reason:
        pytest.skip(str(reason))
    with board:
        yield board
    complaints = [entry["text"] for entry in board.log() if entry["event"] == "stderr"]
    assert not complaints, "the board itself failed:\n" + "\n".join(complaints)


def ssh(
    board: VirtualJetson, command: str, *, stdin: str = "", timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command as the board's user, with OpenSSH's own client."""
    argv = ssh_argv(board, command)
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)


def ssh_argv(board: VirtualJetson, command: str) -> list[str]:
    """Return the command line of `ssh`, for a test that talks with what it starts."""
    return ["ssh", "-F", str(board.ssh.config), board.ssh.alias, command]


def said(board: VirtualJetson, command: str) -> str:
    """Return what a command prints; it must end well."""
    done = ssh(board, command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
