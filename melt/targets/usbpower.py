"""Switch the power of one USB port with uhubctl or ykushcmd, and read back that it is so.

What the tools take and print: https://github.com/mvp/uhubctl and https://github.com/Yepkit/ykush.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from melt.errors import DeviceError
from melt.targets.profiles import UsbPower

_DEADLINE_S = 30.0
_UHUBCTL_PORT = re.compile(r"^\s+Port (\d+): [0-9a-f]{4}([^\[\n]*)", re.MULTILINE)
_YKUSH_PORT = re.compile(r"\bport (\d+)(?: is)? (ON|OFF)\b", re.IGNORECASE)
_WHERE_FROM = {
    "uhubctl": "install uhubctl (the package of that name, or https://github.com/mvp/uhubctl)",
    "ykushcmd": "install ykushcmd (https://github.com/Yepkit/ykush)",
}


def switch(power: UsbPower, on: bool) -> None:
    """Switch the port; nothing is done where it is so already. Raises DeviceError, also when the port did not follow.

    Many hubs take the command and feed the port all the same: that is found out here only as far as the hub knows it.
    """
    if is_on(power) == on:
        return
    if power.tool == "uhubctl":
        _run((*_uhubctl(power), "-a", "on" if on else "off"))
    else:
        _run((*_ykushcmd(power), "-u" if on else "-d", str(power.port)))
    if is_on(power) != on:
        raise DeviceError(
            f"{_named(power)} is still {'off' if on else 'on'} after {power.tool} switched it: "
            "the hub does not switch this port by itself"
        )


def is_on(power: UsbPower) -> bool:
    """Return whether the port has power. Raises DeviceError where the tool does not say."""
    if power.tool == "uhubctl":
        printed = _run(_uhubctl(power))
        # A USB 3 hub is two hubs to the computer, and the port has power while one of them gives it.
        found = _UHUBCTL_PORT.findall(printed)
        states = ["off" not in words.split() for port, words in found if int(port) == power.port]
    else:
        printed = _run((*_ykushcmd(power), "-g", str(power.port)))
        # Without the board the tool speaks of a port 15.
        states = [word.upper() == "ON" for port, word in _YKUSH_PORT.findall(printed) if int(port) == power.port]
    if not states:
        raise DeviceError(f"{_named(power)} is not known to {power.tool}: are hub and port right in the profile?")
    return any(states)


def _uhubctl(power: UsbPower) -> tuple[str, ...]:
    return ("uhubctl", "-l", power.hub, "-p", str(power.port))


def _ykushcmd(power: UsbPower) -> tuple[str, ...]:
    # ykush, ykush3: the boards' names are words of the program.
    return ("ykushcmd", power.tool, "-s", power.hub)


def _named(power: UsbPower) -> str:
    return f"port {power.port} of the USB hub {power.hub}"


def _run(argv: Sequence[str]) -> str:
    """Return what a tool prints. Raises DeviceError with what it complains of."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DEADLINE_S, check=False, errors="replace"
        )
    except FileNotFoundError as error:
        raise DeviceError(f"USB power cannot be switched: {argv[0]} is not there: {_WHERE_FROM[argv[0]]}") from error
    except OSError as error:
        raise DeviceError(f"USB power cannot be switched: {argv[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"USB power cannot be switched: {argv[0]} gave no answer in {_DEADLINE_S:.0f} s") from error
    if done.returncode:
        complaint = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise DeviceError(f"USB power cannot be switched: {argv[0]}: {complaint}")
    return done.stdout
