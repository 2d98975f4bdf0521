"""The knobs of an Android phone that the shell user may turn, each with how it is read, set and put back.

Commands: `settings`, `svc`, `cmd power`, `cmd connectivity`, `input` and `dumpsys` of AOSP. Charging is suspended as
androidx.benchmark does it, by the property `power.battery_input.suspended`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from melt.errors import UsageError
from melt.records import DeviceFacts
from melt.targets.knobs import Run, Setting, said

SUSPENDED = "power.battery_input.suspended"
_FIXED_MODE_RELEASE = 11
_WAKEFULNESS = re.compile(r"mWakefulness=(\w+)")
_AWAKE = {"on": "Awake", "off": "Asleep"}
_AWAKE_STATES = {"Awake": "on", "Dreaming": "off", "Dozing": "off", "Asleep": "off"}
_FIXED = re.compile(r"mFixedPerformanceMode\w*[=:]\s*(true|false)", re.IGNORECASE)


def read_back(name: str, text: str) -> str | None:
    """Return what a `check` of this knob printed, in the words of `Setting.asked`; None where it says nothing."""
    text = text.strip()
    if name == "screen":
        found = _WAKEFULNESS.search(text)
        return _AWAKE_STATES.get(found[1]) if found else None
    if name == "fixed_performance":
        found = _FIXED.search(text)
        return found[1].lower() if found else None
    return text or None


def _screen(value: object, facts: DeviceFacts, run: Run) -> Setting:
    check = ("dumpsys", "power")
    before = read_back("screen", said(run, check, "the screen's state"))
    return Setting(
        name="screen",
        before=before,
        asked=str(value),
        set=(_key(str(value)),),
        check=check,
        restore=(_key(before),) if before else (),
    )


def _key(state: str) -> tuple[str, ...]:
    # 224 wakes, 223 puts to sleep; the power button would only turn around what is.
    return ("input", "keyevent", "224" if state == "on" else "223")


def _brightness(value: object, facts: DeviceFacts, run: Run) -> Setting:
    get, put = _setting_command("system", "screen_brightness")
    mode_get, mode_put = _setting_command("system", "screen_brightness_mode")
    before = said(run, get, "the brightness").strip()
    mode = said(run, mode_get, "the brightness mode").strip()
    return Setting(
        name="brightness",
        before=before,
        asked=str(value),
        set=(mode_put("0"), put(str(value))),
        check=get,
        restore=(put(before), mode_put(mode)),
    )


def _stay_awake(value: object, facts: DeviceFacts, run: Run) -> Setting:
    # 7: on any charger (1 mains, 2 USB, 4 wireless). Written as a setting: `svc power stayon` would wake the screen.
    return _plain_setting("stay_awake", "global", "stay_on_while_plugged_in", "7" if value else "0", run)


def _charging(value: object, facts: DeviceFacts, run: Run) -> Setting:
    get = ("getprop", SUSPENDED)
    before = said(run, get, "the charging state").strip() or "false"
    suspended = "true" if value == "suspended" else "false"
    return Setting(
        name="charging",
        before=before,
        asked=suspended,
        set=(("setprop", SUSPENDED, suspended),),
        check=get,
        restore=(("setprop", SUSPENDED, before),),
    )


def _fixed_performance(value: object, facts: DeviceFacts, run: Run) -> Setting:
    release = re.match(r"Android (\d+)", facts.os_build or "")
    if release and int(release[1]) < _FIXED_MODE_RELEASE:
        raise UsageError(
            f"conditions: fixed_performance: {facts.name} runs {release[0]}, the mode came with Android 11"
        )
    check = ("dumpsys", "power")
    before = read_back("fixed_performance", said(run, check, "the performance mode"))
    wanted = "true" if value else "false"
    mode = ("cmd", "power", "set-fixed-performance-mode-enabled")
    return Setting(
        name="fixed_performance",
        before=before,
        asked=wanted,
        set=((*mode, wanted),),
        check=check,
        # Some phones do not say in which mode they are; they are in the usual one unless somebody changed that.
        restore=((*mode, before or "false"),),
    )


def _airplane(value: object, facts: DeviceFacts, run: Run) -> Setting:
    get, _ = _setting_command("global", "airplane_mode_on")
    before = said(run, get, "the airplane mode").strip()
    return Setting(
        name="airplane",
        before=before,
        asked="1" if value else "0",
        set=(_airplane_command(bool(value)),),
        check=get,
        restore=(_airplane_command(before == "1"),),
    )


def _airplane_command(on: bool) -> tuple[str, ...]:
    return ("cmd", "connectivity", "airplane-mode", "enable" if on else "disable")


def _wifi(value: object, facts: DeviceFacts, run: Run) -> Setting:
    get, _ = _setting_command("global", "wifi_on")
    before = said(run, get, "the Wi-Fi state").strip()
    return Setting(
        name="wifi",
        before=before,
        asked="1" if value else "0",
        set=(_wifi_command(bool(value)),),
        check=get,
        restore=(_wifi_command(before != "0"),),
    )


def _wifi_command(on: bool) -> tuple[str, ...]:
    return ("svc", "wifi", "enable" if on else "disable")


def _plain_setting(name: str, table: str, key: str, wanted: str, run: Run) -> Setting:
    get, put = _setting_command(table, key)
    before = said(run, get, name.replace("_", " ")).strip()
    restore = ("settings", "delete", table, key) if before == "null" else put(before)
    return Setting(name=name, before=before, asked=wanted, set=(put(wanted),), check=get, restore=(restore,))


def _setting_command(table: str, key: str) -> tuple[tuple[str, ...], Callable[[str], tuple[str, ...]]]:
    return ("settings", "get", table, key), lambda value: ("settings", "put", table, key, value)


KNOBS: Mapping[str, Callable[[object, DeviceFacts, Run], Setting]] = {
    "screen": _screen,
    "brightness": _brightness,
    "stay_awake": _stay_awake,
    "charging": _charging,
    "fixed_performance": _fixed_performance,
    "airplane": _airplane,
    "wifi": _wifi,
}
"""A knob's name in a plan, and what plans it for a value."""
