"""A plan from flags, alone or over a plan file, with llama-bench's habits: commas, repeated flags and ranges."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from melt.errors import PlanError, UsageError
from melt.plan import devices, grids, values, workloads
from melt.plan.model import ModelChoice, Plan, Reference, check_affinity, check_order, check_reference, check_size
from melt.plan.repeats import change_repeat
from melt.records import Conditions, Repeat, Settings, Thresholds, Workload

T = TypeVar("T")

_MAX_RANGE = 10_000
_INTEGERS = ("threads", "threads_batch", "n_batch", "n_ubatch", "n_gpu_layers", "seed", "inter_op_threads")
_FLAG_OF = {"timeout_s": "--timeout", "trip_c": "--trip", "min": "--min-sessions", "max": "--max-sessions"}
Texts = tuple[str, ...]


NO_FILE = "flags"
"""Name of every plan that flags alone have made: two of them need have nothing in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFlags:
    """What stood behind the flags of a command line, unread; empty or None where a flag was not given.

    A tuple has an entry each time the flag was given. `settings` maps a field of `records.Settings` to such a tuple;
    `conditions`, `gate` and `thresholds` have entries such as `screen=off`; `invalid` has codes of reasons.
    """

    name: str | None = None
    devices: Texts = ()
    models: Texts = ()
    quants: Texts = ()
    engines: Texts = ()
    workloads: Texts = ()
    n_prompt: Texts = ()
    n_gen: Texts = ()
    prompt_gen: Texts = ()
    depth: Texts = ()
    settings: Mapping[str, Texts] = field(default_factory=dict)
    repeat: Mapping[str, str] = field(default_factory=dict)
    sampling: Mapping[str, str] = field(default_factory=dict)
    conditions: Texts = ()
    gate: Texts = ()
    thresholds: Texts = ()
    invalid: Texts = ()
    order: str | None = None
    order_seed: str | None = None
    reference: bool = False
    grid: str | None = None
    profile: bool = False


def plan_from_flags(
    flags: PlanFlags,
    base: Plan | None = None,
    *,
    load_prompts: workloads.LoadPrompts | None = None,
    load_inputs: workloads.LoadInputs | None = None,
    load_grid: grids.LoadGrid | None = None,
) -> Plan:
    """Make a plan of flags; with `base`, replace the parts that the flags name. Raises UsageError naming the flag.

    New models run in the quants that the plan has for them, else in all quants of the plan.
    """
    if base is None:
        if not flags.models:
            raise UsageError("nothing to run: name a plan file, or a model with --model NAME")
        base = Plan(name=NO_FILE, models=(), workloads=workloads.DEFAULT)
    given: dict[str, Any] = {
        "name": _read("--name", values.name, flags.name) if flags.name is not None else base.name,
        "devices": _listed("--device", devices.device, flags.devices) or base.devices,
        "models": _models(flags, base.models),
        "engines": _listed("--engine", values.name, flags.engines) or base.engines,
        "workloads": _workloads(
            flags,
            base.workloads,
            partial(workloads.read_workload, load=load_prompts, load_inputs=load_inputs),
        ),
        "settings": _settings(flags.settings, base.settings),
        "repeat": _repeat(flags.repeat, base.repeat),
        "sampling": replace(base.sampling, **_single(flags.sampling, values.SAMPLING)),
        "conditions": _conditions(flags.conditions, base.conditions),
        "conditions_on": {name: _conditions(flags.conditions, own) for name, own in base.conditions_on.items()},
        "gate": replace(base.gate, **_assigned("--gate", flags.gate, values.GATE)),
        "thresholds": _thresholds(flags, base.thresholds),
        **_order(flags, base),
        "reference": base.reference or (Reference() if flags.reference else None),
        "profile": flags.profile or base.profile,
        "grid": base.grid
        if flags.grid is None
        else _read("--grid", partial(grids.read_grid, load_grid=load_grid), flags.grid),
    }
    plan = Plan(**given)
    check_size(plan.n_runs)
    check_affinity(plan.settings, plan.all_conditions)
    _read("the plan's reference", lambda _: check_reference(plan), "")
    return plan


