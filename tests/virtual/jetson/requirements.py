"""What a machine must offer to play a board, tried out rather than assumed."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from ..phone import linux
from ..phone.requirements import Unavailable, lacking

_PROGRAMS = {"sshd": "openssh-server", "ssh": "openssh-client", "bash": "bash"}
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def require() -> None:
    """Return when boards can be played here. Raises Unavailable."""
    missing = _lacking()
    if missing is not None:
        raise Unavailable(f"the virtual Jetson needs {missing}")


@functools.cache
def _lacking() -> str | None:
    """Say what this machine lacks, tried once a process."""
    return lacking(_PROGRAMS, str(__package__), _PATH)


def check() -> None:
    """Try what a boot does, without a board. Raises OSError that says what failed."""
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWUTS, "mount, process and host name spaces")
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("storage", "/mnt", "tmpfs")
    for name in ("upper", "work", "root"):
        Path("/mnt", name).mkdir()
    linux.mount("overlay", "/mnt/root", "overlay", 0, "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work")
    linux.start_clocks_anew()
    child = linux.fork(_mount_proc)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError("cannot mount /proc in a process namespace")


def _mount_proc() -> int:
    linux.mount("proc", "/mnt/root/proc", "proc")
    return 0
