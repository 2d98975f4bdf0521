r"""The knobs of an Android phone that the shell user may turn, each with how it is read, set and put back.

Commands: `settings`, `svc`, `cmd power`, `cmd connectivity`, `input` and `dumpsys` of AOSP. Charging is suspended as
androidx.benchmark does it, by the property `power.battery_input.suspended`. The shell programs here are constants;
values reach them as arguments. sed's patterns are basic ones without `\|`, which Android's does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from melt.errors import DeviceError, UsageError
from melt.records import DeviceFacts
from melt.targets.knobs import Argv, Device, Run, Setting, said

SUSPENDED = "power.battery_input.suspended"
_CAME_WITH_ANDROID_11 = 11
_A_DAY_MS = "86400000"
_UPDATES_STOPPED = "(UPDATES STOPPED"
_BY_ADDRESS = re.compile(r"adb:(?!127\.|localhost:)([^@]*:\d+|.*\._adb-tls-connect\._tcp\.?)(@|$)")
_WOULD_CUT = "conditions: {}: {} is reached by Wi-Fi, which this would cut: connect it by cable"

_WAIT = 'want=$1; shift; n=0; until got=$("$@"); [ "$got" = "$want" ] || [ $n -ge 16 ]; do n=$((n+1)); sleep 0.3; done'
"""Some states follow their command after a moment: read until it is there, for five seconds."""

_SCREEN = (
    "dumpsys power | sed -n -e 's/^ *mWakefulness=Awake.*/on/p' -e 's/^ *mWakefulness=Asleep.*/off/p'"
    " -e 's/^ *mWakefulness=Dozing.*/off/p' -e 's/^ *mWakefulness=Dreaming.*/dreaming/p' | head -n 1"
)
# 3: discharging. "Not charging" and "full" would mean that the charger feeds the phone past its battery.
_FED_BY_BATTERY = (
    "dumpsys battery | sed -n -e 's/^ *status: 3$/suspended/p' -e 's/^ *status: [^3].*/allowed/p' | head -n 1"
)
_SUSPEND = f"setprop {SUSPENDED} true || cmd battery suspend_input"
_ALLOW = f"setprop {SUSPENDED} false || cmd battery reset"
_IS_ALLOWED = f'[ "$(getprop {SUSPENDED})" = true ] && echo suspended || echo allowed'
_WIFI_ON = "settings get global wifi_on | sed -e 's/2/1/' -e 's/3/0/'"
_FIXED = 'cmd power set-fixed-performance-mode-enabled "$1" && echo "$1"'


def _shell(program: str, *arguments: str) -> Argv:
    return ("sh", "-c", program, "melt", *arguments)


def _until(want: str, reader: Argv) -> Argv:
    return _shell(_WAIT + '; echo "$got"', want, *reader)


def _screen(value: object, facts: DeviceFacts, run: Run, selector: str) -> list[Setting]:
    del facts, selector
    reader = _shell(_SCREEN)
    before = said(run, reader, "the screen's state").strip()
    if not before:
        raise DeviceError("conditions: the screen's state cannot be read, so it could not be put back")
    asked = str(value)
    screen = Setting("screen", before, asked, (_key(asked),), _until(asked, reader), (_key(before),))
    # Else it would go dark in the middle of the run.
    return [*([_timeout(run)] if asked == "on" else []), screen]


def _key(state: str) -> Argv:
    # 224 wakes, 223 puts to sleep; the power button would only turn around what is.
    return ("input", "keyevent", "224" if state == "on" else "223")


def _brightness(value: object, facts: DeviceFacts, run: Run, selector: str) -> list[Setting]:
    del facts, selector
    return [
        _plain("brightness_mode", "system", "screen_brightness_mode", "0", run),
        _plain("brightness", "system", "screen_brightness", str(value), run),
    ]


def _stay_awake(value: object, facts: DeviceFacts, run: Run, selector: str) -> list[Setting]:
    del facts, selector
    # 7: on any charger (1 mains, 2 USB, 4 wireless). Written as a setting: `svc power stayon` would wake the screen.
    stay = _plain("stay_awake", "global", "stay_on_while_plugged_in", "7" if value else "0", run)
    # A phone whose charging is suspended counts as unplugged, and its screen would go dark all the same.
    return [stay, *([_timeout(run)] if value else [])]


def _timeout(run: Run) -> Setting:
    return _plain("screen_timeout", "system", "screen_off_timeout", _A_DAY_MS, run)


def _charging(value: object, facts: DeviceFacts, run: Run, selector: str) -> list[Setting]:
    del selector
    if _UPDATES_STOPPED in said(run, ("dumpsys", "battery"), "the battery's state"):
        raise UsageError(
            f"conditions: charging: what {facts.name} reports of its battery is made up: "
            "undo that with `adb shell dumpsys battery reset`"
        )
    before = said(run, _shell(_IS_ALLOWED), "the charging state").strip()
    asked = str(value)
    reader = _shell(_FED_BY_BATTERY if asked == "suspended" else _IS_ALLOWED)
    return [Setting("charging", before, asked, (_charge(asked),), _until(asked, reader), (_charge(before),))]


def _charge(state: str) -> Argv:
    return _shell(_SUSPEND if state == "suspended" else _ALLOW)


def _fixed_performance(value: object, facts: DeviceFacts, run: Run, selector: str) -> list[Setting]:
    del run, selector
    _needs_android_11("fixed_performance", facts)
    wanted = "true" if value else "false"
    mode = ("cmd", "power", "set-fixed-performance-mode-enabled")
    # No command tells the mode. Setting it once more does no harm, and fails where the phone has no such mode.
    check = _shell(_FIXED, wanted)
    return [Setting("fixed_performance", None, wanted, ((*mode, wanted),), check, ((*mode, "false"),))]


def _airplane(value: object, facts: DeviceFacts, run: Run, selector: str) -> list[Setting]:
    _needs_android_11("airplane", facts)
    if value:
        _keep_link("airplane", facts, selector)
    reader = ("settings", "get", "global", "airplane_mode_on")
    before, asked = said(run, reader, "the airplane mode").strip(), "1" if value else "0"
    sets, restores = _airplane_command(asked), _airplane_command(before)
    return [Setting("airplane", before, asked, (sets,), _until(asked, reader), (restores,))]


def _airplane_command(state: str) -> Argv:
    return ("cmd", "connectivity", "airplane-mode", "enable" if state == "1" else "disable")


def _wifi(value: object, facts: DeviceFacts, run: Run, selector: str) -> list[Setting]:
    if not value:
        _keep_link("wifi", facts, selector)
    reader = _shell(_WIFI_ON)
    before, asked = said(run, reader, "the Wi-Fi state").strip(), "1" if value else "0"
    sets, restores = _wifi_command(asked), _wifi_command(before)
    return [Setting("wifi", before, asked, (sets,), _until(asked, reader), (restores,))]


def _wifi_command(state: str) -> Argv:
    return ("svc", "wifi", "disable" if state == "0" else "enable")


def _plain(name: str, table: str, key: str, asked: str, run: Run) -> Setting:
    get = ("settings", "get", table, key)
    before = said(run, get, name.replace("_", " ")).strip()
    put = ("settings", "put", table, key)
    restore = ("settings", "delete", table, key) if before == "null" else (*put, before)
    return Setting(name, before, asked, ((*put, asked),), _until(asked, get), (restore,))


def _needs_android_11(name: str, facts: DeviceFacts) -> None:
    release = re.match(r"Android (\d+)", facts.os_build or "")
    if release and int(release[1]) < _CAME_WITH_ANDROID_11:
        raise UsageError(f"conditions: {name}: {facts.name} runs {release[0]}, the command came with Android 11")


def _keep_link(name: str, facts: DeviceFacts, selector: str) -> None:
    """Raise UsageError when the phone is reached by what is to be switched off."""
    if _BY_ADDRESS.match(selector):
        raise UsageError(_WOULD_CUT.format(name, facts.name))


KNOBS: Mapping[str, Callable[[object, DeviceFacts, Run, str], list[Setting]]] = {
    "screen": _screen,
    "brightness": _brightness,
    "stay_awake": _stay_awake,
    "charging": _charging,
    "fixed_performance": _fixed_performance,
    "airplane": _airplane,
    "wifi": _wifi,
}
"""A knob's name in a plan, and what plans it for a value."""


def plan(wanted: Mapping[str, object], device: Device) -> list[Setting]:
    """Read the knobs that are wanted and plan them. Raises UsageError, DeviceError, TransportError."""
    return [s for name, value in wanted.items() for s in KNOBS[name](value, device.facts, device.run, device.selector)]
