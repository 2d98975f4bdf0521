"""Run a program in a board, FILE holding the number of its first process: what is put in front of sshd.

It stays between the two, for who enters a process namespace is not in it, its children are.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..phone import linux


def enter(file: str, argv: list[str]) -> int:
    """Run the program to its end; return its exit status. It ends with its parent."""
    linux.enter(int(Path(file).read_text()), "time", "uts", "ipc", "pid", "mnt")
    os.chdir("/")

    def run() -> int:
        linux.die_with_parent(0)
        os.execv(argv[0], argv)

    return abs(os.waitstatus_to_exitcode(os.waitpid(linux.fork(run), 0)[1]))
