"""`dumpsys battery` and `cmd battery`. Source: BatteryService.java of AOSP."""

from __future__ import annotations

from ..state import SUSPENDED
from ..system import Reply, System

_STATUS = {"Unknown": 1, "Charging": 2, "Discharging": 3, "Not charging": 4, "Full": 5}
_SETTABLE = ("ac", "usb", "wireless", "dock", "present", "status", "level", "counter", "temp", "invalid")


def command(system: System, words: list[str]) -> Reply:
    """Print the battery, or change what is reported of it."""
    verb = words[0] if words else "-a"
    reported = system.state.reported
    rest = [word for word in words[1:] if word != "-f"]
    match verb:
        case "-a" | "--hal":
            return Reply(_dump(system))
        case "unplug":
            reported.update(ac=0, usb=0, wireless=0, status=3)
            return Reply()
        case "set" if len(rest) == 2 and rest[0] in _SETTABLE:
            try:
                reported[rest[0]] = int(rest[1])
            except ValueError:
                return Reply(f"Bad value: {rest[1]}\n", code=255)
            return Reply()
        case "reset":
            reported.clear()
            if system.state.suspended and system.profile.battery.suspendable in ("service", "both"):
                system.state.props[SUSPENDED] = "false"
            return Reply()
        case "suspend_input":
            return _suspend(system)
    return Reply(f"Unknown set option: {' '.join(words)}\n", code=255)


def _suspend(system: System) -> Reply:
    if system.profile.battery.suspendable not in ("service", "both"):
        reason = "battery suspend_input is only supported on debuggable builds"
        return Reply(
            err=f"\nException occurred while executing 'suspend_input':\njava.lang.SecurityException: {reason}",
            code=255,
        )
    system.state.props[SUSPENDED] = "true"
    return Reply()


def _dump(system: System) -> str:
    physics, reported = system.physics, system.state.reported
    usb = physics.charging
    lines = ["Current Battery Service state:"]
    if reported:
        lines.append("  (UPDATES STOPPED -- use 'reset' to restart)")
    lines += [
        f"  AC powered: {_yes(reported.get('ac', 0))}",
        f"  USB powered: {_yes(reported.get('usb', int(usb)))}",
        f"  Wireless powered: {_yes(reported.get('wireless', 0))}",
    ]
    if system.profile.sdk >= 33:
        lines.append(f"  Dock powered: {_yes(reported.get('dock', 0))}")
    lines += [
        f"  Max charging current: {500000 if usb else 0}",
        f"  Max charging voltage: {5000000 if usb else 0}",
        f"  Charge counter: {reported.get('counter', physics.charge_uah)}",
        f"  status: {reported.get('status', _STATUS.get(physics.status, 1))}",
        "  health: 2",
        f"  present: {_yes(reported.get('present', 1))}",
        f"  level: {reported.get('level', physics.level)}",
        "  scale: 100",
        f"  voltage: {physics.voltage_uv // 1000}",
        f"  temperature: {reported.get('temp', round(physics.battery_c * 10))}",
        "  technology: Li-ion",
    ]
    return "\n".join(lines) + "\n"


def _yes(value: int) -> str:
    return "true" if value else "false"
