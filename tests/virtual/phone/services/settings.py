"""Properties and settings. Sources: toolbox/getprop, SettingsService.java of AOSP."""

from __future__ import annotations

from ..state import SUSPENDED
from ..system import Reply, System

_USAGE = "usage: settings [--user <USER_ID> | current] get|put|delete|list NAMESPACE [KEY] [VALUE]"
_SHELL_MAY_SET = ("debug.", "log.tag.", "persist.log.tag", "persist.traced.", "service.adb.root")


def getprop(system: System, words: list[str]) -> Reply:
    """Print one property, or all; what is not set is an empty line, or the default asked for."""
    if not words:
        return Reply("".join(f"[{name}]: [{value}]\n" for name, value in sorted(system.state.props.items())))
    default = words[1] if len(words) > 1 else ""
    return Reply(system.state.props.get(words[0], default) + "\n")


def setprop(system: System, words: list[str]) -> Reply:
    """Set a property where the shell may; SELinux refuses all others."""
    if len(words) != 2:
        return Reply(err="usage: setprop NAME VALUE\n\nSets an Android system property.", code=1)
    name, value = words
    suspends = name == SUSPENDED and system.profile.battery.suspendable in ("property", "both")
    if not suspends and not name.startswith(_SHELL_MAY_SET):
        system.state.logcat("W", "libc", f'Unable to set property "{name}" to "{value}": error code: 0x18')
        return Reply(err=f"Failed to set property '{name}' to '{value}'.\nSee dmesg for error reason.", code=1)
    system.state.props[name] = value
    return Reply()


def settings(system: System, words: list[str]) -> Reply:
    """Get, put, delete or list settings."""
    if words[:1] == ["--user"]:
        words = words[2:]
    verb, namespace, *rest = [*words, "", ""][: max(2, len(words))]
    known = system.state.settings
    if namespace not in known:
        return Reply(err=f"Invalid namespace '{namespace}'\n{_USAGE}", code=255)
    match verb, rest:
        case "get", [key, *_]:
            return Reply(system.state.setting(namespace, key) + "\n")
        case "put", [key, value, *_]:
            system.state.set_setting(namespace, key, value)
            return Reply()
        case "delete", [key, *_]:
            there = known[namespace].pop(key, None) is not None
            return Reply(f"Deleted {int(there)} rows\n")
        case "list", _:
            return Reply("".join(f"{key}={value}\n" for key, value in sorted(known[namespace].items())))
    return Reply(err=_USAGE, code=255)
