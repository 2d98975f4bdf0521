"""What a machine must offer to play a phone, tried out rather than assumed."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from . import linux

QEMU = "qemu-aarch64-static"
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_AARCH64 = (
    rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
)
_PROGRAMS = {
    "mksh": "mksh",
    "toybox": "toybox",
    QEMU: "qemu-user-static",
    "adb": "adb",
}


class Unavailable(Exception):
    """This machine cannot play a phone; the sentence says what is missing and what to do."""


def require() -> None:
    """Return when phones can be played here. Raises Unavailable."""
    missing = _lacking()
    if missing is not None:
        raise Unavailable(f"the virtual phone needs {missing}")


@functools.cache
def _lacking() -> str | None:
    return lacking(_PROGRAMS, str(__package__))


def lacking(programs: Mapping[str, str], package: str, path: str | None = None) -> str | None:
    """Say what this machine lacks: programs (each with Debian's package), root, or what `package check` tries out."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "Linux on x86_64"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        packages = sorted({programs[program] for program in missing})
        return f"{', '.join(missing)}: install {' '.join(packages)}"
    if os.geteuid() != 0:
        return "root, to give its processes users of their own: run it as root"
    tried = subprocess.run(
        [sys.executable, "-m", package, "check"],
        env=environment_for_children(),
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"namespaces that this machine does not allow: {reason}"
    return None


def environment_for_children() -> dict[str, str]:
    """Return an environment in which this package can be run by its present name, whichever that is."""
    root = Path(__file__).resolve().parents[len(str(__package__).split("."))]
    search = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": search, "PYTHONWARNINGS": "ignore"}


def register_qemu() -> None:
    """Let arm64 programs run, in this user namespace alone. The interpreter is opened now and needs no path later."""
    linux.mount("binfmt_misc", _BINFMT, "binfmt_misc")
    interpreter = shutil.which(QEMU)
    if interpreter is None:
        raise FileNotFoundError(QEMU)
    magic, mask = _AARCH64
    with (_BINFMT / "register").open("wb", buffering=0) as register:
        register.write(b":aarch64:M::%s:%s:%s:F" % (magic, mask, interpreter.encode()))


def check() -> None:
    """Try what a boot does, without a phone. Raises OSError that says what failed."""
    linux.own_user_namespace()
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET, "mount, process and network namespaces")
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    register_qemu()
    linux.start_clocks_anew()
    child = linux.fork(_mount_proc)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError("cannot mount /proc in a process namespace")


def _mount_proc() -> int:
    linux.mount("proc", "/proc", "proc")
    return 0
