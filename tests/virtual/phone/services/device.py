"""Packages, windows, activities, and turning off and on. Sources: cmds/pm, WindowManagerShellCommand of AOSP."""

from __future__ import annotations

from ..system import Reply, System

_FRAMEWORK = "package:/system/framework/framework-res.apk\n"


def packages(system: System, words: list[str]) -> Reply:
    """Answer `pm …`: there is the framework and nothing else."""
    match words:
        case ["list", "features"]:
            return Reply("".join(f"feature:{name}\n" for name in ("reqGlEsVersion=0x30002", *system.profile.features)))
        case ["list", "packages", *_]:
            return Reply("package:android\n")
        case ["path", "android"]:
            return Reply(_FRAMEWORK)
        case ["path", _]:
            return Reply(code=1)
    return Reply(err=f"Unknown command: {' '.join(words)}", code=255)


def window(system: System, words: list[str]) -> Reply:
    """Answer `wm size` and `wm density`."""
    match words:
        case ["size"]:
            return Reply(f"Physical size: {system.profile.screen}\n")
        case ["density"]:
            return Reply("Physical density: 420\n")
    return Reply(err=f"Unknown command: {' '.join(words)}", code=255)


def activity(_system: System, words: list[str]) -> Reply:
    """Answer `am …`: no app runs here, so there is nothing to stop."""
    match words:
        case ["force-stop", _] | ["kill-all"]:
            return Reply()
        case ["get-current-user"]:
            return Reply("0\n")
    return Reply(err=f"Unknown command: {' '.join(words)}", code=255)


def getenforce(_system: System, _words: list[str]) -> Reply:
    """Say what SELinux does on a phone as it is sold."""
    return Reply("Enforcing\n")


def reboot(system: System, words: list[str]) -> Reply:
    """Boot anew; the caller goes with it."""
    system.reboot(" ".join(words))
    return Reply()
