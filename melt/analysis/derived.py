"""What people ask of a run's energy: what a response takes, of how many a charge is good for, what they weigh in CO2e.

A response is one request from its submission to its last token, prompt and answer: what a user waits for. Its energy is
gross, for a user's battery pays for the idling, too. docs/metrics.md has the formulas, with worked numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from melt.analysis import channels
from melt.analysis.energy import Account, figure_of
from melt.analysis.figures import NOT_REACHED, Figure, to_metric
from melt.analysis.integrate import Integral
from melt.analysis.meter import Meter
from melt.analysis.peak import power_peak
from melt.analysis.repetitions import Repetition
from melt.analysis.series import Span, find
from melt.records import Battery, Grid, Metric, Reason, RunStart, Workload
from melt.traces import RunBundle, Trace

NAMES = (
    "power_peak_w",
    "tokens_per_j",
    "energy_response_j",
    "charge_response_coulomb",
    "responses_per_battery",
    "energy_delay_js",
    "carbon_response_g",
)
"""The figures of this module, in the order of `names.METRICS`."""

CARBON = "carbon_response_g"
_RESPONSE = "energy_response_j"
_INFERENCE = "energy_per_inference_j"
"""A single-shot model's response is one inference."""
NO_GRID = "no grid intensity was given: --grid"
NOT_THE_DEVICE = "its meter does not cover the whole device"
NO_BATTERY = "no battery says what it holds"
NO_VOLTAGE = "the voltage of a battery is not known"
MAY_BE_NONE = "the energy may be none: it is not known better"
NO_PROMPT, NO_ANSWER = "the workload has no prompt", "the workload decodes nothing"

_FEEDS = frozenset({channels.BATTERY, "external meter, whole device", "whole device"})
"""Scopes that are all that a battery feeds. A chip's joules would promise more responses than the phone gives."""
_BETWEEN_SHARE = 0.05
"""Requests follow each other without a pause; up to so much of a slow gauge's span may lie between them."""
_OFF_BY = {"measured": 0.05, "design": 0.20}
"""A gauge counts charge no better than current; makers call a battery worn that has lost a fifth of its design."""
_OF_ONE_MOMENT = 0.10
"""A lithium cell's voltage moves from 4.4 to 3.4 V: one moment of it is off the mean of a discharge by so much."""
_JOULES_PER_KWH = 3.6e6


def derived(
    account: Account, repetition: Repetition, start: RunStart, traces: Sequence[Trace], known: Mapping[str, Figure]
) -> dict[str, Figure]:
    """Return what follows from the energy of a repetition. `known` has its energy per token and its latency."""
    span = repetition.span
    if span is None:
        return {}
    if start.spec.workload.kind == "inference":
        response, delay, own = known[_INFERENCE], known["inference_p50_s"], {}
    else:
        response, delay = response_energy(account, repetition, start.spec.workload), known["e2e_s"]
        own = {"tokens_per_j": tokens_per_joule(known["energy_per_token_j"]), _RESPONSE: response}
    battery = start.device.battery
    volts = _measured_volts(traces, span)
    return {
        "power_peak_w": power_peak(account, span),
        **own,
        "charge_response_coulomb": response_charge(response, battery, volts),
        "responses_per_battery": responses_per_battery(response, battery, volts),
        "energy_delay_js": energy_delay(response, delay),
        CARBON: carbon(response, start.spec.grid),
    }


def tokens_per_joule(per_token: Figure) -> Figure:
    """Return how many tokens are decoded with a joule."""
    return _divided_by(per_token, 1.0)


