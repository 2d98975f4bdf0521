"""The phone's file system: Android's folders, /proc and /sys of a profile, and nothing of the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path

from . import linux
from .linux import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, bind, mount
from .profiles import Profile
from .sysfs import Sysfs, sysfs_files

SHELL_UID = 2000
SDCARD_GID = 1015
_SYSTEM_UID = 1000
_FOLDERS = "system data proc sys dev storage vendor apex mnt persist oldroot odm product"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_VMSTAT = "dev/.phone/proc/vmstat"


def make_storage(folder: Path, data_mb: int) -> None:
    """Mount what outlives a boot: /data, the shared storage and what the system keeps. Called once a phone."""
    for name, source, flags, options in (
        ("data", "/dev/block/dm-42", 0, f"mode=771,size={data_mb}m"),
        ("storage", "/dev/fuse", MS_NOEXEC, "mode=755,size=64m"),
        ("persist", "/dev/block/sda2", MS_NOEXEC, "mode=700,size=1m"),
    ):
        (folder / name).mkdir(exist_ok=True)
        mount(source, folder / name, "tmpfs", MS_NOSUID | MS_NODEV | flags, options)
    data, storage = folder / "data", folder / "storage"
    _own(data, _SYSTEM_UID, _SYSTEM_UID, 0o771)
    for path in (data / "local", data / "local/tmp"):
        path.mkdir()
        _own(path, SHELL_UID, SHELL_UID, 0o771)
    for path in (storage / "emulated", storage / "emulated/0", storage / "emulated/0/Download"):
        path.mkdir()
        _own(path, SHELL_UID, SDCARD_GID, 0o771)
    (storage / "self").mkdir()
    (storage / "self/primary").symlink_to("/storage/emulated/0")


def remove_storage(folder: Path) -> None:
    """Undo `make_storage`, as far as it came."""
    for name in ("data", "storage", "persist"):
        with contextlib.suppress(OSError):
            linux.unmount(folder / name)
    shutil.rmtree(folder, ignore_errors=True)


def enter_root(image: Path, storage: Path, profile: Profile) -> Sysfs:
    """Make the root in the fresh namespaces of this boot and go into it; return the files of /sys."""
    mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    root = storage / "root"
    root.mkdir(exist_ok=True)
    mount("rootfs", root, "tmpfs", MS_NOSUID, "mode=755,size=4m")
    for name in _FOLDERS.split():
        (root / name).mkdir()
    for name in ("system", "lib", "lib64", "usr"):
        if (image / name).is_dir():
            (root / name).mkdir(exist_ok=True)
            bind(image / name, root / name, MS_RDONLY | MS_NODEV)
    for name in ("data", "storage", "persist"):
        bind(storage / name, root / name)
    for name, target in (("bin", "/system/bin"), ("etc", "/system/etc"), ("sdcard", "/storage/self/primary")):
        (root / name).symlink_to(target)
    mount("proc", root / "proc", "proc")
    mount("tmpfs", root / "dev", "tmpfs", MS_NOSUID, "mode=755,size=1m")
    _fill_dev(root, profile)
    _cover_proc(root, profile)
    mount("sysfs", root / "sys", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=8m")
    sysfs = sysfs_files(profile)
    sysfs.create(root / "sys")
    linux.pivot_root(root)
    linux.set_hostname("localhost")
    linux.raise_loopback()
    return sysfs


def count_oom_kill() -> None:
    """Raise the kernel's count of out-of-memory kills, in place: who has the file open must see it."""
    path = Path("/") / _VMSTAT
    words = [line.split() for line in path.read_text().splitlines()]
    text = "".join(f"{name} {int(value) + (name == 'oom_kill')}\n" for name, value in words)
    with path.open("r+") as file:
        file.write(text)


def _fill_dev(root: Path, profile: Profile) -> None:
    for name in _DEVICES:
        (root / "dev" / name).touch()
        bind(f"/dev/{name}", root / "dev" / name)
    (root / "dev/pts").mkdir()
    mount("devpts", root / "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620")
    (root / "dev/ptmx").symlink_to("pts/ptmx")
    (root / "dev/fd").symlink_to("/proc/self/fd")
    put(root / "dev/.phone/release", profile.kernel + "\n")


def _cover_proc(root: Path, profile: Profile) -> None:
    build = "(build-user@build-host) (Android clang) #1 SMP PREEMPT"
    covers = {
        "cpuinfo": cpuinfo(profile),
        "meminfo": meminfo(profile),
        "version": f"Linux version {profile.kernel} {build}\n",
        "sys/kernel/random/boot_id": f"{uuid.uuid4()}\n",
        "sys/kernel/osrelease": f"{profile.kernel}\n",
        "vmstat": _without_kills(Path("/proc/vmstat").read_text()),
    }
    for name, text in covers.items():
        target = root / "proc" / name
        if target.exists():
            source = root / "dev/.phone/proc" / name
            put(source, text)
            bind(source, target, 0 if name == "vmstat" else MS_RDONLY)


def _without_kills(vmstat: str) -> str:
    lines = [line for line in vmstat.splitlines() if not line.startswith("oom_kill ")]
    return "\n".join([*lines, "oom_kill 0", ""])


def cpuinfo(profile: Profile) -> str:
    """Return /proc/cpuinfo as an arm64 kernel writes it."""
    blocks = [profile.cpu.cpuinfo_head]
    for cpu, cluster in profile.cpu_clusters:
        implementer, variant, part, revision = cluster.id.split()
        blocks.append(
            f"processor\t: {cpu}\nBogoMIPS\t: {profile.cpu.bogomips}\nFeatures\t: {profile.cpu.features}\n"
            f"CPU implementer\t: {implementer}\nCPU architecture: 8\nCPU variant\t: {variant}\nCPU part\t: {part}\n"
            f"CPU revision\t: {revision}\n\n"
        )
    return "".join([*blocks, profile.cpu.cpuinfo_tail])


def meminfo(profile: Profile) -> str:
    """Return the lines of /proc/meminfo that are read here; an eighth of the memory is free, half available."""
    total = profile.memory_kb
    rows = {
        "MemTotal": total,
        "MemFree": total // 8,
        "MemAvailable": total // 2,
        "Buffers": total // 800,
        "Cached": total // 3,
        "SwapCached": total // 400,
        "SwapTotal": total // 2,
        "SwapFree": total // 3,
    }
    return "".join(f"{name + ':':<15}{value:>9} kB\n" for name, value in rows.items())


def put(path: Path, text: str, mode: int = 0o444) -> None:
    """Write a small file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _own(path: Path, uid: int, gid: int, mode: int) -> None:
    os.chown(path, uid, gid)
    path.chmod(mode)
