"""What there is to measure on: this machine, what the adb server knows, and the SSH hosts that are trusted.

Devices are asked in parallel and have a common deadline: one that hangs is listed with that, and stops nobody. Nothing
is left on a device that is looked at.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from melt.errors import (
    DeviceError,
    Gone,
    HostKeyError,
    MeltError,
    Offline,
    TransportError,
    TransportTimeout,
    Unauthorized,
)
from melt.fleet.look import Health, look
from melt.records import DeviceFacts
from melt.targets.profiles import Profile, load_profiles, matching_profile

LOOK_S = 15.0
"""How long all devices together have to answer; a phone on USB needs half a second, a board a second."""
_PATIENCE_S = 2.0
"""After which it is worth a word that some have not answered."""

_LOCAL, _SSH = "local", "ssh:"
_DEVICE, _READY, _SILENT, _ERROR = "device", "ready", "silent", "error"
_UNREACHABLE = "unreachable"
_UNKNOWN = Health()
_REMEDIES = {
    "unauthorized": "unlock the phone and accept the dialog `Allow USB debugging?`",
    "authorizing": "unlock the phone and accept the dialog `Allow USB debugging?`",
    "offline": "wake the phone; then unplug it and plug it in again, or switch its Wi-Fi off and on",
    "connecting": "it was plugged in just now: look again in a moment",
    "no permissions": "this user may not use its USB device: join the group plugdev and install the package "
    "android-sdk-platform-tools-common (udev rules), then plug it again",
    "recovery": "it runs its recovery system: `adb -s {serial} reboot` starts Android",
    "sideload": "it waits for an update (sideload): `adb -s {serial} reboot` starts Android",
    "rescue": "it is in rescue mode: `adb -s {serial} reboot` starts Android",
    "bootloader": "it is in its bootloader: `fastboot -s {serial} reboot` starts Android",
}
"""What to do about each state of the adb server (`adb devices`) in which a device cannot be asked anything."""

_SAID = {
    Unauthorized: "unauthorized",
    TransportTimeout: _SILENT,
    Gone: _UNREACHABLE,
    Offline: _UNREACHABLE,
}
"""What an error of the way to a device is called in a list."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A device that is known. `selector` is what to type after --device; `reason` is why it cannot be used.

    `state` is `ready`, `silent` (no answer in time), `unreachable`, `unauthorized`, `not trusted` (its host key is not
    known here), `host key changed`, `error`, or what the adb server calls it (`offline`, `no permissions`, `recovery`).
    """

    selector: str
    state: str
    facts: DeviceFacts | None = None
    profile: Profile | None = None
    health: Health = _UNKNOWN
    reason: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a run may be tried."""
        return self.state == _READY


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found. `problems` are sentences on what kept melt from looking further."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()


def take_inventory(
    *,
    servers: Sequence[str] = ("",),
    deadline_s: float = LOOK_S,
    waiting: Callable[[Sequence[str]], None] = lambda _: None,
) -> Inventory:
    """List this machine, every device of the adb servers, in any state, and every SSH host that melt was told of.

    A server is `HOST:PORT`, or empty for the one that the environment names. `waiting` is told which devices take
    long. Raises UsageError for a wrong profile or a wrong address.
    """
    profiles = load_profiles()
    states = {_LOCAL: _DEVICE}
    problems = []
    for server in servers:
        try:
            states |= _on_adb(server)
        except TransportError as error:
            problems.append(f"no phones are listed: {error}")
    try:
        states |= dict.fromkeys(_trusted(), _DEVICE)
    except DeviceError as error:
        problems.append(f"no trusted hosts are listed: {error}")
    states |= dict.fromkeys(_named(profiles), _DEVICE)
    ready = [one for one, state in states.items() if state == _DEVICE]
    asked = ask_all(ready, lambda selector: _look(selector, profiles), deadline_s, waiting)
    entries = (asked.get(one) or _refused(one, state) for one, state in states.items())
    return Inventory(tuple(entries), tuple(problems))


def ask_all(
    selectors: Sequence[str],
    ask: Callable[[str], Entry],
    deadline_s: float,
    waiting: Callable[[Sequence[str]], None] = lambda _: None,
) -> dict[str, Entry]:
    """Ask each device in a thread of its own; one that has not answered by the deadline is `silent`.

    `waiting` is told once which ones have not answered after a moment. The threads are daemons: one that hangs in a
    frozen link must not keep melt from ending.
    """
    answers: queue.SimpleQueue[Entry] = queue.SimpleQueue()

    def answer(selector: str) -> None:
        try:
            entry = ask(selector)
        except MeltError as error:
            entry = Entry(selector, state_of(error), reason=_reason(selector, error))
        answers.put(entry)

    for selector in selectors:
        threading.Thread(target=answer, args=(selector,), daemon=True).start()
    found: dict[str, Entry] = {}
    began = time.monotonic()
    until = min(_PATIENCE_S, deadline_s)
    while len(found) < len(selectors):
        try:
            entry = answers.get(timeout=max(0.0, began + until - time.monotonic()))
        except queue.Empty:
            if until == deadline_s:
                break
            until = deadline_s
            waiting([one for one in selectors if one not in found])
            continue
        found[entry.selector] = entry
    return {one: found.get(one) or _silent(one, deadline_s) for one in selectors}


def state_of(error: MeltError) -> str:
    """Return what a device is called that could not be reached for this reason."""
    if isinstance(error, HostKeyError):
        return "host key changed" if error.changed else "not trusted"
    return next((state for kind, state in _SAID.items() if isinstance(error, kind)), _ERROR)


def _silent(selector: str, deadline_s: float) -> Entry:
    over_ssh = selector.startswith(_SSH)
    help_ = "is it asleep, or its network?" if over_ssh else "unplug it and plug it in again, or restart it"
    return Entry(selector, _SILENT, reason=f"no answer within {deadline_s:g} s: {help_}")


def _reason(selector: str, error: MeltError) -> str:
    """Return an error's sentence without the name of the device, which stands before it."""
    return re.sub(rf"\A{re.escape(selector)}(: | )", "", str(error))


def _on_adb(server: str) -> dict[str, str]:
    """Return selector -> state of what an adb server knows. Raises UsageError, TransportError."""
    try:
        from melt.transports.adb import connected
    except ModuleNotFoundError as error:
        if error.name != "adbutils":
            raise
        raise TransportError("adbutils is not installed: `pip install adbutils`") from error
    suffix = f"@{server}" if server else ""
    return {f"adb:{phone.serial}{suffix}": re.split("[(;]", phone.state)[0].strip() for phone in connected(server)}


def _refused(selector: str, state: str) -> Entry:
    serial = selector.removeprefix("adb:").partition("@")[0]
    remedy = _REMEDIES.get(state, "`adb -s {serial} reconnect` may bring it back")
    return Entry(selector, state, reason=remedy.replace("{serial}", serial))


def _trusted() -> Iterable[str]:
    """Return the SSH hosts that were trusted. Raises DeviceError."""
    from melt.transports.ssh_trust import trusted

    return (f"{_SSH}{destination}" for destination in trusted())


def _named(profiles: Iterable[Profile]) -> Iterable[str]:
    """Return the SSH hosts that the lab's profiles name."""
    return (address for profile in profiles for address in profile.addresses if address.startswith(_SSH))


def _look(selector: str, profiles: Iterable[Profile]) -> Entry:
    facts, health = look(selector)
    return Entry(selector, _READY, facts, matching_profile(facts, profiles), health)
