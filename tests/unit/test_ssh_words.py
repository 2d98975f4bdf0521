"""Words that go through a login shell, whichever it is, come out as they went in."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.errors import UsageError
from melt.transports._argv import checked
from melt.transports._ssh_shell import command

MARK = "0123456789abcdef"
WORDS = st.lists(st.binary(max_size=20).map(lambda data: os.fsdecode(data.replace(b"\0", b""))), max_size=5)
SHELLS = ("sh", "bash", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zsh", "fish", "tcsh", "mksh")))


def through(shell: str, words: list[str]) -> list[bytes]:
    told = command(["printf", "%s\\0", *words, "end"], MARK)
    done = subprocess.run((shell, "-c", told), capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"})
    assert done.stderr == MARK.encode() + b"\n"
    mark, _, said = done.stdout.partition(b"\n")
    assert mark.split()[0] == MARK.encode()
    return said.split(b"\0")[:-2]


@pytest.mark.parametrize("shell", SHELLS)
@given(words=WORDS)
def test_any_words(shell: str, words: list[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert through(shell, words) == [os.fsencode(word) for word in words]


@pytest.mark.parametrize("shell", SHELLS)
def test_words_that_shells_read_differently(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    words = [
        "back\\slash\\",
        "\\'",
        "!!",
        "!$",
        "^a^b",
        "new\nline",
        "\n",
        "'",
        "''",
        "Größe",
        "\udcff",
        "-e",
        "\\0101",
    ]
    assert through(shell, words) == [os.fsencode(word) for word in words]


def test_a_command_that_no_kernel_takes_is_refused() -> None:
    with pytest.raises(UsageError, match="too long for ssh"):
        command(["echo", "x" * 130_000], MARK)
    with pytest.raises(UsageError, match="zero byte"):
        checked(["echo", "\0"], "ssh")
    with pytest.raises(UsageError, match="at least the name"):
        checked([], "ssh")
