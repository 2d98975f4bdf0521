"""The logs. A phone as it is sold keeps the kernel's from the shell."""

from __future__ import annotations

from ..system import Reply, System


def logcat(system: System, words: list[str]) -> Reply:
    """Print what was logged, all of it or the last lines; there is nothing to follow, so it always ends."""
    if "-c" in words:
        system.state.log.clear()
        return Reply()
    lines = system.state.log
    for option in ("-t", "-T"):
        if option in words[:-1] and words[words.index(option) + 1].isdecimal():
            lines = lines[-int(words[words.index(option) + 1]) :]
    return Reply("".join(f"{line}\n" for line in ["--------- beginning of main", *lines]))


def dmesg(_system: System, _words: list[str]) -> Reply:
    """Refuse."""
    return Reply(err="dmesg: klogctl: Permission denied", code=1)
