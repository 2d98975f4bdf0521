"""Build the real adbd: python -m tests.virtual.adbd.build

It takes about a minute of CPU time once; later calls find it in the cache. Debian 12 on x86-64, no root needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs

from . import recipe
from .apt import fetch_source, source_entries
from .failure import BuildError, Unavailable, logged

_TOOLS = {"apt-get": "apt", "dpkg-source": "dpkg-dev", "gcc": "gcc", "g++": "g++"}


def missing() -> str | None:
    """Return the sentence that says why adbd cannot be built here, or None when nothing is known against it."""
    if cached().is_file():
        return None
    if platform.machine() != "x86_64":
        return f"the virtual phone's root is x86-64 and this machine is {platform.machine()}"
    absent = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if absent:
        return f"please install {' '.join(absent)}"
    try:
        source_entries()
    except Unavailable as error:
        return str(error)
    return None


def cached() -> Path:
    """Return where the binary of this recipe and compiler lies, or will lie."""
    compiler = shutil.which("g++")
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout if compiler else b""
    key = hashlib.sha256(recipe.digest().encode() + version).hexdigest()[:16]
    return platformdirs.user_cache_path("melt", appauthor=False) / "adbd" / key / "adbd"


def build() -> Path:
    """Return the path of adbd, built when it is not in the cache. Raises BuildError, Unavailable."""
    target = cached()
    if target.is_file():
        return target
    reason = missing()
    if reason is not None:
        raise Unavailable(f"the real adbd cannot be built: {reason}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in several processes: one builds, the others wait for it
        if not target.is_file():
            _build_into(target)
    return target


def _build_into(target: Path) -> None:
    log = target.parent / "build.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as scratch:
        tree = fetch_source(Path(scratch), log, recipe.UPSTREAM_VERSION)
        if not recipe.patch_reboot(tree):
            raise BuildError(f"{recipe.REBOOT_FILE} has no daemon_service_to_fd to add `reboot:` to")
        binary = Path(scratch) / "adbd"
        logged("linking adbd", ["g++", "-o", str(binary), *_compiled(tree, log), *recipe.LINK_FLAGS], log, tree)
        binary.replace(target)  # it appears under its name only when it is whole


def _compiled(tree: Path, log: Path) -> list[str]:
    """Compile every unit, as many at once as there are CPUs to use; return the object files."""

    def compile_one(unit: recipe.Unit) -> str:
        output = f"{tree}/{Path(unit.source).as_posix().strip('/').replace('/', '.')}.o"
        command = [unit.compiler, *unit.flags, "-c", unit.source, "-o", output]
        logged(f"compiling {unit.source}", command, log, tree)
        return output

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        return list(workers.map(compile_one, recipe.units()))


def main() -> int:
    try:
        print(build())
    except BuildError as error:
        print(f"adbd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
