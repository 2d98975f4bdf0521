"""Namespaces and mounts: the few system calls that a phone of its own needs."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNS, CLONE_NEWTIME, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x80, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PIVOT_ROOT = 155
"""The number of pivot_root on x86_64, the one architecture this runs on."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_SIGKILL = 9
_SIOCSIFFLAGS, _IFF_UP_LOOPBACK_RUNNING = 0x8914, 0x49
_IDS = "0 0 65536"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int, what: str) -> None:
    """Leave the namespaces named by `flags`. Raises OSError that says what failed."""
    _check(_libc.unshare(flags), f"cannot make {what}")


def mount(
    source: str | None, target: Path | str, kind: str | None = None, flags: int = 0, data: str | None = None
) -> None:
    """Mount. Raises OSError that names source and target."""

    def raw(text: str | None) -> bytes | None:
        return text.encode() if text is not None else None

    result = _libc.mount(raw(source), raw(str(target)), raw(kind), ctypes.c_ulong(flags), raw(data))
    _check(result, f"cannot mount {kind or source} on {target}")


def unmount(target: Path | str) -> None:
    """Let a mount go, now or when its last user has gone. Raises OSError."""
    _check(_libc.umount2(str(target).encode(), _MNT_DETACH), f"cannot unmount {target}")


def bind(source: Path | str, target: Path | str, flags: int = 0) -> None:
    """Show a file or folder in another place as well; `flags` such as MS_RDONLY hold for that place only."""
    mount(str(source), target, None, MS_BIND)
    if flags:
        mount(None, target, None, MS_REMOUNT | MS_BIND | flags)


def fork(body: Callable[[], int], failed: Callable[[Exception], object] | None = None) -> int:
    """Run a function in a child process, whose exit status it returns; return the child's number.

    Whatever happens there, the child never goes on with what its parent was about to do.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = body()
    except Exception as error:  # noqa: BLE001 - nobody above may see it: that is the parent's program
        if failed is not None:
            failed(error)
    finally:
        os._exit(status & 0xFF)


def own_user_namespace() -> None:
    """Become root of a user namespace whose users 0 to 65535 are those of the machine. Needs root, one thread."""
    left_read, left_write = os.pipe()
    pid = os.getpid()

    def map_users() -> int:  # from outside, once this process has left
        os.close(left_write)
        os.read(left_read, 1)
        for name, text in (("setgroups", "allow"), ("uid_map", _IDS), ("gid_map", _IDS)):
            Path(f"/proc/{pid}/{name}").write_text(text)
        return 0

    writer = fork(map_users)
    try:
        unshare(CLONE_NEWUSER, "a user namespace")
    finally:
        os.close(left_read)
        os.close(left_write)
        status = os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1])
    if status:
        raise OSError(errno.EPERM, "cannot map the users of a user namespace")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def start_clocks_anew(boottime_ahead_s: float = 0.0) -> None:
    """Make a time namespace for the children to come, in which the machine was booted just now.

    `boottime_ahead_s`: time that the phone slept, which CLOCK_BOOTTIME counts and CLOCK_MONOTONIC does not.
    """
    unshare(CLONE_NEWTIME, "a time namespace")
    monotonic = -int(time.clock_gettime(time.CLOCK_MONOTONIC))
    boottime = -int(time.clock_gettime(time.CLOCK_BOOTTIME)) + int(boottime_ahead_s)
    Path("/proc/self/timens_offsets").write_text(f"monotonic {monotonic} 0\nboottime {boottime} 0\n")


def pivot_root(root: Path) -> None:
    """Make `root`, a mount with a folder `oldroot`, the whole file system, and let the old one go."""
    change_root(root, "oldroot")
    os.rmdir("/oldroot")  # noqa: PTH106
    mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)


def change_root(root: Path, folder: str) -> None:
    """Make `root`, a mount with an empty `folder`, the file system, and let the old one, which lands there, go."""
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT, b".", folder.encode()), "cannot pivot the root")
    os.chroot(".")
    os.chdir("/")
    unmount(f"/{folder}")


def raise_loopback() -> None:
    """Switch on `lo` of a fresh network namespace."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_LOOPBACK_RUNNING))


def set_hostname(name: str) -> None:
    """Name the machine of this namespace."""
    socket.sethostname(name)


def enter(pid: int, *kinds: str) -> None:
    """Join the namespaces (`mnt`, `uts`, …) of a process. Raises OSError."""
    descriptors = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
    for descriptor, kind in zip(descriptors, kinds, strict=True):
        _check(_libc.setns(descriptor, 0), f"cannot join the {kind} namespace of process {pid}")
        os.close(descriptor)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends; end at once when it already has."""
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def set_process_name(name: str) -> None:
    """Show this name in `ps`; at most 15 characters."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def allow_inspection() -> None:
    """Let processes of the same user read /proc/PID of this one, which a change of user forbids."""
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
