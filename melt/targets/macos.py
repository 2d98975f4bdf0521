"""What a Mac is, out of what its own programs print. Written from recordings: docs/apple.md says what is unproven.

macOS has no /proc and no /sys: every fact is a command. sysctl is asked for its node `hw` as a whole, in which chips
differ, and for what that leaves out; it fails for a name that its version does not know, and prints the others.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from melt.records import Battery, Cpu, DeviceFacts
from melt.targets import linux
from melt.targets.probe import Snapshot, text_of
from melt.transports.base import Transport

FACT_GLOBS: tuple[str, ...] = ()

_SYSCTL = (
    "sysctl hw hw.model machdep.cpu.brand_string kern.bootsessionuuid kern.hv_vmm_present "
    "kern.osproductversion kern.osrelease kern.osversion 2>/dev/null || :"
)

FACT_COMMANDS: dict[str, tuple[str, ...]] = {
    "uname -m": ("uname", "-m"),
    "sysctl": ("sh", "-c", _SYSCTL),
    "sw_vers": ("sw_vers",),
    "vm_stat": ("vm_stat",),
    "pmset": ("pmset", "-g"),
    "ioreg platform": ("ioreg", "-rd1", "-c", "IOPlatformExpertDevice"),
    "ioreg product": ("ioreg", "-rd1", "-n", "product"),
    "ioreg gpu": ("ioreg", "-rd1", "-c", "AGXAccelerator"),
    "ioreg capacity": ("ioreg", "-rw0", "-c", "AppleSmartBattery"),
}

_SETTING = re.compile(r"^([\w.]+): (.*?)[ \t]*$", re.MULTILINE)
_PAGES = re.compile(r'^"?([^":\n]+)"?:[ \t]+(\d{1,18})\.?[ \t]*$', re.MULTILINE)
_PAGE_BYTES = re.compile(r"page size of (\d{1,7}) bytes")
_FEATURE = "hw.optional.arm."
_CPU_LIMIT = 1024
_PERCENT = 100
_POWER_MODES = {"0": "automatic", "1": "low power", "2": "high power"}
_AVAILABLE = ("Pages free", "Pages speculative", "Pages inactive")
"""What psutil counts as available. `vm_stat` leaves the speculative pages out of the free ones."""


def root(transport: Transport) -> str:
    """Return melt's folder, where it is on Linux too. Raises DeviceError where the user has no home, TransportError."""
    return linux.root(transport)


def settings(snapshot: Snapshot) -> dict[str, str]:
    """Return what sysctl listed, by name."""
    return dict(_SETTING.findall(text_of(snapshot, "$ sysctl") or ""))


def memory_bytes(text: str) -> dict[str, int]:
    """Return the pages that `vm_stat` counts, in bytes, by their names; nothing where it does not say a page's size."""
    size = _PAGE_BYTES.search(text)
    return {} if size is None else {name: int(pages) * int(size[1]) for name, pages in _PAGES.findall(text)}


def available_bytes(text: str) -> int | None:
    """Return how much memory programs can have without swapping, out of `vm_stat`."""
    pages = memory_bytes(text)
    return sum(pages[name] for name in _AVAILABLE) if all(name in pages for name in _AVAILABLE) else None


def parse_facts(snapshot: Snapshot, *, device_id_hint: str, kind: str) -> DeviceFacts:
    """Return what a snapshot says of its Mac; what it does not say is None.

    `device_id_hint` tells Macs apart whose registry is hidden; `kind` is how the Mac is reached.
    """
    said = settings(snapshot)
    cpus = _cpus(said)
    return DeviceFacts(
        device_id=_device_id(snapshot, device_id_hint),
        kind=kind,
        name=_registry(snapshot, "$ ioreg product", "product-name") or said.get("hw.model") or device_id_hint,
        os="macos",
        os_build=_os_build(snapshot, said),
        kernel=said.get("kern.osrelease"),
        arch=text_of(snapshot, "$ uname -m") or "unknown",
        soc=_soc(said),
        cpus=cpus,
        memory_total_bytes=_whole(said.get("hw.memsize")),
        memory_available_bytes=available_bytes(text_of(snapshot, "$ vm_stat") or ""),
        boot_id=said.get("kern.bootsessionuuid") or None,
        virtualization=virtualization(snapshot),
        accelerators=_accelerators(snapshot),
        cpu_features=_features(said),
        power_mode=_power_mode(text_of(snapshot, "$ pmset") or ""),
        battery=_battery(text_of(snapshot, "$ ioreg capacity") or ""),
    )


def virtualization(snapshot: Snapshot) -> str | None:
    """Return which kind of virtual machine this is (`apple`: macOS as a guest of macOS), None on a real Mac."""
    said = settings(snapshot)
    if "Virtual" in f"{said.get('hw.model', '')} {said.get('machdep.cpu.brand_string', '')}":
        return "apple"
    return "virtual machine" if said.get("kern.hv_vmm_present") == "1" else None