def integers(text: str) -> tuple[int, ...]:
    """Read `512`, or a range as llama-bench takes it: `1-4`, `128-512+128`, `128-1024*2`. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,12})-([0-9]{1,12})(?:([+*])([0-9]{1,12}))?", text)
    if match is None:
        return (values.whole(-(10**12), 10**12)(text),)
    first, last, step = int(match[1]), int(match[2]), int(match[4] or 1)
    grows = step > 1 and first > 0 if match[3] == "*" else step > 0
    if first > last or not grows:
        raise UsageError(f"the range {values.shown(text)} never gets to its end")
    found = []
    value = first
    while value <= last:
        found.append(value)
        if len(found) > _MAX_RANGE:
            raise UsageError(f"the range {values.shown(text)} has more than {_MAX_RANGE} values")
        value = value * step if match[3] == "*" else value + step
    return tuple(found)


def _order(flags: PlanFlags, base: Plan) -> dict[str, Any]:
    """Read the order and its seed; a new order leaves behind the seed that the plan has for its own."""
    order, seed = base.order, base.order_seed
    if flags.order is not None:
        order = _read("--order", values.order, flags.order)
        seed = seed if order == base.order else None
    if flags.order_seed is not None:
        seed = _read("--order-seed", values.order_seed, flags.order_seed)
        _read("--order-seed", lambda _: check_order(order, seed), flags.order_seed)
    return {"order": order, "order_seed": seed}


def _repeat(flags: Mapping[str, str], base: Repeat) -> Repeat:
    given = _single(flags, values.REPEAT)
    sessions = [_flag(key) for key in ("sessions", "until_ci", "min", "max") if key in given]
    return _read(" ".join(sessions), lambda _: change_repeat(base, given), "")


def _thresholds(flags: PlanFlags, base: Thresholds) -> Thresholds:
    given = _assigned("--threshold", flags.thresholds, values.THRESHOLDS)
    return replace(base, **given, invalid=_listed("--invalid", values.doubt, flags.invalid) or base.invalid)


def _models(flags: PlanFlags, base: tuple[ModelChoice, ...]) -> tuple[ModelChoice, ...]:
    known = {choice.model: choice.quants for choice in base}
    every_quant = tuple(dict.fromkeys(quant for choice in base for quant in choice.quants)) or (None,)
    names = _listed("--model", values.name, flags.models) or tuple(known)
    quants = _listed("--quant", values.quant, flags.quants)
    return tuple(ModelChoice(model=name, quants=quants or known.get(name, every_quant)) for name in names)


def _workloads(flags: PlanFlags, base: tuple[Workload, ...], read: Callable[[str], Workload]) -> tuple[Workload, ...]:
    asked = [
        *(Workload(n_prompt=n) for n in _numbers("-p", flags.n_prompt) if n),
        *(Workload(n_gen=n) for n in _numbers("-n", flags.n_gen) if n),
        *(_read("-pg", _pair, text) for text in flags.prompt_gen),
        *_listed("--workload", read, flags.workloads),
    ]
    if not asked and (flags.n_prompt or flags.n_gen):
        raise UsageError("-p 0 and -n 0 leave nothing to run: give one of them a length")
    depths = _numbers("-d", flags.depth)
    if not depths:
        return tuple(dict.fromkeys(asked)) or base
    for workload in asked:
        if workload.n_depth:
            raise UsageError(f"-d: the workload '{workload.name}' names its depth already: leave out one of them")
        if workload.kind == "inference":
            raise UsageError(f"-d: the workload '{workload.name}' has no tokens, so no depth: leave out one of them")
    check_size(len(asked or base) * len(depths))
    at_depths = (replace(workload, n_depth=depth) for workload in asked or base for depth in depths)
    return tuple(dict.fromkeys(at_depths))


def _settings(flags: Mapping[str, Texts], base: tuple[Settings, ...]) -> tuple[Settings, ...]:
    swept = {key: _setting(key, texts) for key, texts in flags.items() if texts}
    check_size(len(base) * math.prod(len(choices) for choices in swept.values()))
    combinations = [dict(zip(swept, chosen, strict=True)) for chosen in itertools.product(*swept.values())]
    changed = (replace(settings, **combination) for settings in base for combination in combinations)
    return tuple(dict.fromkeys(changed))


def _setting(key: str, texts: Texts) -> tuple[Any, ...]:
    read = values.SETTINGS[key]
    flag = _flag(key)
    if key == "affinity":  # Its commas are its own: 0-3,6 is one list of CPUs.
        return tuple(_read(flag, read, text) for text in texts)
    if key in _INTEGERS:
        numbers = _each(flag, texts, integers)
        return tuple(_read(flag, read, str(number)) for found in numbers for number in found)
    return _listed(flag, read, texts)


def _conditions(texts: Texts, base: tuple[Conditions, ...]) -> tuple[Conditions, ...]:
    readers = {key: _choices(read) for key, read in values.CONDITIONS.items()}
    swept = _assigned("--condition", texts, readers)
    combinations = [dict(zip(swept, chosen, strict=True)) for chosen in itertools.product(*swept.values())]
    return tuple(dict.fromkeys(replace(one, **combination) for one in base for combination in combinations))


def _choices(read: values.Reader[object]) -> values.Reader[tuple[object, ...]]:
    return lambda text: tuple(dict.fromkeys(read(part.strip()) for part in text.split(",")))


def _assigned(flag: str, texts: Texts, readers: Mapping[str, values.Reader[Any]]) -> dict[str, Any]:
    """Read `key=value` each; a key that is given again counts as it was given last."""
    found = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or key not in readers:
            hint = values.nearest(key, readers) or f"; known: {', '.join(readers)}"
            raise UsageError(f"{flag}: expected such as {next(iter(readers))}=…, found {values.shown(text)}{hint}")
        found[key] = _read(f"{flag} {key}", readers[key], value)
    return found


def _single(flags: Mapping[str, str], readers: Mapping[str, values.Reader[object]]) -> dict[str, Any]:
    return {key: _read(_flag(key), readers[key], text) for key, text in flags.items()}


def _numbers(flag: str, texts: Texts) -> tuple[int, ...]:
    found = tuple(n for several in _each(flag, texts, integers) for n in several)
    for n in found:
        _read(flag, workloads.depth, str(n))
    return tuple(dict.fromkeys(found))


def _pair(text: str) -> Workload:
    n_prompt, comma, n_gen = text.partition(",")
    if not comma:
        raise UsageError(f"expected a prompt and a generation length such as 512,128, found {values.shown(text)}")
    return Workload(n_prompt=workloads.tokens(n_prompt.strip()), n_gen=workloads.tokens(n_gen.strip()))


def _listed(flag: str, read: Callable[[str], T], texts: Texts) -> tuple[T, ...]:
    return tuple(dict.fromkeys(_each(flag, texts, read)))


def _each(flag: str, texts: Texts, read: Callable[[str], T]) -> Iterable[T]:
    return [_read(flag, read, part.strip()) for text in texts for part in text.split(",")]


def _read(flag: str, read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except PlanError:
        raise  # It says where already: a line of a prompt file.
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error


def _flag(key: str) -> str:
    return _FLAG_OF.get(key, "--" + key.replace("_", "-"))
