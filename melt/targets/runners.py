"""Runners that are built from source for a kind of device: kept in the user's cache, built when first asked for.

agents/runners/llama_native/build.py does the work in a process of its own, and knows what is up to date.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import platformdirs

from melt._layout import agents_dir
from melt.errors import EngineError, UsageError

Say = Callable[[str], None]
TARGETS = ("android-arm64", "linux-arm64", "linux-x86_64")
_COMPLAINT = "build.py: "


class Wanted(Protocol):
    """Which binary is wanted: a melt.engines.base.BuiltRunner."""

    @property
    def name(self) -> str:
        """The folder of the runner's sources below agents/runners."""

    @property
    def target(self) -> str:
        """The kind of device."""

    @property
    def variant(self) -> str:
        """The CPU features it is built for."""


def ensure(wanted: Wanted, say: Say) -> Path:
    """Return the binary of a runner, built first where the cache has none; `say` is told then. Raises EngineError."""
    return build(wanted.name, say, target=wanted.target, variants=(wanted.variant,))[wanted.variant]


def build(
    name: str,
    say: Say,
    *,
    target: str,
    variants: Sequence[str] = (),
    source: str | None = None,
    ndk: str | None = None,
    backends: Sequence[str] = (),
) -> dict[str, Path]:
    """Return a runner's binary for a target by variant, of those asked for or of all. Raises EngineError, UsageError.

    `source` replaces the pinned package by an archive or a folder; with an Android NDK the binaries may have GPU
    back ends.
    """
    command = [sys.executable, str(agents_dir() / "runners" / name / "build.py")]
    command += ["--cache", str(platformdirs.user_cache_path("melt") / "runners"), "--target", target]
    for flag, values in (("--variant", variants), ("--backend", backends)):
        command += [word for value in values for word in (flag, value)]
    command += ["--source", source] if source else []
    command += ["--ndk", ndk] if ndk else []
    complaint: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as built:
        assert built.stdout is not None
        assert built.stderr is not None
        # Its answers are few and come last: they fit into the pipe while its progress is read.
        for line in built.stderr:
            if complaint or line.startswith(_COMPLAINT):
                complaint.append(line)
            else:
                say(line.rstrip())
        answers = [line.partition(" ") for line in built.stdout.read().splitlines()]
    if built.returncode:
        said = "".join(complaint).removeprefix(_COMPLAINT).strip()
        failed = UsageError if built.returncode == UsageError.exit_code else EngineError
        raise failed(said or f"{command[1]} ended with exit code {built.returncode}")
    return {variant: Path(path) for variant, _, path in answers}
