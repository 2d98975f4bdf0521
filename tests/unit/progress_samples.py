"""Sweeps in the middle of their work, made of the events that a fleet would tell, for the tests of what is shown."""

from __future__ import annotations

from dataclasses import replace

from store_samples import make_bundle

from melt.cli._progress_state import SweepState
from melt.events import (
    DeviceDone,
    DeviceSeen,
    Event,
    Note,
    Preparing,
    Reading,
    RunBegan,
    RunEnded,
    RunProgress,
    SweepPlanned,
    Waiting,
)
from melt.records import Outcome, Reason, RunSpec, Verdict, Workload
from melt.traces import RunBundle

MODEL = "smollm2-135m-instruct"
QUANTS = ("q8_0", "q4_k_m", "q4_0")
_BUNDLE = make_bundle()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def spec_of(device: str, number: int, model: str = MODEL) -> RunSpec:
    workload = Workload(n_prompt=512) if number % 2 else Workload(n_gen=128)
    return replace(
        _BUNDLE.start.spec,
        run_id=f"{device}-{number}",
        device=device,
        model=model,
        quant=QUANTS[number % len(QUANTS)],
        workload=workload,
        block=number // len(QUANTS),
        position=number,
    )


def ended(spec: RunSpec, outcome: Outcome = Outcome.OK, verdict: Verdict = Verdict.VALID) -> RunBundle:
    bundle = _BUNDLE
    reasons = () if outcome is Outcome.OK else (Reason(code="killed", message="the kernel killed it for memory"),)
    stop = replace(bundle.stop, run_id=spec.run_id, outcome=outcome, verdict=verdict, reasons=reasons)
    metrics = bundle.metrics if outcome is Outcome.OK else ()
    return replace(bundle, start=replace(bundle.start, spec=spec), stop=stop, metrics=metrics)


def selector(number: int) -> str:
    """Name the devices of a lab: phones, boards, one whose name is as long as names get, one in another script."""
    if number == 2:
        return "ssh:orin-nano-devkit-third-shelf-left.lab.example.org"
    return f"ssh:board{number}" if number % 4 == 1 else f"adb:R5CT{1000 + 37 * number}X"


def facts(number: int, device: str) -> DeviceSeen:
    known = _BUNDLE.start.device
    name = {0: "Pixel 8", 1: "Jetson Orin Nano", 2: "Orin", 3: "小米手机 13"}[number % 4]
    return DeviceSeen(device, replace(known, name=name, power_mode="15W" if number % 4 == 1 else None))


def events_of(n_devices: int, *, runs: int = 6, models: int = 1) -> list[Event]:
    """Tell a sweep until every device is somewhere else."""
    devices = [selector(number) for number in range(n_devices)]
    specs = {
        device: [spec_of(device, i, MODEL if i % models == 0 else "llama-3.2-1b-instruct") for i in range(runs)]
        for device in devices
    }
    everything = tuple(spec for own in specs.values() for spec in own)
    told: list[Event] = [SweepPlanned(everything, everything)]
    for number, device in enumerate(devices):
        told += _story(number % 8, number, device, specs[device])
    return told


def sweep_of(n_devices: int, *, runs: int = 6, models: int = 1) -> tuple[SweepState, Clock]:
    """Return what is known after `events_of`. Runs that have ended took a minute, nothing else lasts."""
    clock = Clock()
    state = SweepState(clock)
    for event in events_of(n_devices, runs=runs, models=models):
        clock.s += 60 if isinstance(event, RunEnded) else 0
        state.see(event)
    clock.s += 12
    return state, clock


def _story(kind: int, number: int, device: str, specs: list[RunSpec]) -> list[Event]:
    """What a device did until now; `kind` chooses how far it came."""
    first, second = specs[0], specs[1]
    events: list[Event] = [
        Preparing("connecting", 0, 0, device),
        Note("GPU load is not measured: the driver does not tell it", device=device),
        RunBegan(first),
        facts(number, device),
        Reading(device, 38.4 + number, None if number % 4 == 1 else 0.83),
    ]
    match kind:
        case 0:
            return [*events, RunProgress(first.run_id, "decode", 2, 6, None, 31.25)]
        case 1:
            return [*events, RunEnded(ended(first)), RunBegan(second), RunProgress(second.run_id, "load", 0, 6)]
        case 2:
            return [*events, Waiting(device, "temperature", 41.3, 38.0, "c", 510.0)]
        case 3:
            return [*events, Preparing(f"pushing {MODEL}-q8_0", 430, 1000, device)]
        case 4:
            over = [RunEnded(ended(first, Outcome.OOM, Verdict.INVALID))]
            for spec in specs[1:]:
                over += [RunBegan(spec), RunEnded(ended(spec))]
            return [*events, *over, DeviceDone(device)]
        case 5:
            return [events[0], Note(f"{device} does not trust this computer: unlock it and say yes", device=device)]
        case 6:
            return [*events, DeviceDone(device)]
    return []
