"""A meter's recording on the device's clock: what is refused, what is doubted, and the bursts found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from melt.analysis.integrate import Integral
from melt.analysis.meter import find_meter
from melt.analysis.metered import UNKNOWN_CLASS, on_device_clock
from melt.analysis.series import find
from melt.analysis.signature import find_signature
from melt.records import Stream
from melt.telemetry.meters.base import AMPS, JOULES, VOLTS, WATTS, ClockReading, MeterFacts
from melt.telemetry.meters.recording import Noted, Played, Recording
from melt.traces import Trace

_MS, _S = 1_000_000, 1_000_000_000
_HERE_NS, _DEVICE_AHEAD_NS, _METER_BEHIND_NS = 50_000 * _S, 700 * _S, 49_000 * _S
_BUSY_MS = (60, 40, 20, 80, 100, 30, 40, 20, 80, 60, 20, 40, 120)


def _bursts(begin_ns: int) -> tuple[tuple[int, int], ...]:
    edges = begin_ns + np.concatenate(([0], np.cumsum(_BUSY_MS))) * _MS
    return tuple((int(a), int(b)) for a, b in zip(edges[:-1:2], edges[1::2], strict=True))


def _recording(
    watts: Sequence[float] | np.ndarray,
    *,
    rate_hz: float = 1000.0,
    played: tuple[Played, ...] = (),
    end: str | None = "stopped",
    complaint: str | None = None,
) -> Recording:
    """The meter's clock began just now, this computer's long ago, the device's is ahead; all run alike."""
    n = len(watts)
    t_ns = 5 * _S + np.arange(n) * round(_S / rate_hz)
    clock = [
        ClockReading(int(t) + _METER_BEHIND_NS - 100, int(t), int(t) + _METER_BEHIND_NS + 100) for t in t_ns[::200]
    ]
    noted = Noted(
        facts=MeterFacts(name="bench meter", columns=(WATTS,), rate_hz=rate_hz),
        covers="whole device",
        device_clock=tuple(
            (int(t_ns[k]) + _METER_BEHIND_NS, -_DEVICE_AHEAD_NS, 1 * _MS) for k in ((0, -1) if n > 1 else (0,))
        ),
        played=played,
        end=end,
        complaint=complaint,
    )
    values = np.asarray(watts, np.float64).reshape(-1, 1)
    return Recording(noted=noted, t_ns=t_ns, values=values, clock=tuple(clock), lost=0, unread=0, torn=False)


def _on_device(recording: Recording, at_s: float) -> int:
    return int(recording.t_ns[0]) + _METER_BEHIND_NS + _DEVICE_AHEAD_NS + round(at_s * _S)


def _codes(recording: Recording, span: tuple[float, float] = (1.0, 2.0)) -> list[str]:
    found = on_device_clock(recording, (_on_device(recording, span[0]), _on_device(recording, span[1])))
    return [reason.code for reason in found.reasons]


def test_a_sound_recording_is_moved_and_nothing_else() -> None:
    recording = _recording(np.arange(9000.0))
    found = on_device_clock(recording, (_on_device(recording, 1), _on_device(recording, 2)))
    assert found.reasons == ()
    assert found.trace is not None
    assert np.abs(found.trace.t_ns - (recording.t_ns + _METER_BEHIND_NS + _DEVICE_AHEAD_NS)).max() <= 200
    assert found.trace.columns["meter_w"].tolist() == list(range(9000))
    assert found.grade is not None
    assert found.grade.gain_ratio == UNKNOWN_CLASS
    assert 1 * _MS <= found.grade.clock_ns < 1.5 * _MS


def test_volts_and_amperes_are_power() -> None:
    recording = _recording(np.ones(3000))
    facts = MeterFacts(name="m", columns=(VOLTS, AMPS), rate_hz=1000, accuracy=0.01)
    values = np.array([[4.0, 0.5]] * 2999 + [[4.0, np.nan]])
    recording = replace(recording, values=values, noted=replace(recording.noted, facts=facts))
    found = on_device_clock(recording, None)
    assert found.trace is not None
    assert found.trace.columns["meter_w"][:2].tolist() == [2.0, 2.0]
    assert np.isnan(found.trace.columns["meter_w"][-1])


