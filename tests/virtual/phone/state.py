"""What is set on the phone: properties, settings, screen, charging. Part of it outlives a boot."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from .profiles import Profile

SAVED = Path("/persist/state.json")
SUSPENDED = "power.battery_input.suspended"

_SETTINGS = {
    "global": {
        "stay_on_while_plugged_in": "0",
        "airplane_mode_on": "0",
        "wifi_on": "1",
        "mobile_data": "1",
        "low_power": "0",
        "window_animation_scale": "1.0",
    },
    "system": {"screen_brightness": "102", "screen_brightness_mode": "1", "screen_off_timeout": "60000"},
    "secure": {"location_mode": "3", "android_id": "8a5c1f0e9b7d2a43"},
}


@dataclass
class State:
    """Everything that a command can change."""

    props: dict[str, str]
    settings: dict[str, dict[str, str]]
    charge_uah: float
    screen_on: bool = True
    plugged: bool = True
    fixed_performance: bool = False
    thermal_override: int | None = None
    reported: dict[str, int] = field(default_factory=dict)
    """Battery values that `dumpsys battery set` made up; reported by the service, unknown to the hardware."""

    forced: dict[str, str] = field(default_factory=dict)
    """Battery values that a test fixed: level, status, current_a, voltage_uv, temperature_c."""

    log: list[str] = field(default_factory=list)

    @property
    def suspended(self) -> bool:
        """Whether charging is stopped in software."""
        return self.props.get(SUSPENDED) == "true"

    def setting(self, namespace: str, key: str) -> str:
        """Return a setting, "null" as Android says where there is none."""
        return self.settings[namespace].get(key, "null")

    def set_setting(self, namespace: str, key: str, value: str) -> None:
        """Change a setting."""
        self.settings[namespace][key] = value

    def logcat(self, level: str, tag: str, message: str, pid: int = 1234) -> None:
        """Add a line to the system log."""
        moment = time.strftime("%m-%d %H:%M:%S", time.gmtime())
        self.log.append(f"{moment}.000  1000 {pid:>5} {pid:>5} {level} {tag}: {message}")

    def summary(self) -> dict[str, object]:
        """Return what a test checks after a run: every knob that melt may have turned."""
        return {
            "settings": {name: dict(values) for name, values in self.settings.items()},
            "props": dict(self.props),
            "stay_on": int(self.setting("global", "stay_on_while_plugged_in")),
            "battery_input_suspended": self.suspended,
            "battery_overridden": bool(self.reported),
            "screen": "on" if self.screen_on else "off",
            "brightness": int(self.setting("system", "screen_brightness")),
            "fixed_performance": self.fixed_performance,
            "airplane": self.setting("global", "airplane_mode_on") == "1",
            "wifi": self.setting("global", "wifi_on") not in ("0", "null"),
            "thermal_override": self.thermal_override,
            "plugged": self.plugged,
            "charge_uah": round(self.charge_uah),
        }

    def save(self) -> None:
        """Keep what outlives a boot."""
        kept = {
            "settings": self.settings,
            "charge_uah": self.charge_uah,
            "forced": self.forced,
            "plugged": self.plugged,
        }
        kept["props"] = {name: value for name, value in self.props.items() if name.startswith("persist.")}
        SAVED.write_text(json.dumps(kept))


def boot_state(profile: Profile, serial: str) -> State:
    """Return the state at boot: the profile's, with what was kept from the last one."""
    props = {
        "ro.product.cpu.abi": "arm64-v8a",
        "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
        "ro.product.cpu.abilist64": "arm64-v8a",
        "ro.build.type": "user",
        "ro.build.tags": "release-keys",
        "ro.debuggable": "0",
        "ro.secure": "1",
        "sys.boot_completed": "1",
        "dev.bootcomplete": "1",
        "init.svc.adbd": "running",
        "sys.usb.state": "adb",
        "persist.sys.timezone": "GMT",
        "ro.melt.virtual": "1",  # nobody shall take its figures for a phone's
        **profile.props,
        "ro.serialno": serial,
        "ro.boot.serialno": serial,
    }
    settings = {name: {**values, **profile.settings.get(name, {})} for name, values in _SETTINGS.items()}
    state = State(props, settings, charge_uah=profile.battery.capacity_uah * profile.battery.level / 100)
    if SAVED.exists():
        kept = json.loads(SAVED.read_text())
        state.props |= kept.pop("props")
        for name, value in kept.items():
            setattr(state, name, value)
    state.logcat("I", "SystemServer", "Entered the Android system server!")
    return state
