"""Cut a device from its USB port while a run lasts, and give the port its power back in every way out.

Who feeds a phone hides what it takes from its battery; a port without power does not. Before the port is cut a note
lies in the run's folder, from which another process gives the power back when this one dies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Timer

from melt.errors import DeviceError, UsageError
from melt.records import Conditions
from melt.session import folder as docs
from melt.session.folder import RunFolder
from melt.targets.profiles import Profile, UsbPower
from melt.targets.usbpower import switch

_OFF_FOR = re.compile(r"off for (\d+(?:\.\d+)?)s")
_BY_NETWORK = re.compile(r"adb:([^@]*:\d+|[^@]*\._adb-tls-connect\._tcp\.?)(@|$)|ssh:|local$")


@dataclass(frozen=True, slots=True)
class Cut:
    """A port and what a run asks of it. After `for_s` the power comes back, whether the run has ended or not."""

    power: UsbPower
    on: bool
    for_s: float | None = None


def find_cut(conditions: Conditions, selector: str, name: str, profile: Profile | None) -> Cut | None:
    """Return what is to be done with the port of a device, None where nothing is asked.

    Raises UsageError where no profile names the port, and where the cable is the only known way to the device and the
    plan does not say for how long it may be cut.
    """
    asked = conditions.usb_power
    if asked is None:
        return None
    if profile is None or profile.usb_power is None:
        raise UsageError(
            f"conditions: usb_power: no profile says on which USB port {name} hangs: devices/README.md tells how to"
        )
    match = _OFF_FOR.fullmatch(asked)
    others = any(_BY_NETWORK.match(address) for address in (selector, *profile.addresses))
    if asked == "off" and not others:
        raise UsageError(
            f"conditions: usb_power: {name} is known by its cable alone, and `off` would cut it for good: "
            "name its other `addresses` in its profile, or say for how long, as in `off for 10m`"
        )
    return Cut(profile.usb_power, asked == "on", float(match[1]) if match else None)


@contextmanager
def unplugged(cut: Cut | None, folder: RunFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a port as a run asks for it, and leave it with power. Raises DeviceError where the hub does not follow."""
    if cut is None:
        yield
        return
    if cut.on:
        switch(cut.power, True)
        yield
        return
    folder.write_document(docs.UNPLUGGED, json.dumps(asdict(cut.power)).encode())
    timer = Timer(cut.for_s, _give_back, (cut.power, say)) if cut.for_s is not None else None
    try:
        switch(cut.power, False)
        say("its USB port is switched off" + (f" for {cut.for_s:.0f} s" if cut.for_s is not None else ""))
        if timer is not None:
            timer.daemon = True
            timer.start()
        yield
    finally:
        if timer is not None and timer.is_alive():
            timer.cancel()
            timer.join()
        _give_back(cut.power, say)


def plug_in_again(folder: RunFolder, say: Callable[[str], None]) -> bool:
    """Give back the power that a dead process had cut; return whether there was anything to do."""
    noted = folder.read_document(docs.UNPLUGGED)
    if noted is None:
        return False
    _give_back(UsbPower(**json.loads(noted)), say)
    return True


def _give_back(power: UsbPower, say: Callable[[str], None]) -> None:
    # Said, not raised: the run's own end, or what broke it, is worth more to who reads it.
    try:
        switch(power, True)
    except DeviceError as error:
        say(f"the USB port has no power yet, plug the cable in elsewhere or switch it on by hand: {error}")
