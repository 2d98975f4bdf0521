"""For pytest: an SSH server and melt's way to it, or a skip that says by name what this machine lacks."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from melt.transports.base import Transport

from .phone.requirements import Unavailable
from .sshd import Sshd

_NOISE = "echo 'Welcome! It'\"'\"'s 12 C'; echo 'a warning' >&2; printf 'no line end'; printf 'none' >&2\n"
_START_UP_FILES = {
    ".bashrc": "LANG=xx_YY.ODD; LC_ALL=de_DE.UTF-8; export LANG LC_ALL\n" + _NOISE,
    ".zshenv": "export LANG=xx_YY.ODD\n" + _NOISE,
    ".config/fish/config.fish": "set -gx LANG xx_YY.ODD\n" + _NOISE,
    ".tcshrc": "setenv LANG xx_YY.ODD\necho 'Welcome'\nsh -c 'echo a warning >&2'\n",
}


QUICK_S = 8.0
"""More than any of what a link does takes, less than anybody would call hanging."""


@contextlib.contextmanager
def serving(**options: object) -> Iterator[Sshd]:
    """Run a server, with melt's environment set for it, or skip; the options are those of Sshd."""
    with contextlib.ExitStack() as stack:
        # Not pytest's own folder, which other users cannot enter.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="melt-sshd-")))
        try:
            server = stack.enter_context(Sshd(folder, **options))  # type: ignore[arg-type]
        except Unavailable as reason:
            pytest.skip(str(reason))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@contextlib.contextmanager
def somebody(shell: str) -> Iterator[tuple[str, Path]]:
    """Make a user with this login shell, whose start-up files print noise; return the name and the home."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    if os.geteuid() != 0:
        pytest.skip("making a user needs root")
    name = f"melt-{os.getpid()}-{shell}"
    with tempfile.TemporaryDirectory(prefix="melt-home-") as folder:
        home = Path(folder)
        made = ("useradd", "-p", "*", "-s", program, "-d", home, "-M", name)
        if subprocess.run(made, capture_output=True, check=False).returncode:
            pytest.skip("useradd makes no user here")
        try:
            write_noise(home)
            subprocess.run(("chown", "-R", name, home), check=True)
            yield name, home
        finally:
            subprocess.run(("userdel", "-f", name), check=True, capture_output=True)


def write_noise(home: Path) -> None:
    """Let every shell print something on both streams when it starts, and set an odd locale."""
    for name, text in _START_UP_FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)


def works(link: Transport) -> bool:
    """Whether a program runs there, soon."""
    return link.run(["echo", "here"], timeout_s=QUICK_S).stdout == b"here\n"
