"""What `melt quants` runs: the flags that shape it, and the runs that they make."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.analysis.candidates import Workloads
    from melt.records import RunSpec

LEVELS = "q8_0,q6_k,q5_k_m,q4_k_m,q4_0,q3_k_m,q2_k"
_SUSTAINED_TOKENS = 32
"""Short requests: the curve of a sustained run has a point for each, and needs 16 of them to tell a steady rate."""

_NO_SUSTAINED = ("0", "0s", "0m")
_SETTINGS = ("threads", "n_gpu_layers")


@dataclass(frozen=True, slots=True)
class Asked:
    """The runs that a table of levels takes, in order. `levels` maps the quant of a spec to the level's name."""

    sweep_id: str
    specs: tuple[RunSpec, ...]
    device: str
    levels: dict[str, str]
    workloads: Workloads


def add_quants_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is run and how often."""
    what = parser.add_argument_group("what is run", "On the device: requests one by one, then under load.")
    what.add_argument("--device", metavar="NAME", default="local", help="device (default: local, this machine)")
    what.add_argument(
        "-q", "--quant", metavar="LEVELS", default=LEVELS, help=f"levels, families (Q4), patterns (default: {LEVELS})"
    )
    what.add_argument("-p", "--n-prompt", metavar="N", default="512", help="tokens of a prompt (default: 512)")
    what.add_argument("-n", "--n-gen", metavar="N", default="128", help="tokens of an answer (default: 128)")
    what.add_argument(
        "--sustained",
        metavar="TIME",
        default="60s",
        help=f"how long requests of {_SUSTAINED_TOKENS} tokens follow each other in a run under load (default: 60s; a "
        "phone may need 5m to get as hot as it gets); 0: no such runs",
    )
    what.add_argument("--sessions", metavar="N", default="3", help="runs of each level and workload (default: 3)")
    what.add_argument("-r", "--repetitions", metavar="N", default="3", help="measured requests in a run (default: 3)")
    what.add_argument("-t", "--threads", metavar="N", help="threads (default: one for each fast CPU)")
    what.add_argument("-ngl", "--n-gpu-layers", metavar="N", help="layers on the GPU; -1: all")
    what.add_argument(
        "--condition", metavar="KEY=VALUE", action="append", default=[], help="state of the device, such as screen=off"
    )
    what.add_argument(
        "--gate", metavar="KEY=VALUE", action="append", default=[], help="before a run, such as temperature_max_c=35"
    )


def asked_runs(args: argparse.Namespace) -> Asked:
    """Return the runs that the flags ask for. Raises UsageError, ModelError for an unknown model, level or device."""
    from melt.analysis.candidates import Workloads
    from melt.fleet.fitting import fitting
    from melt.fleet.names import check_names, resolve_devices
    from melt.models.levels import select_levels
    from melt.models.library import Library
    from melt.plan.devices import by_model
    from melt.plan.expand import expand
    from melt.plan.flags import PlanFlags, plan_from_flags
    from melt.plan.ids import new_id
    from melt.plan.values import duration
    from melt.plan.workloads import tokens

    levels = {level.name.lower(): level.name for level in select_levels(args.quant)}
    words = [f"pp{_checked('-p', tokens, args.n_prompt)}+tg{_checked('-n', tokens, args.n_gen)}"]
    if args.sustained not in _NO_SUSTAINED:
        words.append(f"tg{_SUSTAINED_TOKENS} for {_checked('--sustained', duration, args.sustained):.12g}s")
    flags = PlanFlags(
        name="quants",
        devices=(args.device,),
        models=(args.model,),
        quants=tuple(levels),
        workloads=tuple(words),
        settings={name: (value,) for name in _SETTINGS if (value := getattr(args, name)) is not None},
        repeat={"sessions": args.sessions, "repetitions": args.repetitions},
        conditions=tuple(args.condition),
        gate=tuple(args.gate),
    )
    plan = plan_from_flags(flags)
    if by_model(plan.devices[0]) or len(plan.devices) > 1:
        raise UsageError(f"--device: the levels are for one device, and {args.device!r} may be several: name one")
    if len(plan.settings) > 1 or len(plan.conditions) > 1:
        raise UsageError("levels are compared in one state of the device: give -t, -ngl and each condition one value")
    if not args.from_store:
        plan = resolve_devices(plan)
    sweep_id = new_id()
    known = fitting(Library(), fetch=False)
    if known.kind(args.model).generates is False:
        raise UsageError(
            f"{args.model} generates no tokens, and these levels are compared by how it does: compare them with "
            f"`melt run -m {args.model} --quant fp32,int8-dynamic` instead"
        )
    specs = expand(plan, sweep_id=sweep_id, new_run_id=new_id, fitting=known)
    check_names(specs)
    # One stretch of load is one measurement, however many requests it holds.
    specs = tuple(
        replace(spec, repeat=replace(spec.repeat, repetitions=1)) if spec.workload.kind == "sustained" else spec
        for spec in specs
    )
    return Asked(sweep_id, specs, plan.devices[0], levels, Workloads(*plan.workloads))


def _checked(flag: str, read: Callable[[str], float], text: str) -> float:
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error
