"""What a Linux device is, out of a snapshot of it. Each fact is a file or a command, and a pure parser."""

from __future__ import annotations

import hashlib
import hmac
import re

from melt._layout import state_dir
from melt.errors import DeviceError
from melt.records import DeviceFacts
from melt.targets import battery, devicetree, jetson
from melt.targets.arm import describe_cores
from melt.targets.cpus import CPU_GLOBS, common_features, usable_cpus
from melt.targets.devicetree import tree_text
from melt.targets.probe import Snapshot, keyed_bytes, text_of
from melt.transports.base import Transport

_DMI = "/sys/class/dmi/id"

FACT_GLOBS: tuple[str, ...] = (
    *CPU_GLOBS,
    *battery.GLOBS,
    "/etc/machine-id",
    "/etc/os-release",
    "/usr/lib/os-release",
    "/proc/meminfo",
    "/proc/sys/kernel/arch",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/random/boot_id",
    *devicetree.globs("compatible", "model", "serial-number", "hypervisor/compatible"),
    "/sys/hypervisor/type",
    f"{_DMI}/product_name",
    f"{_DMI}/product_version",
    f"{_DMI}/sys_vendor",
    "/.dockerenv",
    "/run/.containerenv",
    "/run/systemd/container",
    *jetson.FACT_GLOBS,
)

FACT_COMMANDS: dict[str, tuple[str, ...]] = {
    "uname -m": ("uname", "-m"),
    "nvidia-gpus": ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
    **jetson.FACT_COMMANDS,
}

_PLACEHOLDERS = ("", "to be filled by o.e.m.", "system product name", "system manufacturer", "default string", "none")
_UNKNOWN = "[N/A]"
_X86 = ("x86_64", "i686", "i386")
_HYPERVISORS = {
    "qemu": "kvm",
    "kvm": "kvm",
    "vmware": "vmware",
    "virtualbox": "virtualbox",
    "innotek": "virtualbox",
    "microsoft corporation virtual": "hyperv",
    "xen": "xen",
    "amazon ec2": "amazon",
    "google compute engine": "google",
    "parallels": "parallels",
    "apple virtualization": "apple",
    "openstack": "kvm",
}


def root(transport: Transport) -> str:
    """Return melt's folder: with this user's state on this machine, in the user's home elsewhere.

    Raises DeviceError where the user has no home, TransportError.
    """
    return str(state_dir("device")) if transport.name == "local" else f"{home(transport)}/.melt"


def home(transport: Transport) -> str:
    """Return the user's home on a device. Raises DeviceError, TransportError."""
    said = transport.run(("sh", "-c", 'printf %s "$HOME"')).stdout.decode(errors="surrogateescape")
    if not said.startswith("/") or said == "/":
        raise DeviceError(f"{transport.name}: this user has no home folder there (HOME is {said!r}): use another user")
    return said.rstrip("/")


def parse_facts(snapshot: Snapshot, *, device_id_hint: str, kind: str) -> DeviceFacts:
    """Return what a snapshot says of its device; what it does not say is None.

    `device_id_hint` tells devices apart that have no machine-id; `kind` is how the device is reached.
    """
    virtual = virtualization(snapshot)
    meminfo = keyed_bytes(snapshot, "/proc/meminfo")
    on_jetson = jetson.is_jetson(snapshot)
    return DeviceFacts(
        device_id=_device_id(snapshot, device_id_hint),
        kind=kind,
        name=_name(snapshot, virtual) or device_id_hint,
        os="linux",
        os_build=_os_build(snapshot),
        kernel=text_of(snapshot, "/proc/sys/kernel/osrelease"),
        arch=_arch(snapshot),
        soc=_soc(snapshot),
        cpus=usable_cpus(snapshot),
        memory_total_bytes=meminfo.get("MemTotal"),
        memory_available_bytes=meminfo.get("MemAvailable"),
        swap_free_bytes=meminfo.get("SwapFree"),
        boot_id=text_of(snapshot, "/proc/sys/kernel/random/boot_id"),
        virtualization=virtual,
        accelerators=_accelerators(snapshot),
        cpu_features=common_features(text_of(snapshot, "/proc/cpuinfo") or ""),
        power_mode=jetson.power_mode(snapshot) if on_jetson else None,
        clocks_locked=jetson.clocks_locked(snapshot) if on_jetson else None,
        battery=battery.of_laptop(snapshot),
    )


def virtualization(snapshot: Snapshot) -> str | None:
    """Return which kind of virtual machine or container the device is (`kvm`, `docker`, `virtual machine`), or None."""
    container = text_of(snapshot, "/run/systemd/container")
    if container is None and "/.dockerenv" in snapshot:
        container = "docker"
    if container is None and "/run/.containerenv" in snapshot:
        container = "podman"
    parts = [part for part in (_machine(snapshot), container) if part is not None]
    return " + ".join(parts) or None


