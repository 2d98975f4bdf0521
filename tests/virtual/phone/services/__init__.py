"""The commands of a phone, answered in the words of Android.

Formats follow the sources of AOSP (frameworks/base, frameworks/native), named in each module, and public captures.
"""

from __future__ import annotations

from collections.abc import Callable

from ..system import Reply, System
from . import battery, device, logs, power, settings, thermal

_THERMAL_SERVICE_SDK = 29
Command = Callable[[System, list[str]], Reply]

_DUMPS: dict[str, Command] = {
    "battery": battery.command,
    "thermalservice": thermal.dump,
    "power": power.dump,
    "deviceidle": power.dump_idle,
    "display": power.dump_display,
    "android.hardware.power.stats.IPowerStats/default": power.dump_rails,
}

_SERVICES: dict[str, Command] = {
    "battery": battery.command,
    "thermalservice": thermal.command,
    "power": power.command,
    "connectivity": power.connectivity,
    "wifi": power.wifi,
    "settings": settings.settings,
    "package": device.packages,
    "activity": device.activity,
}


def _exists(system: System, service: str) -> bool:
    if service == "thermalservice":
        return system.profile.sdk >= _THERMAL_SERVICE_SDK
    return "IPowerStats" not in service or bool(system.profile.rails)


def _dumpsys(system: System, words: list[str]) -> Reply:
    names = [word for word in words if not word.startswith("-")]
    available = [name for name in sorted(_DUMPS) if _exists(system, name)]
    if not names:
        return Reply("Currently running services:\n" + "".join(f"  {name}\n" for name in available))
    if names[0] not in available:
        return Reply(err=f"Can't find service: {names[0]}")
    # A dump has one stream and no exit code: what a service complains of is part of it.
    reply = _DUMPS[names[0]](system, words[words.index(names[0]) + 1 :])
    return Reply(reply.out + "".join(f"{line}\n" for line in reply.err.splitlines()))


def _cmd(system: System, words: list[str]) -> Reply:
    if not words:
        return Reply(
            err="cmd: No service specified; use -l to list all running services. Use -w to start and wait.", code=20
        )
    if words[0] == "-l":
        return Reply("Currently running services:\n" + "".join(f"  {name}\n" for name in sorted(_SERVICES)))
    service = _SERVICES.get(words[0])
    if service is None or not _exists(system, words[0]):
        return Reply(err=f"cmd: Can't find service: {words[0]}", code=20)
    return service(system, words[1:])


_COMMANDS: dict[str, Command] = {
    "am": device.activity,
    "cmd": _cmd,
    "dmesg": logs.dmesg,
    "dumpsys": _dumpsys,
    "getenforce": device.getenforce,
    "getprop": settings.getprop,
    "input": power.key,
    "logcat": logs.logcat,
    "pm": device.packages,
    "reboot": device.reboot,
    "setprop": settings.setprop,
    "settings": settings.settings,
    "svc": power.svc,
    "wm": device.window,
}


def answer(system: System, words: list[str]) -> Reply:
    """Run the command `words[0]`; everything but questions is noted."""
    if words[0] not in ("getprop", "logcat", "getenforce") and words[1:2] not in (["get"], ["list"]):
        system.note("command", words=words)
    return _COMMANDS[words[0]](system, words[1:])