def response_energy(account: Account, repetition: Repetition, workload: Workload) -> Figure:
    """Return the energy of one request, the mean over those of a repetition, in joules."""
    if not (workload.n_prompt or workload.prompts):
        return Figure(None, NO_PROMPT, "sensor")
    if not workload.n_gen:
        return Figure(None, NO_ANSWER, "sensor")
    if isinstance(account.meter, Reason):
        return Figure(None, account.meter.message, "sensor")
    requests = sorted((g.submit_ns, g.token_ns[-1]) for g in repetition.generations if g.token_ns)
    if not requests:
        return Figure(None, NOT_REACHED, "sensor")
    found, between = _measured(account.meter, requests)
    figure = figure_of(account, found, 1 / len(requests))
    if figure.value is None or figure.uncertainty is None:
        return figure
    # What lies between the requests took something from nothing to the mean of all.
    between_j = between * figure.value
    return replace(figure, uncertainty=math.hypot(figure.uncertainty, between_j))


def response_charge(response: Figure, battery: Battery | None, measured_v: tuple[float, float] | None) -> Figure:
    """Return the charge that a response takes from the battery, in coulombs: its energy by the battery's voltage.

    `measured_v` is the battery's mean voltage over the repetition, and what that may be off by.
    """
    why = _not_of_the_battery(response)
    if why is not None:
        return why
    volts = _voltage(battery, measured_v)
    if volts is None:
        return _none(response, NO_BATTERY if battery is None else NO_VOLTAGE)
    value_v, off, said = volts
    return _noted(_scaled(response, 1 / value_v, (off,)), f"at {value_v:.3g} V, {said}", voltage_v=value_v)


def responses_per_battery(response: Figure, battery: Battery | None, measured_v: tuple[float, float] | None) -> Figure:
    """Return how many responses a full battery is good for, where the meter covers all that it feeds."""
    why = _not_of_the_battery(response)
    if why is not None:
        return why
    if battery is None:
        return _none(response, NO_BATTERY)
    capacity = _capacity(battery, measured_v)
    if capacity is None:
        return _none(response, NO_VOLTAGE)
    capacity_j, offs, said = capacity
    figure = _divided_by(response, capacity_j, offs)
    if figure.value is None:
        return figure
    noted = _noted(figure, said, capacity_j=capacity_j)
    return replace(noted, source=f"{response.source} by {battery.basis} capacity")


def energy_delay(response: Figure, e2e: Figure) -> Figure:
    """Return the energy-delay product of a response, in joule seconds (Gonzalez and Horowitz, JSSC 31(9), 1996)."""
    if e2e.value is None:
        return _none(response, e2e.note or NOT_REACHED)
    return _scaled(response, e2e.value)


def carbon(response: Figure, grid: Grid | None) -> Figure:
    """Return what a response weighs in grams of CO2 equivalents, of the electricity it takes alone."""
    if response.value is None:
        return response
    if grid is None:
        return _none(response, NO_GRID)
    figure = _scaled(response, grid.g_per_kwh / _JOULES_PER_KWH)
    where = ", ".join(filter(None, (grid.zone, None if grid.year is None else str(grid.year), grid.source)))
    noted = _noted(figure, f"{grid.g_per_kwh:g} g/kWh ({where})", g_per_kwh=grid.g_per_kwh)
    return replace(noted, source=f"{response.source} at {grid.g_per_kwh:g} g/kWh")


def with_grid(bundle: RunBundle, grid: Grid) -> RunBundle:
    """Return a run with another grid's intensity: a reckoning, and no measurement, so that it can be made later."""
    responses = {m.repetition: m for m in bundle.metrics if m.name in (_RESPONSE, _INFERENCE)}
    metrics = tuple(
        to_metric(CARBON, carbon(_figure(responses[m.repetition]), grid), m.repetition)
        if m.name == CARBON and m.repetition in responses
        else m
        for m in bundle.metrics
    )
    spec = replace(bundle.start.spec, grid=grid)
    return replace(bundle, start=replace(bundle.start, spec=spec), metrics=metrics)


def _figure(metric: Metric) -> Figure:
    return Figure(metric.value, metric.note, metric.source, metric.uncertainty, metric.figures)


def _measured(meter: Meter, requests: Sequence[Span]) -> tuple[Integral | Reason, float]:
    """Return the energy of requests, by a slow gauge that of one span, and the share of it that lies between them."""
    if len(requests) == 1 or not meter.is_slow:
        return meter.measure(requests), 0.0
    whole = (requests[0][0], max(end for _, end in requests))
    between = 1 - sum(end - begin for begin, end in requests) / max(1, whole[1] - whole[0])
    return (meter.measure(requests), 0.0) if between > _BETWEEN_SHARE else (meter.measure([whole]), max(0.0, between))


