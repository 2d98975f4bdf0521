"""`dumpsys thermalservice` and `cmd thermalservice`. Source: ThermalManagerService.java of AOSP.

A capture to compare with: https://github.com/bryanroscoe/shield_optimizer/issues/6
"""

from __future__ import annotations

from ..profiles import HalTemperature
from ..system import Reply, System

_LISTENERS = "\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
_SKIN = 3


def command(system: System, words: list[str]) -> Reply:
    """Override the status, or let it go again."""
    match words:
        case ["override-status", status] if status in "0123456":
            system.state.thermal_override = int(status)
            return Reply()
        case ["reset"]:
            system.state.thermal_override = None
            return Reply()
    return Reply(err=f"Unknown command: {' '.join(words)}", code=255)


def dump(system: System, _words: list[str]) -> Reply:
    """Print what the service knows: first what it has cached, then what the HAL says now."""
    thermal, status = system.profile.thermal, system.physics.thermal_status
    overridden = system.state.thermal_override is not None
    cached = "".join(f"\t{_temperature(system, line, at_rest=True)}\n" for line in thermal.hal)
    text = (
        f"IsStatusOverride: {str(overridden).lower()}\nThermalEventListeners:\n{_LISTENERS}"
        f"ThermalStatusListeners:\n{_LISTENERS}Thermal Status: {status}\nCached temperatures:\n{cached}"
        f"HAL Ready: {str(bool(thermal.hal)).lower()}\n"
    )
    if not thermal.hal:
        return Reply(text)
    now = "".join(f"\t{_temperature(system, line)}\n" for line in thermal.hal)
    cooling = "".join(
        f"\tCoolingDevice{{mValue={state}, mType=2, mName=thermal-cpufreq-{index}}}\n"
        for index, state in enumerate(system.physics.cooling)
        if thermal.thresholds_c
    )
    version = "ThermalHAL AIDL 1  connected: yes" if system.profile.sdk >= 34 else "ThermalHAL 2.0 connected: yes"
    hot = ", ".join(["NaN", *(str(threshold) for threshold in thermal.thresholds_c)])
    cold = ", ".join(["NaN"] * 7)
    name = next((line.name for line in thermal.hal if line.type == _SKIN), "")
    thresholds = (
        ""
        if not thermal.thresholds_c
        else (
            f"\tTemperatureThreshold{{mType=3, mName={name}, mHotThrottlingThresholds=[{hot}], "
            f"mColdThrottlingThresholds=[{cold}]}}\n"
        )
    )
    return Reply(
        f"{text}HAL connection:\n\t{version}\nCurrent temperatures from HAL:\n{now}"
        f"Current cooling devices from HAL:\n{cooling}Temperature static thresholds from HAL:\n{thresholds}"
    )


def _temperature(system: System, line: HalTemperature, *, at_rest: bool = False) -> str:
    value = line.value
    if line.zone:
        zones = {zone.type: zone.rest_c for zone in system.profile.thermal.zones}
        value = zones[line.zone] if at_rest else system.physics.zone_c(line.zone)
    status = system.physics.thermal_status if line.type == _SKIN and not at_rest else 0
    return f"Temperature{{mValue={round(value, 3)}, mType={line.type}, mName={line.name}, mStatus={status}}}"
