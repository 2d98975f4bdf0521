"""The Mac's root: this machine's files under a layer of its own, with the users, folders and programs of macOS."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..jetson import rootfs as jetson_rootfs
from ..jetson.rootfs import fill_dev, share
from ..phone import linux
from ..phone.linux import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, bind, mount
from .userland import AS_THEY_ARE, BSD, WITH_OPTIONS

USER, UID, GID = "lab", 501, 20
HOME = Path("/Users") / USER
HOSTNAME = "Labs-Mac-mini.local"
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
"""What a command over SSH gets: /etc/zprofile, which adds more, is for login shells."""
CONTROL, RECORDED = Path("/private/control"), Path("/private/recorded")
"""Where the stand-ins look for what the test wants of them, and for what they replay."""

_LINUX = Path("/private/linux")
"""Where this machine's own programs are, which nobody looks for there."""
_TOOLS = Path(__file__).parent / "tools"
_PLACES = {
    "usr/bin": "log memory_pressure notifyutil pmset powermetrics python3 sudo sw_vers uname vm_stat xcode-select",
    "usr/sbin": "ioreg scutil sysctl",
    "opt/homebrew/bin": "macmon",
}
"""Folder -> the stand-ins that are there."""


def enter_root(folder: Path, wanted: Mapping[str, object], shared: Iterable[Path]) -> None:
    """Make the root in fresh mount, process and host name spaces and go into it.

    `shared` are folders of this machine to be seen by their own names; `folder` is the Mac's own here.
    """
    mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    storage = folder / "storage"
    storage.mkdir(exist_ok=True)
    mount("storage", storage, "tmpfs", 0, "mode=755,size=512m")
    for name in ("upper", "work", "root"):
        (storage / name).mkdir()
    root = storage / "root"
    mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={storage}/upper,workdir={storage}/work")
    for name, options in (("run", "mode=755"), ("tmp", "mode=1777"), ("var/tmp", "mode=1777"), ("dev", "mode=755")):
        mount("tmpfs", root / name, "tmpfs", MS_NOSUID, f"{options},size=64m")
    fill_dev(root)
    for path, flags in ((folder / "ssh", 0), *((path, MS_RDONLY) for path in shared)):
        share(root, path, flags)
    share(root, folder / "control", 0, CONTROL)
    share(root, folder / "recorded", MS_RDONLY, RECORDED)
    mount("proc", root / "proc", "proc")
    mount("none", root / "sys", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=64k")
    _fill_etc(root)
    _install(root, wanted)
    home = root / HOME.relative_to("/")
    home.mkdir(parents=True)
    mount("home", home, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=750,uid={UID},gid={GID},size={wanted['home_mb']}m")
    _fill_home(home, wanted)
    (root / "run/sshd").mkdir(mode=0o755)
    linux.change_root(root, "mnt")
    linux.set_hostname(HOSTNAME)


def python_folders() -> list[Path]:
    """Return the folders without which this Python and its packages do not run, but for /usr, which has its place."""
    return [path for path in jetson_rootfs.python_folders() if not path.is_relative_to("/usr")]


def _python() -> Path:
    """Return where this Python is found on the Mac."""
    here = Path(sys.executable).resolve()
    return _LINUX / "bin" / here.name if here.parent == Path("/usr/bin") else here


def _fill_etc(root: Path) -> None:
    etc = root / "etc"
    for name, row in (
        ("passwd", f"{USER}:x:{UID}:{GID}:Lab:{HOME}:/bin/zsh"),
        ("shadow", f"{USER}:*:19000:0:99999:7:::"),
        ("group", f"staff:x:{GID}:{USER}"),
    ):
        taken = {USER, "staff", str(UID)} if name != "group" else {"staff", str(GID)}
        rows = (etc / name).read_text().splitlines()
        kept = [line for line in rows if not taken & {line.split(":")[0], *line.split(":")[2:3]}]
        _put(etc / name, "\n".join([*kept, row, ""]), 0o640 if name == "shadow" else 0o644)
    for name in ("machine-id", "os-release", "hostname"):
        (etc / name).unlink(missing_ok=True)


def _install(root: Path, wanted: Mapping[str, object]) -> None:
    """Put this machine's programs aside, and a Mac's in their places."""
    for name in ("bin", "sbin"):
        aside = root / _LINUX.relative_to("/") / name
        aside.mkdir(parents=True)
        bind(root / "usr" / name, aside)
        mount("none", root / "usr" / name, "tmpfs", MS_NOSUID, "mode=755,size=4m")
        (root / name).unlink()
        (root / name).mkdir()
    for folder, listed in AS_THEY_ARE.items():
        kind = "sbin" if folder == "usr/sbin" else "bin"
        for name in listed.split():
            (root / folder / name).symlink_to(_LINUX / (kind if name == "sshd" else "bin") / name)
    for folder, programs in WITH_OPTIONS.items():
        for name, letters in programs.items():
            _put(root / folder / name, BSD.format(name=name, letters=letters), 0o755)
    for name in ("sh", "bash"):
        (root / "bin" / name).symlink_to(_LINUX / "bin" / ("dash" if name == "sh" else "bash"))
    _put(root / "private/tools/load.py", (_TOOLS / "load.py").read_text())
    shebang = f"#!{_python()} -IS\n"
    for folder, listed in _PLACES.items():
        for name in listed.split():
            if name not in wanted["without"]:  # type: ignore[operator]
                _put(root / folder / name, shebang + (_TOOLS / f"{name}.py").read_text(), 0o755)


def _fill_home(home: Path, wanted: Mapping[str, object]) -> None:
    _put(home / ".zshenv", str(wanted["zshenv"]))
    if wanted["provisioned"]:
        _make_environment(home / ".melt/venv", "zeus_apple_silicon" not in wanted["without"])  # type: ignore[operator]
    for folder, _, names in os.walk(home):
        for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
            os.lchown(path, UID, GID)


def _make_environment(folder: Path, with_zeus: bool) -> None:
    """Make what `melt provision` leaves behind: an environment that has the engines, those of this machine's Python."""
    base = _python()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    _put(folder / "pyvenv.cfg", f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n")
    (folder / "bin").mkdir()
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(base)
    own = folder / f"lib/python{version}/site-packages"
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    _put(own / "engines.pth", "\n".join([*packages, ""]))
    if with_zeus:
        _put(own / "zeus_apple_silicon.py", (_TOOLS / "zeus_apple_silicon.py").read_text())


def _put(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)
