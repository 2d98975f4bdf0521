"""Which phone is played: a data file per model in profiles/, read before anything is isolated."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

FOLDER = Path(__file__).parent / "profiles"
_T = TypeVar("_T")


class BadProfile(Exception):
    """A profile cannot be used; the sentence says why."""


@dataclass(frozen=True)
class Cluster:
    """CPUs of one kind. `id` is what /proc/cpuinfo shows: implementer, variant, part, revision."""

    cpus: int
    id: str
    min_khz: int
    max_khz: int
    capacity: int
    governor: str = "schedutil"


@dataclass(frozen=True)
class Cpu:
    """`features` is the line of /proc/cpuinfo, `qemu` the emulated model that dies on what the phone cannot do."""

    qemu: str
    features: str
    clusters: tuple[Cluster, ...]
    bogomips: str = "38.40"
    cpuinfo_head: str = ""
    cpuinfo_tail: str = ""


@dataclass(frozen=True)
class Battery:
    """`current_per_a`: what current_now shows while one ampere flows INTO the battery; its sign is the vendor's."""

    capacity_uah: int
    current_per_a: int
    level: int = 83
    voltage_uv: int = 4_012_000
    temperature_c: float = 31.0
    idle_a: float = 0.12
    screen_a: float = 0.22
    load_a: float = 1.1
    charge_a: float = 0.5
    suspendable: str = "none"
    """How charging can be stopped by the shell: `property`, `service`, `both` or `none`."""


@dataclass(frozen=True)
class Zone:
    """A thermal zone: at rest `rest_c`, and `follows` degrees warmer for each degree that the skin warms."""

    type: str
    rest_c: float
    follows: float = 1.0
    per_c: int = 1000


@dataclass(frozen=True)
class HalTemperature:
    """A line of dumpsys thermalservice. `zone` names the zone it shows, `value` a constant instead."""

    name: str
    type: int
    zone: str = ""
    value: float = 0.0


@dataclass(frozen=True)
class Thermal:
    """`throttle_c`: skin temperatures where frequencies begin to fall, and where only `lowest` of them is left."""

    zones: tuple[Zone, ...]
    skin: str
    throttle_c: tuple[float, float]
    lowest: float = 0.4
    hal: tuple[HalTemperature, ...] = ()
    """What the thermal HAL shows. Empty: there is none."""

    thresholds_c: tuple[float, ...] = ()
    """Skin temperatures of status 1 (light) to 6 (shutdown). Empty: the status stays 0 however hot it gets."""


@dataclass(frozen=True)
class Rail:
    """A rail of the on-device power monitor: at rest, and added under full load."""

    name: str
    subsystem: str
    idle_w: float
    load_w: float


@dataclass(frozen=True)
class Profile:
    """A phone."""

    title: str
    props: dict[str, str]
    kernel: str
    cpu: Cpu
    memory_kb: int
    battery: Battery
    thermal: Thermal
    rails: tuple[Rail, ...] = ()
    sysfs: dict[str, str] = field(default_factory=dict)
    """Further files below /sys, such as those of the GPU; they stay as they are."""

    features: tuple[str, ...] = ()
    screen: str = "1080x2400"
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    denied: tuple[str, ...] = ()
    """Patterns of paths that the shell may not read."""

    @property
    def sdk(self) -> int:
        """Android's API level."""
        return int(self.props["ro.build.version.sdk"])

    @property
    def cpu_clusters(self) -> list[tuple[int, Cluster]]:
        """Each CPU's number with its cluster."""
        kinds = [cluster for cluster in self.cpu.clusters for _ in range(cluster.cpus)]
        return list(enumerate(kinds))


def names() -> list[str]:
    """Return the profiles that are there."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Profile:
    """Read a profile by name or path. Raises BadProfile."""
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise BadProfile(f"no profile {name!r}; there are: {', '.join(names())}") from None
    except yaml.YAMLError as error:
        raise BadProfile(f"{path}: {error}") from None
    return _build(Profile, document, str(path))


def _build(kind: type[_T], document: object, where: str) -> _T:
    """Make a dataclass of a mapping, strictly: unknown and missing names are refused."""
    if not isinstance(document, Mapping):
        raise BadProfile(f"{where}: expected names with values")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(document) - set(fields))
    if unknown:
        raise BadProfile(f"{where}: unknown {unknown[0]!r}; known: {', '.join(fields)}")
    values = {name: _value(hints[name], document[name], f"{where}: {name}") for name in document}
    try:
        return kind(**values)
    except TypeError as error:
        raise BadProfile(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(
            _value(kind, part, f"{where}[{i}]") for i, (kind, part) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict and isinstance(value, dict):
        return {str(key): _value(arguments[1], part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(hint, types.GenericAlias) or (hint is not float and not isinstance(value, hint)):
        if hint is str and isinstance(value, int | float):
            return str(value).lower() if isinstance(value, bool) else str(value)
        raise BadProfile(f"{where}: {value!r} is not {getattr(hint, '__name__', hint)}")
    return float(value) if hint is float else value
