"""The phone from the inside: the first processes after the root is made. Nothing may be imported here any more."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio would import it when it is too late
import encodings.idna  # noqa: F401
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import linux, services
from .adbd import Adbd
from .control import Controls
from .events import Note, noting_to
from .link import Link
from .profiles import Profile
from .proxy import REAL_PORT, Proxy
from .rootfs import SHELL_UID, enter_root, put
from .state import boot_state
from .sysfs import Sysfs
from .system import System, as_root

REBOOT = 77
"""Exit status with which the phone asks to be booted again."""

_SHELL_GROUPS = [1003, 1004, 1007, 1011, 1015, 1028, 1078, 1079, 3001, 3002, 3003, 3006, 3009, 3011]
"""input, log, adb, sdcard_rw, … as adbd gives them to the shell: daemon/main.cpp of AOSP."""

_PATH = (
    "/product/bin:/apex/com.android.runtime/bin:/apex/com.android.art/bin:/system_ext/bin:/system/bin:/system/xbin:"
    "/odm/bin:/vendor/bin:/vendor/xbin"
)
_REBOOT_PIPE = Path("/dev/.reboot")
_GRACE_S = 0.05
"""Time for the answer to whoever asked for a reboot."""


@dataclass(frozen=True)
class Outfit:
    """What one boot needs from outside."""

    profile: Profile
    image: Path
    storage: Path
    serial: str
    real_adbd: bool
    data_bytes: int
    adb_keys: str | None
    listener: socket.socket
    control: socket.socket
    events_fd: int
    lifeline_fd: int
    asleep_s: float

    def failed(self, error: Exception) -> None:
        """Say why the phone did not boot."""
        noting_to(self.events_fd)("failed", reason=str(error))


def first_process(outfit: Outfit) -> int:
    """Be process 1 of the phone: make the root, start the system, bury orphans; return the status of the system."""
    linux.die_with_parent(0)
    sysfs = enter_root(outfit.image, outfit.storage, outfit.profile)

    def be_system() -> int:
        _become_shell()
        asyncio.run(_run(outfit, sysfs))
        return 1

    system = linux.fork(be_system, outfit.failed)
    linux.set_process_name("init")
    outfit.listener.close()
    outfit.control.close()
    os.close(outfit.events_fd)
    while True:
        pid, status = os.wait()
        if pid == system:
            return os.waitstatus_to_exitcode(status)


def _become_shell() -> None:
    """Act as the shell user, with root in reserve for what the system does."""
    os.setgroups(_SHELL_GROUPS)
    os.setresgid(SHELL_UID, SHELL_UID, SHELL_UID)
    os.seteuid(SHELL_UID)
    os.umask(0)
    linux.allow_inspection()
    linux.set_process_name("adbd")


async def _run(outfit: Outfit, sysfs: Sysfs) -> None:
    loop = asyncio.get_running_loop()
    note, link = noting_to(outfit.events_fd), Link()
    loop.add_reader(outfit.lifeline_fd, lambda: os._exit(1))  # the supervisor is gone, so is the phone
    with as_root():
        state = boot_state(outfit.profile, outfit.serial)
        for name, value in state.props.items():
            put(Path("/dev/__properties__") / name, value)
        if outfit.adb_keys is not None:
            put(Path("/data/misc/adb/adb_keys"), outfit.adb_keys)

    def reboot(reason: str) -> None:
        note("reboot", reason=reason)
        with as_root():
            state.save()
        loop.call_later(_GRACE_S, os._exit, REBOOT)

    system = System(outfit.profile, state, sysfs, note, reboot)
    await system.listen(services.answer)
    daemon = None
    if outfit.real_adbd:
        await _start_real_adbd(outfit, link, note, system)
    else:
        banner = {name: state.props[name] for name in ("ro.product.name", "ro.product.model", "ro.product.device")}
        daemon = Adbd(banner, environment(outfit.profile), link, note, reboot)
        await daemon.listen(outfit.listener)
    controls = Controls(system, link, daemon, outfit.data_bytes)
    await asyncio.start_unix_server(controls.serve, sock=outfit.control)
    note("booted", boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    await system.run()


def environment(profile: Profile) -> dict[str, str]:
    """Return what the daemon's children inherit. QEMU_CPU makes arm64 programs see the phone's kind of CPU."""
    return {
        "PATH": _PATH,
        "ANDROID_ROOT": "/system",
        "ANDROID_DATA": "/data",
        "ANDROID_STORAGE": "/storage",
        "HOME": "/",
        "HOSTNAME": profile.props["ro.product.device"],
        "LOGNAME": "shell",
        "SHELL": "/system/bin/sh",
        "TMPDIR": "/data/local/tmp",
        "USER": "shell",
        "ENV": "/system/etc/mkshrc",
        "QEMU_CPU": profile.cpu.qemu,
    }


async def _start_real_adbd(outfit: Outfit, link: Link, note: Note, system: System) -> None:
    with as_root():
        put(Path("/dev/__properties__/service.adb.tcp.port"), str(REAL_PORT))
        os.mkfifo(_REBOOT_PIPE)
        _REBOOT_PIPE.chmod(0o666)
    pipe = os.open(_REBOOT_PIPE, os.O_RDWR | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()

    def asked() -> None:
        loop.remove_reader(pipe)
        system.reboot("adbd")

    loop.add_reader(pipe, asked)
    program = shutil.which("adbd", path="/system/bin")
    if program is None:
        raise FileNotFoundError("the image has no adbd")
    with open("/dev/null", "r+b") as nothing:  # noqa: PTH123
        subprocess.Popen(
            [program],
            env=environment(outfit.profile),
            start_new_session=True,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
            preexec_fn=lambda: os.setresuid(SHELL_UID, SHELL_UID, SHELL_UID),
        )
    await _until_listening(REAL_PORT)
    await Proxy(link, note).listen(outfit.listener)


async def _until_listening(port: int) -> None:
    deadline_s = asyncio.get_running_loop().time() + 10
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if asyncio.get_running_loop().time() > deadline_s:
                raise
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