def _machine(snapshot: Snapshot) -> str | None:
    vendor, product = (text_of(snapshot, f"{_DMI}/{key}") or "" for key in ("sys_vendor", "product_name"))
    said = f"{vendor} {product}".lower()
    tree = tree_text(snapshot, "hypervisor/compatible")
    flagged = _has_flag(snapshot, "hypervisor")
    # x86 tells by a flag. Elsewhere only names tell, and clouds give their real machines ("metal") the same vendor.
    if not flagged and tree is None and (_arch(snapshot) in _X86 or "metal" in said):
        return text_of(snapshot, "/sys/hypervisor/type")
    known = next((name for word, name in _HYPERVISORS.items() if word in said), None)
    if known is None and tree is not None:
        known = "xen" if "xen" in tree else "kvm"
    return known or text_of(snapshot, "/sys/hypervisor/type") or ("virtual machine" if flagged else None)


def _device_id(snapshot: Snapshot, hint: str) -> str:
    """Hash what is stable over reboots. A machine-id is private (machine-id(5)) and never leaves as it is.

    A board's serial number comes first: boards that were flashed with one image share its machine-id.
    """
    identity = tree_text(snapshot, "serial-number") or text_of(snapshot, "/etc/machine-id")
    if identity is None or identity == "uninitialized":
        keys = (text_of(snapshot, "/proc/sys/kernel/hostname"), _soc(snapshot), hint)
        identity = "\0".join(key or "" for key in keys)
    return "linux-" + hmac.new(identity.encode(), b"melt device", hashlib.sha256).hexdigest()[:16]


def _name(snapshot: Snapshot, virtual: str | None) -> str | None:
    hostname = text_of(snapshot, "/proc/sys/kernel/hostname")
    if jetson.is_jetson(snapshot):
        return jetson.name(snapshot) or hostname
    if virtual is not None:
        return hostname
    vendor, product, version = (_dmi(snapshot, key) for key in ("sys_vendor", "product_name", "product_version"))
    if vendor == "LENOVO" and version:
        product = version  # Lenovo keeps the name of the model here, and a type number in product_name.
    if product:
        return product if not vendor or product.startswith(vendor) else f"{vendor} {product}"
    return tree_text(snapshot, "model") or hostname


def _dmi(snapshot: Snapshot, key: str) -> str:
    text = text_of(snapshot, f"{_DMI}/{key}") or ""
    return "" if text.lower() in _PLACEHOLDERS else text


def _os_build(snapshot: Snapshot) -> str | None:
    return jetson.os_build(snapshot) or _distribution(snapshot)


def _distribution(snapshot: Snapshot) -> str | None:
    text = text_of(snapshot, "/etc/os-release") or text_of(snapshot, "/usr/lib/os-release") or ""
    fields = {key: value.strip("\"'") for key, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}
    name = fields.get("PRETTY_NAME") or fields.get("NAME")
    build = fields.get("BUILD_ID") or fields.get("IMAGE_VERSION")
    return f"{name} {build}" if name and build and build not in name else name


def _arch(snapshot: Snapshot) -> str:
    said = text_of(snapshot, "$ uname -m") or text_of(snapshot, "/proc/sys/kernel/arch")
    return said or "unknown"


def _cpuinfo(snapshot: Snapshot, key: str) -> list[str]:
    text = text_of(snapshot, "/proc/cpuinfo") or ""
    return re.findall(rf"^{key}[ \t]*:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)


def _has_flag(snapshot: Snapshot, flag: str) -> bool:
    return any(flag in flags.split() for flags in _cpuinfo(snapshot, "flags")[:1])


def _soc(snapshot: Snapshot) -> str | None:
    """Name the chip: the model on x86; on Arm the device tree's last word, or `Hardware`, and the cores."""
    models = _cpuinfo(snapshot, "model name")
    implementers, parts = _cpuinfo(snapshot, "CPU implementer"), _cpuinfo(snapshot, "CPU part")
    if models and not implementers:
        return re.sub(r"\s+", " ", models[0])
    chip = next(iter(_cpuinfo(snapshot, "Hardware")), None)
    compatible = tree_text(snapshot, "compatible")
    if compatible:
        chip = jetson.chip(snapshot) or compatible.split("\0")[-1].split(",")[-1]
    cores = _arm_cores(implementers, parts)
    return f"{chip} ({cores})" if chip and cores else chip or cores


def _arm_cores(implementers: list[str], parts: list[str]) -> str | None:
    try:
        pairs = [(int(i, 16), int(p, 16)) for i, p in zip(implementers, parts, strict=False)]
    except ValueError:
        return None
    return describe_cores(pairs) or None


def _accelerators(snapshot: Snapshot) -> tuple[str, ...]:
    rows = (text_of(snapshot, "$ nvidia-gpus") or "").splitlines()
    fields = [fields for row in rows if len(fields := [field.strip() for field in row.split(",")]) == 3]
    # The GPU of a Jetson has no memory of its own, and nvidia-smi knows little of it before JetPack 7.
    drivers = [driver for _, driver, memory in fields if memory == _UNKNOWN != driver]
    integrated = jetson.gpu(snapshot, next(iter(drivers), None))
    cards = (f for f in fields if integrated is None or f[2] != _UNKNOWN)
    found = tuple(f"{name}, {memory}, driver {driver}" for name, driver, memory in cards)
    return found if integrated is None else (integrated, *found)
