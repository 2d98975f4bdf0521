"""melt as it is installed, with an agent for Macs that runs here: what `python -m melt` is to be run with."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import melt
from melt import _layout
from melt.targets.agent import AgentBinaries

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[2] / "agents" / "native"
TARGET = "aarch64-macos"


def make_package(folder: Path) -> Path:
    """Copy melt into a folder, to be put on PYTHONPATH, and let its manifest name the stand-in for Macs."""
    binaries = AgentBinaries.find()
    package = folder / "melt"
    copied = shutil.ignore_patterns("__pycache__", "native", "_agents", "_devices", "*.partial")
    shutil.copytree(Path(melt.__file__).parent, package, ignore=copied)
    shutil.copytree(_layout.agents_dir(), package / "_agents", ignore=copied)
    shutil.copytree(_layout.devices_dir(), package / "_devices", ignore=copied)
    bin_folder = package / "_agents" / "bin"
    binary = bin_folder / f"melt-agent-{TARGET}"
    _compile(binary, binaries.version)
    manifest = json.loads((bin_folder / "manifest.json").read_text())
    data = binary.read_bytes()
    manifest["targets"][TARGET] = {
        "file": binary.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }
    (bin_folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _compile(binary: Path, version: str) -> None:
    """Build the agent of this machine, with the answers that a Mac's kernel gives."""
    sources = [path for path in sorted(NATIVE.glob("*.c")) if not path.name.startswith("platform_")]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-s", "-static"]
    command += [
        "-std=gnu11",
        "-O2",
        "-D_GNU_SOURCE",
        "-pthread",
        "-fno-sanitize=all",
        f'-DMELT_AGENT_VERSION="{version}"',
    ]
    command += [f"-I{NATIVE}", *map(str, sources), str(HERE / "platform_mac_on_linux.c"), "-o", str(binary)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    binary.chmod(0o755)
