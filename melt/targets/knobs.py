"""Conditions of a run made into what the agent sets, reads back and restores. Nothing is changed from here.

The state is read, and the job then says what to set, how to read it back, and how to put back what was found: so no
condition is touched before the agent that will undo it runs on the device.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from melt.errors import DeviceError, UsageError
from melt.records import Conditions, Cpu, DeviceFacts, Knob
from melt.targets.jobfile import Prepare, RestoreExec
from melt.transports.base import Completed

Argv = tuple[str, ...]
Run = Callable[[Sequence[str]], Completed]
"""Runs a program on the device that changes nothing."""

CHECK = "check "
"""What the name of a `prepared` event begins with that reads a knob back; the rest is the knob's name."""

_FAMILIES = {"phones": "melt.targets.android_knobs", "Jetson boards": "melt.targets.jetson_knobs"}
"""Whose knobs there are, and the module that knows them."""

_ON_THE_HOST = ("cluster", "usb_power")
"""Conditions that are no setting of the device: CPUs are chosen by the agent, the port's power is the hub's."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One knob: its state as found, the programs that set it, the one that reads it back, those that restore it.

    `asked` is what `check` prints once it is set; `before` None: its state cannot be read. `cpus` are those that a
    runner may use then, None: the same as before.
    """

    name: str
    before: str | None
    asked: str
    set: tuple[Argv, ...]
    check: Argv
    restore: tuple[Argv, ...]
    cpus: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """The device whose knobs are planned: what is known of it, how to ask it, and how it is reached.

    `folder` is the job's on the device, where what must outlive the link may be kept; it need not exist yet.
    """

    facts: DeviceFacts
    run: Run
    selector: str
    folder: str


class Family(Protocol):
    """What the module of a kind of devices offers."""

    KNOBS: Collection[str]

    def plan(self, wanted: Mapping[str, object], device: Device) -> list[Setting]:
        """Read the knobs that are wanted and plan them, in order. Raises UsageError, DeviceError, TransportError."""
        ...


@dataclass(frozen=True, slots=True)
class KnobPlan:
    """What a job needs for the conditions of a run; all empty where none is asked for.

    `cpus` are those that a runner may use once all is set, None: those of the device's facts.
    """

    knobs: tuple[Knob, ...] = ()
    prepares: tuple[Prepare, ...] = ()
    restores: tuple[RestoreExec, ...] = ()
    affinity: str | None = None
    cpus: tuple[Cpu, ...] | None = None


def plan_knobs(conditions: Conditions, facts: DeviceFacts, run: Run, selector: str = "", folder: str = "") -> KnobPlan:
    """Read the knobs that a run asks for and plan how each is set, read back and restored.

    `selector` is how the device is reached: what would cut that link is refused. `folder` is the job's on the device.
    Raises UsageError for a condition that this device does not know; DeviceError where a state that must be put back
    cannot be read; TransportError.
    """
    if conditions.usb_power is not None and facts.kind != "adb":
        raise UsageError(
            "conditions: usb_power: only phones go on from their battery while their USB port is off: "
            f"leave it out for {facts.name}"
        )
    affinity = None if conditions.cluster is None else cluster_cpus(facts.cpus, conditions.cluster)
    settings = _settings(conditions, Device(facts, run, selector, folder))
    online = next((s.cpus for s in settings if s.cpus is not None), None)
    known = {cpu.index: cpu for cpu in facts.cpus}
    return KnobPlan(
        knobs=tuple(Knob(name=s.name, before=s.before, asked=s.asked) for s in settings),
        prepares=tuple(p for s in settings for p in _prepares(s)),
        # In reverse: the screen is put back last, where it was set first.
        restores=tuple(RestoreExec(argv) for s in reversed(settings) for argv in s.restore),
        affinity=affinity,
        cpus=None if online is None else tuple(known.get(index) or Cpu(index=index) for index in online),
    )


def asked(conditions: Conditions) -> dict[str, object]:
    """Return the conditions that are settings of the device and were asked for."""
    names = (name for name in Conditions.__dataclass_fields__ if name not in _ON_THE_HOST)
    return {name: value for name in names if (value := getattr(conditions, name)) is not None}


def cluster_cpus(cpus: Sequence[Cpu], name: str) -> str:
    """Return the CPU list of a cluster: `little` the slowest clock, `big` the fastest of several CPUs, and so on.

    Clusters are told apart by their highest clock. `prime` is a single CPU that is faster than all others; `mid` is
    what stands between little and big. Raises UsageError where the device has none of that name.
    """
    groups: dict[float, list[int]] = {}
    for cpu in cpus:
        if cpu.max_hz:
            groups.setdefault(cpu.max_hz, []).append(cpu.index)
    ordered = [groups[clock] for clock in sorted(groups)]
    named: dict[str, list[int]] = {}
    if len(ordered) > 1:
        if len(ordered) > 2 and len(ordered[-1]) == 1:
            named["prime"] = ordered.pop()
        named["little"], named["big"] = ordered[0], ordered[-1]
        if len(ordered) > 2:
            named["mid"] = [cpu for group in ordered[1:-1] for cpu in group]
    if name not in named:
        has = f"it has {', '.join(sorted(named))}" if named else "its CPUs cannot be told apart by their clocks"
        raise UsageError(f"conditions: cluster: this device has no CPUs called {name!r}: {has}")
    return ",".join(map(str, sorted(named[name])))


def _settings(conditions: Conditions, device: Device) -> list[Setting]:
    wanted = asked(conditions)
    if not wanted:
        return []
    families = {name: cast(Family, importlib.import_module(module)) for name, module in _FAMILIES.items()}
    own = families.get(_family(device.facts) or "")
    absent = [name for name in wanted if own is None or name not in own.KNOBS]
    if own is None or absent:
        owners = (
            f"{family} have {', '.join(theirs)}"
            for family, module in families.items()
            if (theirs := [name for name in absent if name in module.KNOBS])
        )
        raise UsageError(
            f"conditions: {device.facts.name} ({device.facts.os}) has no knob {', '.join(absent)}: "
            f"{'; '.join(owners)}; leave {'them' if len(absent) > 1 else 'it'} out of the plan for this device"
        )
    # Two conditions may need the same setting; what it was before is the same for both.
    return list({s.name: s for s in own.plan(wanted, device)}.values())


def _family(facts: DeviceFacts) -> str | None:
    if facts.os == "android":
        return "phones"
    return "Jetson boards" if facts.os == "linux" and (facts.soc or "").startswith("tegra") else None


def _prepares(setting: Setting) -> list[Prepare]:
    sets = [Prepare(f"set {setting.name}", argv) for argv in setting.set]
    return [*sets, Prepare(CHECK + setting.name, setting.check)]


def said(run: Run, argv: Sequence[str], what: str) -> str:
    """Return what a program prints. Raises DeviceError naming what could not be read."""
    done = run(argv)
    if done.exit_code:
        complaint = done.stderr.decode(errors="replace").strip() or f"exit code {done.exit_code}"
        raise DeviceError(f"conditions: {what} cannot be read, so it could not be put back: {complaint}")
    return done.stdout.decode(errors="replace")
