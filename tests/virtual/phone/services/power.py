"""Screen, performance mode, radios and the power monitor.

Sources: PowerManagerService.java, PowerManagerShellCommand.java, cmds/svc of AOSP; PowerStatsAidl.cpp of
hardware/google/pixel.
"""

from __future__ import annotations

from ..system import Reply, System

_STAY_ON = {"true": 15, "ac": 1, "usb": 2, "wireless": 4, "dock": 8, "false": 0}
_ANY_CHARGER_BEFORE_DOCKS = 7
_FIXED_MODE_SDK = 30
_WAKE, _SLEEP, _POWER = ("224", "KEYCODE_WAKEUP"), ("223", "KEYCODE_SLEEP"), ("26", "KEYCODE_POWER")


def command(system: System, words: list[str]) -> Reply:
    """Answer `cmd power …`."""
    match words:
        case ["set-fixed-performance-mode-enabled", ("true" | "false" | "1" | "0") as value] if (
            system.profile.sdk >= _FIXED_MODE_SDK
        ):
            system.state.fixed_performance = value in ("true", "1")
            return Reply()
        case ["set-mode", ("0" | "1") as value]:
            system.state.set_setting("global", "low_power", value)
            return Reply()
    return Reply(err=f"Unknown command: {' '.join(words)}", code=255)


def dump(system: System, _words: list[str]) -> Reply:
    """Print the lines of `dumpsys power` that are read here."""
    state, awake = system.state, system.state.screen_on
    stay_on = int(state.setting("global", "stay_on_while_plugged_in"))
    return Reply(
        "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mDirty=0x0\n"
        f"  mWakefulness={'Awake' if awake else 'Asleep'}\n  mWakefulnessChanging=false\n"
        f"  mIsPowered={str(system.physics.charging).lower()}\n  mPlugType={2 if system.physics.charging else 0}\n"
        f"  mBatteryLevel={system.physics.level}\n"
        f"  mStayOn={str(bool(stay_on) and awake and system.physics.charging).lower()}\n  mBootCompleted=true\n"
        "\nSettings and Configuration:\n"
        f"  mStayOnWhilePluggedInSetting={stay_on}\n"
        f"  mScreenOffTimeoutSetting={state.setting('system', 'screen_off_timeout')}\n"
        f"\nDisplay Power: state={'ON' if awake else 'OFF'}\n"
        f"  mFixedPerformanceMode={str(state.fixed_performance).lower()}\n"
    )


def dump_idle(system: System, words: list[str]) -> Reply:
    """Answer `dumpsys deviceidle get screen`: DeviceIdleController.java takes its commands as a dump's arguments."""
    match words:
        case ["get", "screen"]:
            return Reply(f"{str(system.state.screen_on).lower()}\n")
    return Reply("Unknown get option, or no idle controller\n")


def dump_display(system: System, _words: list[str]) -> Reply:
    """Print the lines of `dumpsys display` that are read here."""
    word = "ON" if system.state.screen_on else "OFF"
    part = int(system.state.setting("system", "screen_brightness")) / 255
    width, _, height = system.profile.screen.partition("x")
    return Reply(
        "DISPLAY MANAGER (dumpsys display)\n  mOnlyCode=false\n"
        f"  mScreenState={word}\n  mScreenBrightness={part:.4f}\n"
        f'  mBaseDisplayInfo=DisplayInfo{{"Built-in Screen", displayId 0, real {width} x {height}, state {word}}}\n'
    )


def dump_rails(system: System, _words: list[str]) -> Reply:
    """Print the energy that each rail has used so far."""
    lines = [
        "",
        "============= PowerStats HAL 2.0 energy meter ==============",
        f"  {'Channel':>32}   {'Cumulative Energy':>18}",
    ]
    for rail in system.profile.rails:
        name = f"[{rail.name}]:{rail.subsystem}"
        lines.append(f"  {name:>32}   {system.physics.energy_j[rail.name] * 1000:14.2f} mWs")
    return Reply("\n".join([*lines, "========== End of PowerStats HAL 2.0 energy meter ==========", ""]))


def key(system: System, words: list[str]) -> Reply:
    """Press a key."""
    if words[:1] != ["keyevent"] or len(words) < 2:
        return Reply(err="Error: Unknown command: " + " ".join(words), code=255)
    for code in words[1:]:
        if code in _WAKE:
            system.state.screen_on = True
        elif code in _SLEEP:
            system.state.screen_on = False
        elif code in _POWER:
            system.state.screen_on = not system.state.screen_on
    return Reply()


def svc(system: System, words: list[str]) -> Reply:
    """Answer `svc power|wifi|data …`."""
    state = system.state
    match words:
        case ["power", "stayon", choice] if choice in _STAY_ON:
            bits = _STAY_ON[choice]
            if bits == _STAY_ON["true"] and system.profile.sdk < 33:
                bits = _ANY_CHARGER_BEFORE_DOCKS
            if bits:  # svc wakes the phone up before it keeps it awake
                state.screen_on = True
            state.set_setting("global", "stay_on_while_plugged_in", str(bits))
            return Reply()
        case ["power", "reboot", *reason]:
            system.reboot(" ".join(reason))
            return Reply()
        case ["wifi", ("enable" | "disable") as verb]:
            state.set_setting("global", "wifi_on", str(int(verb == "enable")))
            return Reply()
        case ["data", ("enable" | "disable") as verb]:
            state.set_setting("global", "mobile_data", str(int(verb == "enable")))
            return Reply()
    return Reply(err="Available commands:\n    help     Show information about the subcommands", code=0)


def connectivity(system: System, words: list[str]) -> Reply:
    """Answer `cmd connectivity airplane-mode …`."""
    match words:
        case ["airplane-mode"]:
            return Reply("enabled\n" if system.state.setting("global", "airplane_mode_on") == "1" else "disabled\n")
        case ["airplane-mode", ("enable" | "disable") as verb]:
            system.state.set_setting("global", "airplane_mode_on", str(int(verb == "enable")))
            return Reply()
    return Reply(err=f"Unknown command: {' '.join(words)}", code=255)


def wifi(system: System, words: list[str]) -> Reply:
    """Answer `cmd wifi …`."""
    match words:
        case ["status"]:
            on = system.state.setting("global", "wifi_on") == "1"
            return Reply(f"Wifi is {'enabled' if on else 'disabled'}\n")
        case ["set-wifi-enabled", ("enabled" | "disabled") as choice]:
            system.state.set_setting("global", "wifi_on", str(int(choice == "enabled")))
            return Reply()
    return Reply(err=f"Unknown command: {' '.join(words)}", code=255)
