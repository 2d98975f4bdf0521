"""Whether everything that a plan names exists, asked before anything is opened, fetched or reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from melt.engines.registry import get as get_engine
from melt.errors import UsageError
from melt.models.catalog import LocalFile, find_source
from melt.models.formats import check_file, format_of, level_name
from melt.plan.devices import by_model
from melt.plan.model import Plan
from melt.records import RunSpec
from melt.transports.registry import resolve


def resolve_devices(plan: Plan) -> Plan:
    """Write each device as its full selector, once: `R5CT1234` becomes `adb:R5CT1234`, `orin` `ssh:orin`.

    A model stays as it is: which devices do its runs is seen when they begin. Raises UsageError, also where one device
    is given different conditions under two names.
    """
    full = {device: device if by_model(device) else resolve(device) for device in plan.devices}
    first = {selector: device for device, selector in reversed(full.items())}
    for device, selector in full.items():
        if plan.conditions_of(device) != plan.conditions_of(first[selector]):
            raise UsageError(f"'{first[selector]}' and '{device}' are one device, {selector}: give it conditions once")
    own = {full[device]: conditions for device, conditions in plan.conditions_on.items() if device in full}
    return replace(plan, devices=tuple(dict.fromkeys(full.values())), conditions_on=own)


def check_names(specs: Iterable[RunSpec]) -> None:
    """Raise the error of the first name that nothing answers to; a model file must also have a sound header."""
    specs = tuple(specs)
    for engine in dict.fromkeys(spec.engine for spec in specs):
        get_engine(engine)
    for model, quant in dict.fromkeys((spec.model, spec.quant) for spec in specs if spec.quant):
        level_name(format_of(model), quant)
    for model in dict.fromkeys(spec.model for spec in specs):
        source = find_source(model)
        if isinstance(source, LocalFile):
            check_file(source.path)
