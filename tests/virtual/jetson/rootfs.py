"""The board's root: this machine's files under a layer with the /proc, /sys, users and tools of a Jetson."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..phone import linux
from ..phone.linux import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, bind, mount
from . import texts
from .profiles import Profile
from .sysfs import Sysfs, make_sysfs

USER = "jetson"
UID = 1000
HOME = Path("/home") / USER
_JTOP_GID = 1100
_GROUPS = {"jtop": _JTOP_GID, "sudo": 27, "video": 44, "docker": 1101, "i2c": 1102}
_TOOLS = Path(__file__).parent / "tools"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MARKS_OF_CONTAINERS = (".dockerenv", "run/.containerenv", "run/systemd/container")
JTOP_PATH = "/usr/local/lib/jtop"
"""Where jtop's Python finds what makes it see an aarch64."""

PROC = Path("/run/board/proc")
"""Where the covers of /proc lie."""

NOISE = """\
echo "Welcome to this board. Last system update: never."
echo "bashrc: tput: No value for $TERM and no -T specified" >&2
echo '{"event":"hello","runner":"not a runner"}'
alias ls='ls --color=always'
set -o noclobber
"""
"""What people write into start-up files and never see, since it is only harmful to programs."""


@dataclass(frozen=True)
class Owner:
    """Who uses the board, and what for. `sudo` None: there is no such program; else what needs no password."""

    groups: tuple[str, ...]
    sudo: tuple[str, ...] | None
    noise: bool
    locale: str | None
    provisioned: bool
    jtop: Path | None
    """The environment of jtop's client, which the board's own python3 has; None: jtop is not installed."""


