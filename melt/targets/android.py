"""What an Android phone is, out of its properties and what /proc and /sys let the shell user read."""

from __future__ import annotations

import hashlib
import hmac
import re

from melt.records import DeviceFacts
from melt.targets import battery
from melt.targets.arm import describe_cores
from melt.targets.cpus import CPU_GLOBS, common_features, usable_cpus
from melt.targets.probe import Snapshot, keyed_bytes, text_of
from melt.transports.base import Transport

FACT_GLOBS: tuple[str, ...] = (
    *CPU_GLOBS,
    *battery.PHONE_GLOBS,
    "/proc/meminfo",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/random/boot_id",
)

FACT_COMMANDS: dict[str, tuple[str, ...]] = {
    "getprop": ("getprop",),
    "uname -m": ("uname", "-m"),
    "uname -r": ("uname", "-r"),
}

_PROPERTY = re.compile(r"^\[([^\]\n]+)\]: \[(.*?)\]\r?$", re.MULTILINE | re.DOTALL)
_MARKETING_NAMES = (
    "ro.product.marketname",
    "ro.config.marketing_name",
    "ro.vendor.product.display",
    "ro.product.nickname",
)
_CHIP_NAMES = ("ro.soc.model", "ro.chipname", "ro.hardware.chipname", "ro.board.platform")
_EMULATOR_HARDWARE = ("goldfish", "ranchu", "cutf_cvm")


def root(transport: Transport) -> str:
    """Return melt's folder: where the shell user may write and start programs."""
    del transport
    return "/data/local/tmp/melt"


def properties(snapshot: Snapshot) -> dict[str, str]:
    """Return the system properties that `getprop` listed."""
    return dict(_PROPERTY.findall(text_of(snapshot, "$ getprop") or ""))


def parse_facts(snapshot: Snapshot, *, device_id_hint: str, kind: str) -> DeviceFacts:
    """Return what a snapshot says of its phone; what it does not say is None.

    `device_id_hint` tells phones apart that hide their serial number; `kind` is how the phone is reached.
    """
    props = properties(snapshot)
    cpuinfo = text_of(snapshot, "/proc/cpuinfo") or ""
    memory = keyed_bytes(snapshot, "/proc/meminfo")
    return DeviceFacts(
        device_id=_device_id(props, device_id_hint),
        kind=kind,
        name=_name(props) or device_id_hint,
        os="android",
        os_build=_os_build(props),
        kernel=text_of(snapshot, "/proc/sys/kernel/osrelease") or text_of(snapshot, "$ uname -r"),
        arch=text_of(snapshot, "$ uname -m") or "unknown",
        soc=_soc(props, cpuinfo),
        cpus=usable_cpus(snapshot),
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        swap_free_bytes=memory.get("SwapFree"),
        boot_id=text_of(snapshot, "/proc/sys/kernel/random/boot_id"),
        virtualization=_virtualization(props),
        accelerators=_accelerators(props),
        cpu_features=common_features(cpuinfo),
        battery=battery.of_phone(snapshot),
    )


def _device_id(props: dict[str, str], hint: str) -> str:
    """Hash the serial number: it is stable, and it names its owner to shops and makers, so it stays on the phone."""
    identity = props.get("ro.serialno") or props.get("ro.boot.serialno") or hint
    return "android-" + hmac.new(identity.encode(), b"melt device", hashlib.sha256).hexdigest()[:16]


def _name(props: dict[str, str]) -> str | None:
    maker = props.get("ro.product.manufacturer", "")
    model = next(filter(None, map(props.get, (*_MARKETING_NAMES, "ro.product.model"))), None)
    if model is None:
        return None
    # Some write their name themselves, in letters of any size: `Xiaomi 13` by `Xiaomi`, `moto g84` by `motorola`.
    return model if not maker or model.lower().startswith(maker.lower()) else f"{_capital(maker)} {model}"


def _capital(maker: str) -> str:
    return maker[:1].upper() + maker[1:]


def _os_build(props: dict[str, str]) -> str | None:
    release, build = props.get("ro.build.version.release"), props.get("ro.build.id")
    if not release:
        return None
    # Vendors change their builds without changing Google's build id: the incremental number tells them apart.
    return " ".join(filter(None, (f"Android {release}", build, props.get("ro.build.version.incremental"))))


def _soc(props: dict[str, str], cpuinfo: str) -> str | None:
    chip = next(filter(None, map(props.get, _CHIP_NAMES)), None)
    maker = props.get("ro.soc.manufacturer")
    if chip and maker and not chip.lower().startswith(maker.lower()):
        chip = f"{maker} {chip}"
    found = (
        re.findall(rf"^{key}[ \t]*:[ \t]*(0x[0-9a-f]+)", cpuinfo, re.MULTILINE)
        for key in ("CPU implementer", "CPU part")
    )
    implementers, parts = found
    cores = describe_cores([(int(i, 16), int(p, 16)) for i, p in zip(implementers, parts, strict=False)])
    return f"{chip} ({cores})" if chip and cores else chip or cores or None


def _virtualization(props: dict[str, str]) -> str | None:
    if props.get("ro.melt.virtual") == "1":
        return "virtual phone, CPU emulated"
    hardware = props.get("ro.hardware", "")
    emulated = props.get("ro.kernel.qemu") == "1" or props.get("ro.boot.qemu") == "1"
    return "emulator" if emulated or hardware in _EMULATOR_HARDWARE else None


def _accelerators(props: dict[str, str]) -> tuple[str, ...]:
    names = (props.get("ro.hardware.vulkan"), props.get("ro.hardware.egl"))
    return tuple(dict.fromkeys(f"GPU driver {name}" for name in names if name))
