"""Build the agent for every kind of device, with the compiler that comes as the Python package `ziglang`.

    python agents/build.py [--target T ...] [--sanitize] [--out DIR]

Standard library only, and nothing of melt: it runs inside the build of the wheel too, as its `build_py` step.
What is up to date is left alone: the version is a hash of the sources, the flags and the compiler's version.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

AGENTS = Path(__file__).resolve().parent
NATIVE = AGENTS / "native"
ZIG_VERSION = "0.17.0"
TARGETS = ("x86_64-linux-musl", "aarch64-linux-musl", "aarch64-macos")
# The oldest macOS that the agent is for, the first that tells kinds of cores apart. zig would take a much newer one.
MACOS_VERSION = "12.0"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-D_GNU_SOURCE", "-pthread")
SANITIZE_FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
# No part of a wheel: what a build leaves lying about, and of this folder the agent's sources and this file. The native
# runner's sources are a part: it is built for a device when one is first seen.
LEAVINGS = ("__pycache__", "*.pyc")
NOT_INSTALLED = ("native", "build.py", "__init__.py", *LEAVINGS)


class BuildError(Exception):
    """The agent could not be built; the message says why."""


def sources(target):
    """Return the C files that make the agent for one target."""
    other = "platform_linux.c" if "macos" in target else "platform_macos.c"
    return [path for path in sorted(NATIVE.glob("*.c")) if path.name != other]


def version():
    """Return the agent's version: 16 hexadecimal digits that change with anything that could change the binary."""
    digest = hashlib.sha256(json.dumps([FLAGS, ZIG_VERSION, TARGETS, MACOS_VERSION]).encode())
    for path in sorted([*NATIVE.glob("*.c"), *NATIVE.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def compile_agent(compiler, target, flags, output):
    """Compile and link one binary; it appears under its name only when it is whole."""
    partial = output.with_name(f"{output.name}.{os.getpid()}.partial")  # two builds at once must not meet
    define = f'-DMELT_AGENT_VERSION="{version()}"'
    command = [*compiler, *flags, define, *map(str, sources(target)), "-o", str(partial)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if result.returncode:
        raise BuildError(f"the agent for {target} does not build:\n{result.stdout.decode(errors='replace')}")
    partial.replace(output)


def describe(path):
    """Return a binary's entry in the manifest."""
    data = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def is_current(entry, out):
    """Whether the binary that a manifest speaks of lies there, unchanged."""
    path = out / entry["file"]
    return path.is_file() and describe(path) == entry


@contextlib.contextmanager
def alone_in(out):
    """Let one process at a time build into a folder: who had to wait finds what it wanted."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(targets=TARGETS, out=AGENTS / "bin", say=print):
    """Build the agent for `targets` into `out`, with a manifest. Returns the manifest. Raises BuildError."""
    with alone_in(out):
        return _build(targets, out, say)


def _build(targets, out, say):
    manifest_path = out / "manifest.json"
    manifest = {"version": version(), "targets": {}}
    if manifest_path.is_file():
        old = json.loads(manifest_path.read_text())
        if old["version"] == manifest["version"]:
            manifest = old
    for target in targets:
        if target in manifest["targets"] and is_current(manifest["targets"][target], out):
            continue
        if importlib.util.find_spec("ziglang") is None:
            raise BuildError(f"the agent is built with the package ziglang: pip install ziglang=={ZIG_VERSION}")
        say(f"building the agent for {target}")
        system = (f"{target}.{MACOS_VERSION}",) if "macos" in target else (target, "-static")
        output = out / f"melt-agent-{target}"
        compiler = (sys.executable, "-m", "ziglang", "cc", "-s", "-target", *system)
        compile_agent(compiler, target, (*FLAGS, "-fno-sanitize=all"), output)
        output.chmod(0o755)
        manifest["targets"][target] = describe(output)
    partial = manifest_path.with_name(f"manifest.json.{os.getpid()}.partial")
    partial.write_text(json.dumps(manifest, indent=2) + "\n")
    partial.replace(manifest_path)
    return manifest


def build_sanitized(out=AGENTS / "bin"):
    """Build the agent for this machine with the address and undefined-behaviour sanitizers. Raises BuildError."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BuildError("the sanitizer build needs gcc or clang with its sanitizer libraries")
    output = out / "melt-agent-sanitized"
    system = "macos" if sys.platform == "darwin" else "linux"
    with alone_in(out):
        if not output.is_file() or version().encode() not in output.read_bytes():
            compile_agent((compiler,), system, (*FLAGS, *SANITIZE_FLAGS), output)
    return output


def install_into(package):
    """Copy what devices need, and what is known of them, into the package folder of a wheel being built."""
    top, below = shutil.ignore_patterns(*NOT_INSTALLED), shutil.ignore_patterns(*LEAVINGS)
    shutil.copytree(
        AGENTS,
        package / "_agents",
        ignore=lambda folder, names: (top if Path(folder) == AGENTS else below)(folder, names),
        dirs_exist_ok=True,
    )
    for binary in (package / "_agents" / "bin").glob("*"):
        if binary.name != "manifest.json" and binary.name not in {f"melt-agent-{target}" for target in TARGETS}:
            binary.unlink()
    devices = AGENTS.parent / "devices"
    (package / "_devices").mkdir(parents=True, exist_ok=True)
    for profile in sorted(devices.glob("*.yaml")):
        shutil.copy2(profile, package / "_devices")


if __name__ != "__main__":  # as a script it needs no setuptools, which takes longer to import than all else here
    from setuptools.command.build_py import build_py

    class BuildPy(build_py):
        """The step of a package build that puts the agent's binaries into the wheel."""

        def run(self):
            """Build the Python part, then the agent."""
            super().run()
            build(say=lambda text: print(text, file=sys.stderr))
            if not self.editable_mode:  # an editable install finds agents/ and devices/ in the checkout
                install_into(Path(self.build_lib) / "melt")


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Build the agent that runs on the devices.")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one (may be repeated)")
    parser.add_argument("--sanitize", action="store_true", help="for this machine, with sanitizers, for the tests")
    parser.add_argument("--out", type=Path, default=AGENTS / "bin", help="folder for the binaries")
    arguments = parser.parse_args()
    try:
        if arguments.sanitize:
            print(build_sanitized(arguments.out))
        else:
            manifest = build(arguments.target or TARGETS, arguments.out, lambda text: print(text, file=sys.stderr))
            for target in arguments.target or TARGETS:
                print(arguments.out / manifest["targets"][target]["file"])
    except BuildError as error:
        sys.exit(f"build.py: {error}")


if __name__ == "__main__":
    main()