def make_storage(folder: Path, home_mb: int) -> None:
    """Mount what outlives a boot: the layer over this machine's files, and the user's home. Called once a board."""
    storage = folder / "storage"
    storage.mkdir(exist_ok=True)
    mount("storage", storage, "tmpfs", 0, "mode=755,size=512m")
    for name in ("upper", "work", "root", "home"):
        (storage / name).mkdir()
    mount("/dev/mmcblk0p2", storage / "home", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,size={home_mb}m")
    os.chown(storage / "home", UID, UID)


def enter_root(folder: Path, profile: Profile, owner: Owner, shared: Iterable[Path]) -> Sysfs:
    """Make the root in the fresh namespaces of this boot and go into it; return the files of /sys.

    `shared` are folders of this machine to be seen by their own names by the board's users, `folder` for sshd's files.
    """
    mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    storage = folder / "storage"
    root = storage / "root"
    layers = f"lowerdir=/,upperdir={storage}/upper,workdir={storage}/work"
    mount("overlay", root, "overlay", 0, layers)
    for name, options in (("run", "mode=755"), ("tmp", "mode=1777"), ("var/tmp", "mode=1777"), ("dev", "mode=755")):
        mount("tmpfs", root / name, "tmpfs", MS_NOSUID, f"{options},size=64m")
    fill_dev(root)
    share(root, folder / "ssh", 0)
    for path in shared:
        if not path.is_relative_to("/usr"):
            share(root, path, MS_RDONLY)
    mount("proc", root / "proc", "proc")
    _cover_proc(root, profile)
    mount("sysfs", root / "sys", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=8m")
    make_sysfs(root / "sys", profile)
    for name in _MARKS_OF_CONTAINERS:
        (root / name).unlink(missing_ok=True)
    _fill_etc(root, profile, owner)
    _install_tools(root, profile, owner)
    home = root / HOME.relative_to("/")
    home.mkdir(parents=True, exist_ok=True)
    bind(storage / "home", home)
    _fill_home(home, owner)
    (root / "run/sshd").mkdir(mode=0o755)
    linux.change_root(root, "mnt")
    linux.set_hostname(USER)
    return Sysfs(Path("/sys"))


def python_folders() -> list[Path]:
    """Return the folders without which this Python and its packages do not run, none within another."""
    packages = [name for name in sys.path if Path(name).name in ("site-packages", "dist-packages")]
    found = {Path(name).resolve() for name in (sys.base_prefix, sys.prefix, *packages)}
    return sorted(path for path in found if path.is_dir() and not found & set(path.parents))


def share(root: Path, path: Path, flags: int, name: Path | None = None) -> None:
    """Show a folder by its own name or another, and let everybody pass through those above it."""
    name = name or path
    target = root / name.relative_to("/")
    target.mkdir(parents=True, exist_ok=True)
    for above in list(target.parents)[: len(name.parents) - 1]:
        above.chmod(above.stat().st_mode | 0o011)
    bind(path, target, flags)


def fill_dev(root: Path) -> None:
    """Make the devices that programs need."""
    for name in _DEVICES:
        (root / "dev" / name).touch()
        bind(f"/dev/{name}", root / "dev" / name)
    for name, kind, options in (("pts", "devpts", "newinstance,ptmxmode=0666,mode=620"), ("shm", "tmpfs", "mode=1777")):
        (root / "dev" / name).mkdir()
        mount(kind, root / "dev" / name, kind, 0, options)
    for name, target in {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1"}.items():
        (root / "dev" / name).symlink_to(target)


def _cover_proc(root: Path, profile: Profile) -> None:
    covers = {
        "cpuinfo": texts.cpuinfo(profile),
        "meminfo": texts.meminfo(profile, 0),
        "stat": texts.stat([0.0] * profile.cpu.count, 0.0, 0),
        "version": f"Linux version {profile.kernel} (buildbrain@mobile-u64) #1 SMP PREEMPT\n",
        "sys/kernel/osrelease": f"{profile.kernel}\n",
        "sys/kernel/random/boot_id": f"{uuid.uuid4()}\n",
    }
    for name, text in covers.items():
        source = root / PROC.relative_to("/") / name
        put(source, text)
        bind(source, root / "proc" / name)


def _fill_etc(root: Path, profile: Profile, owner: Owner) -> None:
    etc = root / "etc"
    put(etc / "nv_tegra_release", profile.release + "\n")
    put(etc / "nvpmodel.conf", texts.nvpmodel_conf(profile))
    put(etc / "machine-id", uuid.uuid5(uuid.NAMESPACE_OID, profile.serial).hex + "\n")
    put(etc / "hostname", USER + "\n")
    name, version = profile.os_name.split(" ", 1)
    release = f'NAME="{name}"\nVERSION_ID="{version[:5]}"\nPRETTY_NAME="{profile.os_name}"\nID=ubuntu\nID_LIKE=debian\n'
    (etc / "os-release").unlink(missing_ok=True)
    put(etc / "os-release", release)
    _add_rows(etc / "passwd", [f"{USER}:x:{UID}:{UID}::{HOME}:/bin/bash"], {USER, str(UID)})
    _add_rows(etc / "shadow", [f"{USER}:*:19000:0:99999:7:::"], {USER}, 0o640)
    rows = [f"{USER}:x:{UID}:"]
    rows += [f"{group}:x:{gid}:{USER if group in owner.groups else ''}" for group, gid in _GROUPS.items()]
    _add_rows(etc / "group", rows, {USER, *_GROUPS, *(str(gid) for gid in (UID, *_GROUPS.values()))})


def _add_rows(path: Path, rows: list[str], replaced: set[str], mode: int = 0o644) -> None:
    """Add users or groups, instead of those of the same name or number."""
    kept = [row for row in path.read_text().splitlines() if not replaced & {row.split(":")[0], *row.split(":")[2:3]}]
    put(path, "\n".join([*kept, *rows, ""]), mode)


def _install_tools(root: Path, profile: Profile, owner: Owner) -> None:
    places = {"nvpmodel": "usr/sbin", "jetson_clocks": "usr/bin", "tegrastats": "usr/bin", "sudo": "usr/bin"}
    shebang = f"{Path(sys.executable).resolve()} -IS"
    for name, folder in places.items():
        text = (_TOOLS / name).read_text().replace("PYTHON", shebang, 1).replace("CLOCKS_FILE", profile.clocks_file, 1)
        target = root / folder / name
        target.unlink(missing_ok=True)
        if name != "sudo" or owner.sudo is not None:
            put(target, text, 0o755)
    reboot = root / "usr/sbin/reboot"
    reboot.unlink(missing_ok=True)
    put(reboot, (_TOOLS / "sudo").read_text().replace("PYTHON", shebang, 1), 0o755)
    put(root / JTOP_PATH[1:] / "sitecustomize.py", (_TOOLS / "jtop_python.py").read_text())
    python = root / "usr/local/bin/python3"
    python.unlink(missing_ok=True)
    # A script and not a link: a Python finds its environment by the place it is called by.
    own = Path(sys.executable).resolve() if owner.jtop is None else owner.jtop / "bin/python"
    put(python, f'#!/bin/sh\nexec {own} "$@"\n', 0o755)


def _fill_home(home: Path, owner: Owner) -> None:
    lines = ["# ~/.bashrc: read by bash also when sshd starts it for a single command\n"]
    if owner.locale is not None:
        lines.append(f"export LANG={owner.locale} LC_ALL={owner.locale}\n")
    if owner.noise:
        lines.append(NOISE)
    put(home / ".bashrc", "".join(lines))
    environment = home / ".melt/venv"
    if owner.provisioned and not environment.exists():
        _make_environment(environment)
    for folder, _, names in os.walk(home):
        for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
            os.lchown(path, UID, UID)


def _make_environment(folder: Path) -> None:
    """Make what `melt provision` leaves behind: an environment that has the engines, those of this machine's Python."""
    base = Path(sys.executable).resolve()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    put(folder / "pyvenv.cfg", f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n")
    (folder / "bin").mkdir()
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(base)
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    put(folder / f"lib/python{version}/site-packages/engines.pth", "\n".join([*packages, ""]))


def put(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a small file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def remove_storage(folder: Path) -> None:
    """Undo `make_storage`, as far as it came."""
    for name in ("storage/home", "storage"):
        if os.path.ismount(folder / name):
            linux.unmount(folder / name)
    shutil.rmtree(folder / "storage", ignore_errors=True)
