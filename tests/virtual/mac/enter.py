"""Start a program on a Mac of its own: `python -m …mac.enter FOLDER PROGRAM…`, FOLDER holding what the Mac is to be.

What is put in front of sshd. With this process the Mac ends, and everything on it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..phone import linux
from .rootfs import enter_root, python_folders


def main(arguments: list[str]) -> int:
    """Run the program to its end; return its exit status."""
    folder, *argv = arguments
    wanted = json.loads((Path(folder) / "mac.json").read_text())
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWUTS, "mount, process and host name spaces")

    def run() -> int:
        # Its parent is outside its process namespace, and has no number in it.
        linux.die_with_parent(0)
        enter_root(Path(folder), wanted, python_folders())
        os.execv(argv[0], argv)

    status = os.waitpid(linux.fork(run, lambda error: print(f"virtual Mac: {error}", file=sys.stderr)), 0)[1]
    return abs(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
