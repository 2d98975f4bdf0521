"""What is connected: this machine, and what the adb server knows, each looked at without leaving anything on it.

Devices are asked in parallel and have a common deadline: one that hangs is listed with that, and stops nobody.
"""

from __future__ import annotations

import contextlib
import glob
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from melt.errors import MeltError, TransportError, TransportTimeout
from melt.records import DeviceFacts, Sampling, Stream
from melt.targets.probe import Snapshot, take_snapshot
from melt.targets.profiles import Profile, load_profiles, matching_profile
from melt.targets.system import identify, read_facts
from melt.telemetry.base import FileSource, LineSource
from melt.telemetry.platforms import Platform, platform
from melt.transports.registry import open_transport

LOOK_S = 15.0
"""How long all devices together have to answer; a phone on USB needs half a second."""

_LOCAL = "local"
_DEVICE, _READY, _SILENT, _ERROR = "device", "ready", "silent", "error"
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


@dataclass(frozen=True, slots=True)
class Health:
    """The battery's level from 0 to 1, whether it charges, and a temperature with the sensor that says it."""

    battery_ratio: float | None = None
    charging: bool | None = None
    temperature_c: float | None = None
    sensor: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A device that is connected. `selector` is what to type after --device; `reason` is why it cannot be used.

    `state` is `ready`, `silent` (no answer in time), `error`, or what the adb server calls it (`unauthorized`,
    `offline`, `no permissions`, `recovery`).
    """

    selector: str
    state: str
    facts: DeviceFacts | None = None
    profile: Profile | None = None
    health: Health = Health()
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


def take_inventory(*, servers: Sequence[str] = ("",), deadline_s: float = LOOK_S) -> Inventory:
    """List this machine and every device of the adb servers, in any state.

    A server is `HOST:PORT`, or empty for the one that the environment names. Raises UsageError for a wrong profile or
    a wrong address.
    """
    profiles = load_profiles()
    states = {_LOCAL: _DEVICE}
    problems = []
    for server in servers:
        try:
            states |= _on_adb(server)
        except TransportError as error:
            problems.append(f"no phones are listed: {error}")
    ready = [one for one, state in states.items() if state == _DEVICE]
    asked = ask_all(ready, lambda selector: _look(selector, profiles), deadline_s)
    entries = (asked.get(one) or _refused(one, state) for one, state in states.items())
    return Inventory(tuple(entries), tuple(problems))


def ask_all(selectors: Sequence[str], ask: Callable[[str], Entry], deadline_s: float) -> dict[str, Entry]:
    """Ask each device in a thread of its own; one that has not answered by the deadline is `silent`.

    The threads are daemons: one that hangs in a frozen link must not keep melt from ending.
    """
    answers: queue.SimpleQueue[Entry] = queue.SimpleQueue()

    def answer(selector: str) -> None:
        try:
            entry = ask(selector)
        except MeltError as error:
            state = _SILENT if isinstance(error, TransportTimeout) else _ERROR
            entry = Entry(selector, state, reason=_reason(selector, error))
        answers.put(entry)

    for selector in selectors:
        threading.Thread(target=answer, args=(selector,), daemon=True).start()
    found: dict[str, Entry] = {}
    end = time.monotonic() + deadline_s
    while len(found) < len(selectors):
        try:
            entry = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        found[entry.selector] = entry
    reason = f"no answer within {deadline_s:g} s: unplug it and plug it in again, or restart it"
    return {one: found.get(one) or Entry(one, _SILENT, reason=reason) for one in selectors}


def _reason(selector: str, error: MeltError) -> str:
    return str(error).removeprefix(selector).lstrip(": ")


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


def _look(selector: str, profiles: Iterable[Profile]) -> Entry:
    transport = open_transport(selector)
    try:
        system = identify(transport)
        reader = _OwnFiles() if selector == _LOCAL else _NoFiles()
        facts, known = read_facts(system, transport, reader, selector)
        channels = platform(facts.os)
        snapshot = known | take_snapshot(transport, reader, channels.GLOBS, channels.COMMANDS)
    finally:
        transport.close()
    return Entry(selector, _READY, facts, matching_profile(facts, profiles), health_of(channels, snapshot))


class _OwnFiles:
    """Reads files of this machine as the agent would."""

    def read(self, globs: Sequence[str]) -> Mapping[str, bytes]:
        """Return the files that match and can be read."""
        contents = {}
        for path in {path for pattern in globs for path in glob.glob(pattern)}:  # noqa: PTH207 (the patterns are absolute)
            with contextlib.suppress(OSError):
                contents[path] = Path(path).read_bytes()
        return contents


class _NoFiles:
    """Reads nothing: a device that is only looked at gets no agent."""

    def read(self, globs: Sequence[str]) -> Mapping[str, bytes]:
        """Return nothing."""
        return {}


def health_of(channels: Platform, snapshot: Snapshot) -> Health:
    """Say how a device is, from its channels; the battery's temperature, else that of the hottest sensor."""
    level, charging, battery, hottest = None, None, None, None
    for stream, value in _values(channels, snapshot):
        if stream.quantity == "level" and level is None:
            level = value
        elif stream.name.endswith("_charging"):
            charging = bool(charging) or value == 1
        elif stream.quantity == "temperature":
            if "battery" in (stream.site, stream.name) and battery is None:
                battery = (value, stream.site)
            hottest = max(hottest or (value, stream.site), (value, stream.site))
    temperature_c, sensor = battery or hottest or (None, None)
    return Health(level, charging, temperature_c, sensor)


def _values(channels: Platform, snapshot: Snapshot) -> Iterator[tuple[Stream, float]]:
    found = channels.discover(snapshot, Sampling())
    programs = {tuple(argv): f"$ {name}" for name, argv in channels.COMMANDS.items()}
    sources: list[tuple[FileSource | LineSource, str]] = [(file, file.path) for file in found.files]
    sources += [(line, programs.get(line.argv, "")) for line in found.lines]
    for source, key in sources:
        if key in snapshot:
            for stream, value in zip(source.streams, source.parse(snapshot[key]), strict=True):
                if not math.isnan(value):
                    yield stream, value
