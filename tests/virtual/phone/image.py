"""The phone's /system: Debian's mksh and toybox under Android's paths, made once and kept by its content."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .paths import cache_folder

COMMANDS = (
    "am",
    "cmd",
    "dmesg",
    "dumpsys",
    "getenforce",
    "getprop",
    "input",
    "logcat",
    "pm",
    "reboot",
    "setprop",
    "settings",
    "svc",
    "wm",
)
"""Commands that the phone's system server answers (services/)."""

SERVER_PORT = 1
"""Where the system server listens, on the phone's own loopback."""

_ASK = f"""#!/system/bin/sh
# Asks the system server: the number of words, then the words, each ended by a zero byte.
# It answers with the exit code and the number of lines for stderr; then those lines; then what goes to stdout.
printf '%s\\0' $(($# + 1)) "${{0##*/}}" "$@" | nc 127.0.0.1 {SERVER_PORT} | {{
    IFS=' ' read -r code errors || {{ echo "${{0##*/}}: no answer from the system server" >&2; exit 1; }}
    while [ "$errors" -gt 0 ]; do IFS= read -r line; print -r -u2 -- "$line"; errors=$((errors - 1)); done
    cat
    exit "$code"
}}
"""

_UNAME = """#!/system/bin/sh
# The userland is x86 for speed; it says what the phone's would say.
release=$(</dev/.phone/release)
case "$1" in
-a) echo "Linux localhost $release #1 SMP PREEMPT aarch64 Toybox" ;;
*) toybox uname "$@" | sed -e 's/x86_64/aarch64/' -e "s/$(toybox uname -r)/$release/" ;;
esac
"""

_PS = """#!/system/bin/sh
# Debian's toybox has no ps. Enough of it for `ps -A`, `ps -A -o PID,NAME` and `ps -p PID`.
echo 'USER           PID  PPID     VSZ    RSS WCHAN            ADDR S NAME'
for status in /proc/[0-9]*/status; do
    name= state= ppid= uid= size=0 rss=0 pid=${status#/proc/} pid=${pid%/status}
    while read -r key value rest; do
        case $key in
        Name:) name=$value ;; State:) state=$value ;; PPid:) ppid=$value ;; Uid:) uid=$value ;;
        VmSize:) size=$value ;; VmRSS:) rss=$value ;;
        esac
    done 2>/dev/null <$status || continue
    case $uid in 0) uid=root ;; 2000) uid=shell ;; esac
    printf '%-12s %5s %5s %7s %6s %-16s %4s %s %s\\n' "$uid" "$pid" "$ppid" "$size" "$rss" 0 0 "$state" "$name"
done
"""

_SCRIPTS = {".ask": _ASK, "uname": _UNAME, "ps": _PS}
_ABSENT = frozenset({"su", "ps", "uname"})
_FROM_HOST = ("dd", "stty", "tr")
"""What Android's toybox has and Debian's has not."""

_LOADER = Path("/lib64/ld-linux-x86-64.so.2")

_ETC = {
    "passwd": "".join(
        f"{user}::/:/system/bin/sh\n" for user in ("root:x:0:0", "system:x:1000:1000", "shell:x:2000:2000")
    ),
    "group": "root:x:0:\nsystem:x:1000:\nlog:x:1007:\nsdcard_rw:x:1015:\nshell:x:2000:\ninet:x:3003:\n",
    "mkshrc": ": ${HOSTNAME:=$(getprop ro.product.device)}\nPS1='$HOSTNAME:$PWD $ '\n",
}


def system_image(adbd: Path | None = None) -> Path:
    """Return the folder with the image, made when it is not there yet; `adbd` is a real daemon to put into it.

    Folders: `system`, and `lib`, `lib64`, `usr` with the libraries of the machine's own programs at their own paths.
    """
    programs = {"sh": _found("mksh"), "toybox": _found("toybox"), **{name: _found(name) for name in _FROM_HOST}}
    if adbd is not None:
        programs["adbd"] = adbd.resolve()
    image = cache_folder() / "images" / _identity(programs)
    if not image.is_dir():
        image.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=image.parent, prefix=".making-"))
        making.chmod(0o755)
        _fill(making, programs)
        try:
            making.rename(image)
        except OSError:  # another phone was quicker
            shutil.rmtree(making)
    return image


def _identity(programs: dict[str, Path]) -> str:
    """Name an image by what went into it. The libraries are those of the system, which its loader stands for."""
    digest = hashlib.sha256(repr((sorted(programs), COMMANDS, _SCRIPTS, _ETC)).encode())
    for path in (*programs.values(), _LOADER):
        found = path.stat()
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _fill(image: Path, programs: dict[str, Path]) -> None:
    binaries = image / "system/bin"
    binaries.mkdir(parents=True)
    for name, source in programs.items():
        shutil.copy(source, binaries / name)
        (binaries / name).chmod(0o755)
        for library in _libraries(source):
            target = image / library.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    applets = subprocess.run([programs["toybox"]], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet not in _ABSENT and applet not in COMMANDS and not (binaries / applet).exists():
            (binaries / applet).symlink_to("toybox")
    for name, text in _SCRIPTS.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    for name in COMMANDS:
        (binaries / name).symlink_to(".ask")
    (image / "system/etc").mkdir()
    for name, text in _ETC.items():
        (image / "system/etc" / name).write_text(text)
    for folder, _, _ in os.walk(image):
        Path(folder).chmod(0o755)


def _found(name: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed")
    return Path(path).resolve()


def _libraries(program: Path) -> tuple[Path, ...]:
    """Return the paths of the shared libraries of a program, its loader among them, as the loader names them."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return tuple(Path(path) for path in re.findall(r"(?:=> )?(/\S+) \(0x", listed))
