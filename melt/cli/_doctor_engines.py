"""Which engines can run on a device: in melt's own Python, in that of `melt provision`, or as a pushed program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.records import DeviceFacts
    from melt.targets.base import Target

_LLAMA = "llama.cpp"
_ONNX = "onnxruntime"
_PACKAGES = {
    _LLAMA: ("llama-cpp-python", "pip install 'melt[llama]'"),
    _ONNX: ("onnxruntime", "pip install 'melt[onnx]'"),
}
_NATIVE = "llama.cpp-native"


@dataclass(frozen=True, slots=True)
class Engine:
    """`version`: None where it cannot run yet; `remedy` says what to do about it."""

    name: str
    version: str | None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Engines:
    """What can run on a device. `python` is the interpreter of runners there, None where they are programs."""

    engines: tuple[Engine, ...]
    python: str | None = None


def engines_of(target: Target) -> Engines:
    """Return each engine that can run on a device, or could. Raises TransportError."""
    if target.facts.os == "android":
        return Engines((_native(target.facts),))
    if target.shares_files:
        return Engines(tuple(_installed_here(name, *package) for name, package in _PACKAGES.items()))
    return _provisioned(target)


def _provisioned(target: Target) -> Engines:
    """Say what the environment of `melt provision` has."""
    from melt.targets.base import VENV
    from melt.targets.provision import provisioned

    found = provisioned(target.transport, target.root)
    remedy = f"`melt provision {target.id.partition(':')[2]}`"
    if found is None:
        lacking = f"no engine is on the device: {remedy} makes a Python of melt's own there, with the engines in it"
        return Engines((Engine(_LLAMA, None, lacking),), f"{target.python}, the device's own")
    built_for = f" for {found.backend}" if found.backend else ""
    versions = {_LLAMA: (found.llama_cpp_version, built_for), _ONNX: (found.onnxruntime_version, "")}
    engines = []
    for name, (version, suffix) in versions.items():
        package = _PACKAGES[name][0]
        pin = next((pin for pin in found.lacking if pin.startswith(f"{package}==")), None)
        behind = f"the device's {VENV} is without {pin}: {remedy} brings it up to date" if pin else None
        engines.append(Engine(name, f"{package} {version}{suffix}" if version else None, behind))
    return Engines(tuple(engines), f"{found.python} in {target.root}/{VENV}")


def _native(facts: DeviceFacts) -> Engine:
    from melt.engines.registry import get
    from melt.errors import MeltError

    try:
        built = get(_NATIVE).for_device(facts).built_runner()
    except MeltError as error:
        return Engine(_NATIVE, None, f"{error}; or give a binary of yours, `{_NATIVE}:PATH`")
    return Engine(_NATIVE, f"variant {built.variant}" if built else None)


def _installed_here(engine: str, package: str, remedy: str) -> Engine:
    """Look for an engine that runs in melt's own Python."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Engine(engine, f"{package} {version(package)}")
    except PackageNotFoundError:
        return Engine(engine, None, f"engine {engine} is not installed here: `{remedy}`")