def test_a_meter_that_was_unplugged_says_what_it_saw() -> None:
    lost = _recording(np.ones(1500), end="lost", complaint="the Monsoon is gone: [Errno 19]")
    found = on_device_clock(lost, (_on_device(lost, 1.0), _on_device(lost, 2.0)))
    (reason,) = found.reasons
    assert reason.code == "meter_stopped"
    assert reason.figures["coverage"] == pytest.approx(0.5, abs=0.01)
    assert "50 % of what was measured: the Monsoon is gone" in reason.message
    left = _recording(np.ones(1500), end=None)
    assert (
        "nobody was there to read it"
        in on_device_clock(left, (_on_device(left, 1), _on_device(left, 2))).reasons[0].message
    )
    assert _codes(_recording(np.ones(2500), end="lost", complaint="x")) == [], "what was measured it saw"


def test_what_was_lost_or_unreadable_is_counted() -> None:
    sound = _recording(np.ones(3000))
    assert _codes(replace(sound, lost=3)) == []
    assert _codes(replace(sound, lost=30)) == ["meter_dropped"]
    assert _codes(replace(sound, unread=29)) == []
    assert _codes(replace(sound, unread=300)) == ["meter_unreadable"]


def test_times_that_go_backwards_are_no_samples() -> None:
    sound = _recording(np.arange(3000.0))
    t_ns = sound.t_ns.copy()
    t_ns[1000:1100] -= 500 * _MS
    found = on_device_clock(replace(sound, t_ns=t_ns), (_on_device(sound, 0.5), _on_device(sound, 2)))
    assert [reason.code for reason in found.reasons] == ["meter_out_of_order"]
    assert found.trace is not None
    assert (np.diff(found.trace.t_ns) > 0).all()
    assert not {*range(1000, 1100)} & {*found.trace.columns["meter_w"].astype(int).tolist()}


def test_one_garbled_time_costs_one_sample() -> None:
    sound = _recording(np.arange(3000.0))
    t_ns = sound.t_ns.copy()
    t_ns[1000] = 2**61
    clock = list(sound.clock)
    clock[5] = ClockReading(clock[5].sent_ns, 2**61, clock[5].received_ns, one_way=True)
    found = on_device_clock(replace(sound, t_ns=t_ns, clock=tuple(clock)), None)
    assert found.reasons == ()
    assert found.trace is not None
    assert len(found.trace.t_ns) == 2999


def test_a_clock_that_was_set_leaves_no_trace() -> None:
    sound = _recording(np.ones(30_000))
    half = len(sound.clock) // 2
    clock = (*sound.clock[:half], *(replace(one, there_ns=one.there_ns + 300 * _MS) for one in sound.clock[half:]))
    found = on_device_clock(replace(sound, clock=clock), None)
    assert (found.trace, found.grade, found.traces, found.grades) == (None, None, (), {})
    assert [reason.code for reason in found.reasons] == ["meter_clock"]
    assert _codes(replace(sound, clock=())) == ["meter_clock"]


def test_without_a_comparison_afterwards_the_uncertainty_grows() -> None:
    sound = _recording(np.ones(60_000))
    once = replace(sound, noted=replace(sound.noted, device_clock=sound.noted.device_clock[:1]))
    span = (_on_device(sound, 40), _on_device(sound, 50))
    before, both = (on_device_clock(one, span).clock_uncertainty_ns for one in (once, sound))
    assert both is not None
    assert before is not None
    assert before - both > 9 * _MS


