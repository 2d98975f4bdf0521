"""The worked numbers of docs/energy.md are those that the code gives."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
from analysis_samples import channel
from scipy.special import chdtrc

from melt.analysis.baseline import Baseline, net
from melt.analysis.charge import MIN_STEPS, counted_energy
from melt.analysis.integrate import Grade, Integral, Terms, integral, smallest_step
from melt.analysis.series import Series
from melt.records import Reason, Stream, Thresholds

PAGE = Path(__file__).parents[2] / "docs" / "energy.md"
S = 1_000_000_000
STEP_W = 0.04
BEGIN_S, LENGTH_S = 5.03, 1.27
GAIN = 0.05


def _decoding(rate_hz: float) -> Integral:
    """2 W, and 6 W while decoding, as a meter of the device sees it."""
    t_s = np.arange(0, 20, 1 / rate_hz)
    watts = 2.0 + 4.0 * ((t_s >= BEGIN_S) & (t_s < BEGIN_S + LENGTH_S))
    watts = np.round((watts + 0.01 * np.sin(40 * t_s)) / STEP_W) * STEP_W
    stream = Stream(
        collector="rails", name="w", quantity="power", unit="w", site="rail VDD_IN", source="f", rate_hz=rate_hz
    )
    series = Series(stream, np.round(t_s * S).astype(np.int64), watts)
    grade = Grade(gain_ratio=GAIN, quantum=STEP_W, age_ns=round(S / rate_hz))
    found = integral(series, (round(BEGIN_S * S), round((BEGIN_S + LENGTH_S) * S)), grade)
    assert isinstance(found, Integral)
    return found


def _metered(length_s: float) -> Integral:
    """2 W, and 6 W while it works, as a meter outside the device sees it whose clock is known to 2 ms."""
    t_s = np.arange(0, 3, 1 / 5000)
    watts = 2.0 + 4.0 * ((t_s >= 1.0) & (t_s < 1.0 + length_s))
    stream = Stream(collector="meter", name="w", quantity="power", unit="w", site="system", source="f", rate_hz=5000.0)
    series = Series(stream, np.round(t_s * S).astype(np.int64), watts)
    grade = Grade(gain_ratio=0.01, clock_ns=2_000_000)
    found = integral(series, (S, round((1.0 + length_s) * S)), grade)
    assert isinstance(found, Integral)
    return found


def _holed(hole_s: float) -> Integral | Reason:
    """5 W that swing by 1 W, 200 samples a second, of which some are missing."""
    t_s = np.arange(0, 3, 0.005)
    t_s = t_s[(t_s < 1.5) | (t_s > 1.5 + hole_s - 0.0075)]
    stream = Stream(
        collector="rails", name="w", quantity="power", unit="w", site="rail VDD_IN", source="f", rate_hz=200.0
    )
    series = Series(stream, np.round(t_s * S).astype(np.int64), 5.0 + np.sin(2 * np.pi * 2 * t_s))
    return integral(series, (S, 2 * S), Grade(gain_ratio=GAIN))


def _seeming(true_cv: float, seen_cv: float, n: int) -> float:
    """Return how often values that vary by one coefficient seem to vary by more than another (chi-squared)."""
    return float(chdtrc(n - 1, (n - 1) * (seen_cv / true_cv) ** 2))


def _steady(power_w: float, time_s: float) -> Integral:
    energy_j = power_w * time_s
    return Integral(energy_j, time_s, 100, 1.0, 0.1, Terms(class_j=GAIN * energy_j))


def numbers() -> dict[str, str]:
    slow, fast = _decoding(10.0), _decoding(100.0)
    above = net(_steady(5.1, 10.0), Baseline(_steady(3.0, 2.0), _steady(3.2, 2.0)), GAIN)
    step_c = 3.6
    columns = [
        channel("battery_charge", "charge", lambda t: 9000 - np.floor(5 * t / step_c) * step_c, site="battery"),
        channel("battery_v", "voltage", lambda t: 3.9, site="battery"),
    ]
    # The sample channel lasts 60 s: ten times the current is what 600 s of 0.5 A are.
    counted = counted_energy(columns, (int(columns[0].t_ns[0]), int(columns[0].t_ns[-1])))
    assert counted.value is not None
    assert counted.uncertainty is not None
    second, token, holed = _metered(1.0), _metered(0.05), _holed(0.04)
    assert isinstance(holed, Integral)
    usual = Thresholds()
    return {
        "second_j": f"{second.energy_j:.2f}",
        "second_uncertainty_j": f"{second.uncertainty_j:.2f}",
        "second_clock_j": f"{second.terms.clock_j:.3f}",
        "token_j": f"{token.energy_j:.2f}",
        "token_uncertainty_j": f"{token.uncertainty_j:.3f}",
        "token_clock_j": f"{token.terms.clock_j:.3f}",
        "holed_j": f"{holed.energy_j:.2f}",
        "holed_uncertainty_j": f"{holed.uncertainty_j:.2f}",
        "holed_gap_j": f"{holed.terms.gap_j:.2f}",
        "holed_class_j": f"{holed.terms.class_j:.2f}",
        "unstable_of_3": f"{100 * _seeming(0.02, usual.unstable_cv, 3):.2f}",
        "unstable_of_5": f"{100 * _seeming(0.02, usual.unstable_cv, 5):.3f}",
        "drift_moves": f"{50 * usual.drift_ratio:.1f}",
        "order_spreads": f"{100 * usual.order_effect_ratio / 12**0.5:.1f}",
        "faults_kb": f"{usual.major_faults_hz * 4096 / 1000:.0f}",
        "gap_worth": f"{100 * usual.energy_gap_ratio * (6 - 2) / 2 / 4:.1f}",
        "net_off": f"{50 * usual.baseline_unsteady_ratio:.0f}",
        "truth_j": f"{6 * LENGTH_S:.2f}",
        "energy_j": f"{slow.energy_j:.2f}",
        "uncertainty_j": f"{slow.uncertainty_j:.2f}",
        "rate_j": f"{slow.terms.rate_j:.2f}",
        "quantum_j": f"{slow.terms.quantum_j:.3f}",
        "age_j": f"{slow.terms.age_j:.2f}",
        "class_j": f"{slow.terms.class_j:.2f}",
        "fast_energy_j": f"{fast.energy_j:.2f}",
        "fast_uncertainty_j": f"{fast.uncertainty_j:.2f}",
        "fast_class_j": f"{fast.terms.class_j:.2f}",
        "gross_j": f"{5.1 * 10:.1f}",
        "net_j": f"{above.energy_j:.1f}",
        "net_uncertainty_j": f"{above.uncertainty_j:.1f}",
        "net_baseline_j": f"{above.terms.baseline_j:.1f}",
        "net_class_j": f"{above.terms.class_j:.1f}",
        "counter_j": f"{counted.value:.0f}",
        "counter_uncertainty_j": f"{counted.uncertainty:.0f}",
        "short_steps": f"{0.5 * 60 / step_c:.0f}",
    }


SENTENCES = (
    "| the truth | {truth_j} J |",
    "| energy | {energy_j} J ± {uncertainty_j} |",
    "| `u_rate` | {rate_j} J |",
    "| `u_quantum` | {quantum_j} J |",
    "| `u_age` | {age_j} J: ",
    "| `u_class` | {class_j} J |",
    "it is {fast_energy_j} J ± {fast_uncertainty_j}, of which {fast_class_j} J are the class",
    "gross {gross_j} J, net {net_j} J ± {net_uncertainty_j}, of which the rest is {net_baseline_j} J and the class "
    "{net_class_j} J",
    "A second of work: {second_j} J ± {second_uncertainty_j}, of which the clock is {second_clock_j} J. A single "
    "token of 50 ms: {token_j} J ± {token_uncertainty_j}, of which the clock is {token_clock_j} J",
    "nothing for 40 ms: {holed_j} J ± {holed_uncertainty_j}, of which the hole is {holed_gap_j} J and the class "
    "{holed_class_j} J",
    "{unstable_of_3} % seem to vary by over 5 % in three repetitions, and {unstable_of_5} % in five",
    "moves the median by {drift_moves} %",
    "its size / √12: {order_spreads} %",
    "20 pages of 4 KiB are {faults_kb} kB a second",
    "such a hole is worth up to {gap_worth} % of it",
    "net energy is off by half of that, {net_off} %",
    "for 600 s: {counter_j} J ± {counter_uncertainty_j}. Over 60 s it would fall by {short_steps} steps",
)


def test_the_page_says_what_the_code_computes() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert [text for one in SENTENCES if (text := one.format(**numbers())) not in page] == []


def test_the_examples_are_right_themselves() -> None:
    for rate_hz in (10.0, 100.0):
        found = _decoding(rate_hz)
        assert abs(found.energy_j - 6 * LENGTH_S) <= found.uncertainty_j
    assert round(0.5 * 60 / 3.6) < MIN_STEPS
    noisy = Series(
        Stream(collector="c", name="w", quantity="power", unit="w", site="s", source="f", rate_hz=1.0),
        np.arange(3, dtype=np.int64),
        np.array([2.0, 2.04, 6.0]),
    )
    assert abs(smallest_step(noisy) - STEP_W) < 1e-9


def test_the_page_defends_every_threshold_at_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]{20,} \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    usual = Thresholds()
    written = {
        name: f"{100 * value:.4g} %" if name.endswith(("_ratio", "_cv")) else f"{value:g}"
        for name in (field.name for field in fields(Thresholds))
        if name != "invalid" and (value := getattr(usual, name)) is not None
    }
    written |= {"swap_bytes": f"{usual.swap_bytes / 2**20:g} MiB", "major_faults_hz": f"{usual.major_faults_hz:g} /s"}
    written |= {"clock_uncertainty_s": f"{1000 * usual.clock_uncertainty_s:g} ms"}
    assert {name: default for name, default in rows if name in written} == written


def test_a_longer_hole_leaves_no_energy() -> None:
    assert isinstance(_holed(0.04), Integral)
    assert isinstance(_holed(0.06), Reason)