def _features(said: dict[str, str]) -> tuple[str, ...]:
    return tuple(
        sorted(key[len(_FEATURE) :] for key, value in said.items() if key.startswith(_FEATURE) and value == "1")
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,18}", text) else None


def _registry(snapshot: Snapshot, command: str, key: str) -> str | None:
    """Return a text of the I/O registry: `"key" = "text"`, or `<"text">` where it comes from the device tree."""
    found = re.search(rf'^[ |]*"{re.escape(key)}" = <?"([^"\n]+)"', text_of(snapshot, command) or "", re.MULTILINE)
    return found[1].strip() or None if found else None


def _device_id(snapshot: Snapshot, hint: str) -> str:
    """Hash the platform's UUID, else the serial number: both name the machine to its maker, and stay on it."""
    keys = ("IOPlatformUUID", "IOPlatformSerialNumber")
    identity = next(filter(None, (_registry(snapshot, "$ ioreg platform", key) for key in keys)), hint)
    return "macos-" + hmac.new(identity.encode(), b"melt device", hashlib.sha256).hexdigest()[:16]


def _os_build(snapshot: Snapshot, said: dict[str, str]) -> str | None:
    found = dict(re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", text_of(snapshot, "$ sw_vers") or "", re.MULTILINE))
    version = found.get("ProductVersion") or said.get("kern.osproductversion")
    build = found.get("BuildVersion") or said.get("kern.osversion")
    # A Rapid Security Response changes the system and leaves both as they were.
    extra = found.get("ProductVersionExtra")
    if not version:
        return None
    return " ".join(filter(None, ("macOS", version, extra, f"({build})" if build else None)))


def _levels(said: dict[str, str]) -> list[tuple[str, int]]:
    """Return the kinds of cores, the fastest first: what the kernel calls each, and how many there are."""
    found: list[tuple[str, int]] = []
    while (count := _whole(said.get(f"hw.perflevel{len(found)}.logicalcpu"))) is not None:
        found.append((said.get(f"hw.perflevel{len(found)}.name") or f"level {len(found)}", min(count, _CPU_LIMIT)))
    return found


def _cpus(said: dict[str, str]) -> tuple[Cpu, ...]:
    """List the CPUs. The kernel numbers the slow ones first (seen on M1 to M4); macOS names no clocks."""
    levels = [level for level, (_, count) in enumerate(_levels(said)) for _ in range(count)]
    if levels:
        return tuple(Cpu(index=index, level=level) for index, level in enumerate(reversed(levels)))
    return tuple(Cpu(index=index) for index in range(min(_whole(said.get("hw.ncpu")) or 0, _CPU_LIMIT)))


def _soc(said: dict[str, str]) -> str | None:
    chip = said.get("machdep.cpu.brand_string")
    cores = " + ".join(f"{count}x {name}" for name, count in _levels(said))
    return f"{chip} ({cores})" if chip and cores else chip or cores or None


def _accelerators(snapshot: Snapshot) -> tuple[str, ...]:
    text = text_of(snapshot, "$ ioreg gpu") or ""
    names = re.findall(r'^[ |]*"model" = <?"([^"\n]+)"', text, re.MULTILINE)
    cores = re.findall(r'^[ |]*"gpu-core-count" = (\d{1,4})[ \t]*$', text, re.MULTILINE)
    return tuple(f"{name} GPU, {count} cores" for name, count in zip(names, cores, strict=False))


def _battery(text: str) -> Battery | None:
    """Read the battery's registry entry, mAh and mV: what it holds, else what it was designed for."""
    said = dict(re.findall(r'^[ |]*"(\w+)" = (\d{1,6})[ \t]*$', text, re.MULTILINE))
    volts = int(said.get("Voltage", "0")) / 1e3 or None
    for basis, key in (("measured", "AppleRawMaxCapacity"), ("design", "DesignCapacity")):
        # Of `MaxCapacity` Apple silicon makes a percentage.
        if (mah := int(said.get(key, "0"))) > _PERCENT:
            return Battery(basis=basis, source=f"ioreg {key}", charge_coulomb=mah * 3.6, found_v=volts)
    return None


def _power_mode(text: str) -> str | None:
    """Name what the Mac may consume: `powermode` where there is a high-power mode, else `lowpowermode`."""
    found = dict(re.findall(r"^ *(powermode|lowpowermode|highpowermode)[ \t]+(\d)[ \t]*$", text, re.MULTILINE))
    if "powermode" in found:
        return _POWER_MODES.get(found["powermode"])
    if found.get("highpowermode") == "1":
        return "high power"
    return _POWER_MODES.get(found.get("lowpowermode", ""))