def _with_bursts(lag_ms: float, noise_w: float = 0.3, seed: int = 1) -> tuple[Recording, tuple[tuple[int, int], ...]]:
    rng = np.random.default_rng(seed)
    recording = _recording(np.zeros(4000))
    busy = _bursts(_on_device(recording, 1.0))
    at_ns = recording.t_ns + _METER_BEHIND_NS + _DEVICE_AHEAD_NS - round(lag_ms * _MS)
    watts = 1.0 + rng.normal(0, noise_w, len(at_ns))
    for first, last in busy:
        watts += 3.0 * ((at_ns >= first) & (at_ns < last))
    noted = replace(recording.noted, played=(Played(busy_ns=busy),))
    return replace(recording, values=watts.reshape(-1, 1), noted=noted), busy


@pytest.mark.parametrize("lag_ms", [-120.0, -5.0, 0.0, 3.0, 40.0, 350.0])
def test_the_bursts_are_found_where_they_are(lag_ms: float) -> None:
    recording, _ = _with_bursts(lag_ms)
    found = on_device_clock(recording, None)
    (signature,) = found.signatures
    assert abs(signature.lag_ns - lag_ms * _MS) <= signature.uncertainty_ns
    assert abs(signature.lag_ns - lag_ms * _MS) <= 2 * _MS
    assert signature.quality > 0.8
    assert [reason.code for reason in found.reasons] == (["meter_clock"] if abs(lag_ms) > 15 else [])


def test_a_disagreement_is_told_and_is_in_the_uncertainty() -> None:
    recording, _ = _with_bursts(80.0)
    found = on_device_clock(recording, (_on_device(recording, 2), _on_device(recording, 3)))
    (reason,) = found.reasons
    assert reason.figures["lag_s"] == pytest.approx(0.08, abs=0.002)
    assert found.grade is not None
    assert found.grade.clock_ns > 80 * _MS
    assert found.figures["signatures"][0]["quality"] > 0.8


def test_work_that_is_not_the_pattern_is_not_taken_for_it() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        recording, busy = _with_bursts(0.0)
        steps = np.repeat(rng.choice([1.0, 4.0], 200), 20) + rng.normal(0, 0.2, 4000)
        trace = on_device_clock(replace(recording, values=steps.reshape(-1, 1)), None).trace
        assert trace is not None
        power = find([trace], lambda s: s.quantity == "power")[0]
        assert find_signature(power, busy, 500 * _MS) is None
    flat = on_device_clock(replace(recording, values=np.full((4000, 1), 2.0)), None)
    assert (flat.signatures, flat.reasons) == ((), ())


def test_the_meter_outside_is_the_one_that_counts() -> None:
    recording = _recording(np.full(3000, 2.0))
    found = on_device_clock(recording, None)
    rail = Stream(collector="rails", name="w", quantity="power", unit="w", site="rail CPU", source="x", rate_hz=1000.0)
    assert found.trace is not None
    inside = Trace(collector="rails", t_ns=found.trace.t_ns, columns={"w": np.ones(3000)}, streams=(rail,))
    meter = find_meter([inside, found.trace], (), found.grades)
    assert meter is not None
    assert meter.scope == "external meter, whole device"
    assert (meter.gain_ratio, meter.grades[0].clock_ns) == (UNKNOWN_CLASS, found.clock_uncertainty_ns)


