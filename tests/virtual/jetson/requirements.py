"""What a machine must offer to play a board, tried out rather than assumed."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from ..phone import linux
from ..phone.requirements import Unavailable, environment_for_children

_PROGRAMS = {"sshd": "openssh-server", "ssh": "openssh-client", "bash": "bash"}
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def require() -> None:
    """Return when boards can be played here. Raises Unavailable."""
    lacking = _lacking()
    if lacking is not None:
        raise Unavailable(f"the virtual Jetson needs {lacking}")


@functools.cache
def _lacking() -> str | None:
    """Say what this machine lacks, tried once a process."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "Linux on x86_64"
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]
    if missing:
        packages = sorted({_PROGRAMS[program] for program in missing})
        return f"{', '.join(missing)}: install {' '.join(packages)}"
    if os.geteuid() != 0:
        return "root, to give its processes users of their own: run it as root"
    tried = subprocess.run(
        [sys.executable, "-m", str(__package__), "check"],
        env=environment_for_children(),
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"what this machine does not allow: {reason}"
    return None


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
