"""What a device is, and what was changed on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """One logical CPU as the kernel numbers it.

    `level` is the kind of its core where the kernel ranks the kinds instead of naming clocks (macOS): 0 is the fastest.
    """

    index: int
    max_hz: float | None = None
    core: int | None = None
    package: int | None = None
    governor: str | None = None
    level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """What a device's battery holds when it is full: `charge_coulomb`, or `energy_j` where its gauge counts energy.

    `basis` is `measured` for what the gauge last found it to hold, `design` for what it held when it was new.
    `nominal_v` is the mean voltage over a discharge by its maker, `found_v` the voltage when the device was looked at.
    `source` is the file, program or page that said it.
    """

    basis: str
    source: str
    charge_coulomb: float | None = None
    energy_j: float | None = None
    nominal_v: float | None = None
    found_v: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """How fast the CPUs multiply and add what lies in their registers, by `threads` threads together.

    A multiply-add is two operations. `int8_path` and `f32_path` are the instructions that did it, as the kernel names
    them (`i8mm`, `avx512_vnni`), or `plain`.
    """

    int8_ops_per_s: float
    int8_path: str
    f32_ops_per_s: float
    f32_path: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a device is and in which state it was found. `device_id` is stable over reboots, `boot_id` is not.

    `cpu_features` are those that every CPU has, as the kernel names them (`asimddp`, `i8mm`, `avx2`). `power_mode` is
    what the device calls its budget of power (`15W` of nvpmodel, `low power` of macOS); `clocks_locked` whether its
    clocks were fixed by hand (jetson_clocks). `swap_free_bytes` is told where the kernel has a swap space of a fixed
    size. None: there is no such thing, or it could not be read.
    """

    device_id: str
    kind: str
    name: str
    os: str
    os_build: str | None
    kernel: str | None
    arch: str
    soc: str | None = None
    cpus: tuple[Cpu, ...] = ()
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_free_bytes: int | None = None
    boot_id: str | None = None
    virtualization: str | None = None
    accelerators: tuple[str, ...] = ()
    cpu_features: tuple[str, ...] = ()
    memory_bandwidth_bytes_per_s: float | None = None
    compute: Compute | None = None
    power_mode: str | None = None
    clocks_locked: bool | None = None
    battery: Battery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A condition as it was found and as it was asked for, in the device's own words; None: could not be read."""

    name: str
    before: str | None
    asked: str