def test_the_steps_and_the_slowness_of_a_meter_outside_count() -> None:
    # Ten values a second in steps of 0.5 W, each of the tenth of a second before it: 3.2 W, and 6.2 W from 3 s on.
    at_s = np.arange(100) / 10
    watts = np.round(2 * (np.where(at_s <= 3.0, 3.2, 6.2) + 0.1 * (np.arange(100) % 5 == 0))) / 2
    recording = _recording(watts, rate_hz=10.0)
    clock = [ClockReading(int(t) + _METER_BEHIND_NS, int(t), int(t) + _METER_BEHIND_NS) for t in recording.t_ns]
    facts = replace(recording.noted.facts, accuracy=1e-4)
    recording = replace(recording, clock=tuple(clock), noted=replace(recording.noted, facts=facts))
    found = on_device_clock(recording, None)
    meter = find_meter(found.traces, (), found.grades)
    assert meter is not None
    for begin_s, end_s, true_j in ((4.0, 9.0, 6.22 * 5), (2.0, 3.0, 3.22), (3.0, 4.0, 6.22)):
        measured = meter.measure([(_on_device(recording, begin_s), _on_device(recording, end_s))])
        assert isinstance(measured, Integral)
        assert measured.energy_j == pytest.approx(true_j, abs=measured.uncertainty_j)
        assert measured.terms.quantum_j == pytest.approx(0.25 * (end_s - begin_s))
    assert measured.terms.age_j > 0.1


def test_a_power_that_no_device_takes_is_no_sample() -> None:
    watts = np.full(3000, 2.0)
    watts[1500] = 1e6
    found = on_device_clock(garbled := _recording(watts), (_on_device(garbled, 1), _on_device(garbled, 2)))
    assert found.reasons == ()
    assert found.trace is not None
    assert np.isnan(found.trace.columns["meter_w"]).sum() == 1, "one sample less, and no joule more"
    wrong_unit = _recording(np.full(3000, 2.0e6))
    found = on_device_clock(wrong_unit, (_on_device(wrong_unit, 1), _on_device(wrong_unit, 2)))
    (reason,) = found.reasons
    assert (reason.code, reason.figures["absurd"]) == ("meter_unreadable", 3000)
    assert "over 10 kW: is its unit right?" in reason.message
    assert find_meter(found.traces, known=found.grades) is None


def test_a_device_that_seems_to_give_power_has_no_energy() -> None:
    recording = _recording(np.full(3000, -2.0))
    found = on_device_clock(recording, (_on_device(recording, 1), _on_device(recording, 2)))
    assert found.trace is None
    (reason,) = found.reasons
    assert (reason.code, reason.figures["power_w"]) == ("energy_misread", -2.0)
    assert _codes(_recording(np.tile([-1.0, 3.0], 1500))) == [], "noise about a small power may well be below zero"


@pytest.mark.parametrize("lag_ms", [0.0, 50.0])
def test_the_burst_is_found_in_what_a_counter_counted(lag_ms: float) -> None:
    played = Played(busy_ns=_bursts(7 * _S + _METER_BEHIND_NS + _DEVICE_AHEAD_NS))
    t_s = np.arange(6000) / 1000
    watts = np.ones(6000)
    for first, last in _bursts(round((2.0 + lag_ms / 1000) * _S)):
        watts[(t_s >= first / _S) & (t_s < last / _S)] = 4.0
    recording = _recording(np.cumsum(watts) / 1000, played=(played,))
    counted = replace(
        recording, noted=replace(recording.noted, facts=replace(recording.noted.facts, columns=(JOULES,)))
    )
    found = on_device_clock(counted, (_on_device(counted, 1), _on_device(counted, 5)))
    (signature,) = found.signatures
    assert signature.lag_ns == pytest.approx(lag_ms * _MS, abs=2 * _MS)
    assert [reason.code for reason in found.reasons] == (["meter_clock"] if lag_ms else [])


def test_seconds_of_a_counter_are_as_long_as_its_clock_is_known_to_run() -> None:
    recording = _recording(np.arange(9000) * 0.002)
    counted = replace(
        recording, noted=replace(recording.noted, facts=replace(recording.noted.facts, columns=(JOULES,)))
    )
    span = (_on_device(counted, 1), _on_device(counted, 8))
    found = on_device_clock(counted, span)
    meter = find_meter(found.traces, known=found.grades)
    assert meter is not None
    energy = meter.measure([span])
    assert isinstance(energy, Integral)
    assert energy.terms.clock_j == pytest.approx(2e-4 * energy.energy_j, rel=0.3), "one clock is known to 200 ppm"