def _measured_volts(traces: Sequence[Trace], span: Span) -> tuple[float, float] | None:
    """Return the battery's mean voltage in a span and by what share it may be off; None where it was not read there."""
    for series in find(traces, lambda s: s.quantity == "voltage" and channels.is_battery(s)):
        values = series.inside(span)
        if len(values) and float(np.mean(values)) > 0:
            mean_v = float(np.mean(values))
            # The mean over time is not that over the charge: the voltage is lowest while most flows.
            return mean_v, float(np.ptp(values)) / 2 / mean_v
    return None


def _voltage(
    battery: Battery | None, measured_v: tuple[float, float] | None, *, of_a_discharge: bool = False
) -> tuple[float, float, str] | None:
    """Return the best voltage for the time of the run, or the mean `of_a_discharge`; with what it may be off by."""
    nominal = None if battery is None or battery.nominal_v is None else (battery.nominal_v, "its nominal voltage")
    now = None if measured_v is None else (measured_v[0], "its mean in the run")
    if now is None and battery is not None and battery.found_v is not None:
        now = (battery.found_v, "found before the run")
    if of_a_discharge and nominal is not None:
        return (nominal[0], 0.0, nominal[1])
    if now is not None:
        off = measured_v[1] if measured_v is not None and not of_a_discharge else _OF_ONE_MOMENT
        return (now[0], off, now[1])
    return None if nominal is None else (nominal[0], _OF_ONE_MOMENT, nominal[1])


def _capacity(battery: Battery, measured_v: tuple[float, float] | None) -> tuple[float, tuple[float, ...], str] | None:
    """Return what a full battery gives, in joules; by what shares that may be off; and where it is from."""
    off = _OFF_BY[battery.basis]
    if battery.energy_j is not None:
        return battery.energy_j, (off,), f"{battery.basis} capacity"
    volts = _voltage(battery, measured_v, of_a_discharge=True)
    if volts is None or battery.charge_coulomb is None:
        return None
    value_v, volts_off, said = volts
    return battery.charge_coulomb * value_v, (off, volts_off), f"{battery.basis} capacity at {value_v:.3g} V, {said}"


def _not_of_the_battery(response: Figure) -> Figure | None:
    """Return why an energy is not what a battery gave, None where it is."""
    if response.value is None:
        return response
    return None if response.source in _FEEDS else _none(response, NOT_THE_DEVICE)


def _none(figure: Figure, why: str) -> Figure:
    return figure if figure.value is None else Figure(None, why, "sensor")


def _divided_by(energy: Figure, whole: float, offs: Sequence[float] = ()) -> Figure:
    """Return how often an energy goes into a `whole`, which may be off by the shares `offs`.

    It reaches farther up than down: the uncertainty is the way to what the least energy gives.
    """
    if energy.value is None:
        return energy
    least = energy.value - (energy.uncertainty or 0.0)
    if least <= 0:
        return _none(energy, MAY_BE_NONE)
    widened = None if energy.uncertainty is None else energy.uncertainty * energy.value / least
    return _scaled(replace(energy, uncertainty=widened), whole / energy.value**2, offs)


def _scaled(figure: Figure, factor: float, offs: Sequence[float] = ()) -> Figure:
    """Multiply a figure; `offs` are by what shares the factor may be off, independent of the figure."""
    if figure.value is None:
        return figure
    value = figure.value * factor
    own = None if figure.uncertainty is None else figure.uncertainty * factor
    off = None if own is None else math.hypot(own, *(share * value for share in offs))
    return replace(figure, value=value, uncertainty=off, figures={})


def _noted(figure: Figure, remark: str, **figures: float) -> Figure:
    sites = (figure.note or "").partition(";")[0]
    return replace(figure, note=f"{sites}; {remark}", figures=figures)
