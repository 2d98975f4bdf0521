"""Runs on virtual phones whose true power is known at every moment: is each energy within what is stated for it?

    MELT_ENERGY_SEEDS=100 pytest tests/e2e/test_energy_truth.py    a hundred runs in each of the two conditions

Everything is real but the physics: melt, adb, the agent, the runner and the store. Power and meter come from a seed
(`drawn_power.py`) and are played by a program that watches what the phone computes (`drawn_meter.py`). What a run's
result is made from is kept, so that the same runs can be analysed again by a melt that is wrong on purpose.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from drawn_power import Power
from melt_rig import Melt
from metered_phones import COLUMNS, Audit, Checked, Kept, Lab, audit
from native_runners import build
from virtual.phone.testing import adb_server, playing

from melt.analysis import integrate
from melt.analysis.clockmap import ClockMap, Epoch
from melt.fleet import finish
from melt.telemetry.meters.base import ClockReading
from melt.telemetry.meters.recording import Recording
from melt.traces import RunBundle

_RUNS = int(os.environ.get("MELT_ENERGY_SEEDS", "6"))
pytestmark = [pytest.mark.slow, pytest.mark.native, pytest.mark.timeout(1800 + 60 * _RUNS)]

_MS, _S = 1_000_000, 1_000_000_000
_ENERGIES = ("energy_prefill_j", "energy_decode_j")
_NETS = ("energy_prefill_net_j", "energy_decode_net_j")
_STATED = 0.95
_AGAIN = 9
"""So many runs tell that a melt is wrong."""
_NEVER = 1e-4
_MANY = 100
_KEEPING = Path(__file__).with_name("keeping_melt.py")


def _most_failures(n: int) -> int:
    """Return how many of n figures may fail: more do in one of 10000 cases if 95 of 100 hold.

    If only 80 of 100 hold, more fail in two of three cases with 72 figures, and always with a thousand.
    """
    chance, k = (_STATED**n, 0)
    beyond = 1.0 - chance
    while beyond > _NEVER:
        k += 1
        chance *= (n - k + 1) / k * (1 - _STATED) / _STATED
        beyond -= chance
    return k


def _of_repetitions(found: Audit, names: Sequence[str]) -> list[Checked]:
    return [one for run in found.checked for one in run if one.name in names and one.repetition is not None]


def _is_found_out(found: Audit) -> bool:
    """Whether more fails than may by chance, with the class as broad as it is or without it."""
    ones = _of_repetitions(found, _ENERGIES)
    failed = max(sum(not one.holds for one in ones), sum(not one.holds_without_class for one in ones))
    return failed > _most_failures(len(ones))


def test_the_rule_lets_95_of_100_pass_and_finds_80() -> None:
    assert [_most_failures(n) for n in (36, 72, 1200)] == [8, 12, 90]
    tries = np.random.default_rng(1).random((2000, 72))
    assert np.mean((tries > 0.80).sum(axis=1) > _most_failures(72)) > 0.6


@pytest.mark.parametrize("worst", [False, True], ids=["normal", "worst"])
def test_energies_are_true_and_a_wrong_melt_is_found_out(
    worst: bool, tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One test, for whoever shares tests among processes would measure for each of them."""
    lab = Lab(tmp_path, worst)
    _measure(lab, models_dir)
    found = audit(lab)
    if found.unplayed > _RUNS / 3:
        pytest.skip(f"this computer is too busy to play a meter: it was too late in {found.unplayed} of {_RUNS} runs")
    for names in (_ENERGIES, _NETS, ("power_mean_w",)):
        _are_within_what_is_stated(found, names)
    _is_of_use(found)
    _has_its_bursts(found)
    again = _Again(lab, monkeypatch)
    assert _is_found_out(again(_later(30, played=False))), "a clock that is off by 30 ms"
    _sees_itself(again(_later(50, played=True)))
    if worst:
        with monkeypatch.context() as patch:
            patch.setattr(integrate, "_moved_j", lambda series, span, by_ns: 0.0)
            assert _is_found_out(again(lambda recording, _: recording)), "without the term of the clock"
    else:
        truths = {path: lab.truth_of(finish.assemble(Kept(path))) for path in lab.runs()[:_AGAIN]}
        assert not _is_found_out(again(_answering(truths))), "a meter that answers"
        with monkeypatch.context() as patch:
            patch.setattr(ClockMap, "to_here", _with_the_drift_turned_round)
            assert _is_found_out(again(_answering(truths))), "the wrong sign of the drift"


def _measure(lab: Lab, models: Path) -> None:
    """Take all runs of a condition: on three phones at once, each on a meter with other columns."""
    build("android-arm64")
    each = math.ceil(_RUNS / len(COLUMNS))
    with ExitStack() as held:
        server = held.enter_context(adb_server("system"))
        phones = [held.enter_context(playing("two-cores")) for _ in COLUMNS]
        devices: list[str] = []
        for k, (phone, columns) in enumerate(zip(phones, COLUMNS, strict=True)):
            server.connect(phone.address)
            lab.name_meter(phone, columns, 1000 * k)
            devices += ["--device", f"adb:{phone.address}"]
        state = lab.folder / "state"
        env = {
            **os.environ,
            "XDG_STATE_HOME": str(state),
            "MELT_MODELS": str(models),
            "MELT_DEVICES": str(lab.profiles),
            "ADB_SERVER_SOCKET": f"tcp:127.0.0.1:{server.port}",
        }
        melt = Melt(env, lab.folder / "store", state)
        held.callback(melt.clean_up)
        words = melt.argv(("run", str(lab.plan(each)), *devices))
        with lab.jittering(phones):
            process = melt.start_program(sys.executable, str(_KEEPING), str(lab.kept), *words[words.index("run") :])
            out, err = process.communicate(timeout=600 + 60 * _RUNS)
        assert process.returncode == 0, out + err


def _are_within_what_is_stated(found: Audit, names: Sequence[str]) -> None:
    ones = _of_repetitions(found, names)
    assert ones
    for holds in ([one.holds for one in ones], [one.holds_without_class for one in ones]):
        assert len(holds) - sum(holds) <= _most_failures(len(holds)), ones
    for name in names:
        runs = [one for run in found.checked for one in run if one.name == name and one.repetition is None]
        failed = [one for one in runs if not (one.holds and one.holds_without_class)]
        # Of a hundred as many must hold as is stated; a handful tells of chance, too.
        most = math.floor((1 - _STATED) * len(runs)) if len(runs) >= _MANY else _most_failures(len(runs))
        assert len(failed) <= most, failed


def _is_of_use(found: Audit) -> None:
    """See what is stated of half a second or more, at a class of 1 %: what any error fits is worth nothing."""
    long = [one for one in _of_repetitions(found, _ENERGIES) if one.time_s >= 0.5]
    assert np.median([one.uncertainty / one.true for one in long]) < 0.015
    assert np.median([one.classless / one.true for one in long]) < 0.01
    refused = found.missing.total() / (found.missing.total() + sum(map(len, found.checked)))
    assert refused < 0.1, found.missing


def _has_its_bursts(found: Audit) -> None:
    """See that most bursts are found, where the clocks put them."""
    runs = len(found.checked)
    assert runs + found.unplayed >= _RUNS
    assert found.signatures >= 0.5 * runs
    assert found.doubts["meter_clock"] <= max(1, 0.05 * runs)


def _sees_itself(found: Audit) -> None:
    """See that melt doubts a clock that is off by 50 ms, and that what it then states covers both places."""
    assert found.doubts["meter_clock"] == found.signatures > 0
    doubted = replace(found, checked=[run for run in found.checked if any(one.doubted for one in run)])
    assert not _is_found_out(doubted)


# A suite that cannot fail is worth nothing: the same runs, with a meter or a melt that is wrong on purpose.

Change = Callable[[Recording, Path], Recording]


@dataclass(frozen=True)
class _Again:
    """Analyses the first runs again as if their meters had said something else."""

    lab: Lab
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, change: Change) -> Audit:
        read = finish.read_recording

        def changed(path: Path) -> RunBundle:
            def read_changed(folder: Path) -> Recording | None:
                recording = read(folder)
                return None if recording is None else change(recording, path)

            with self.monkeypatch.context() as patch:
                patch.setattr(finish, "read_recording", read_changed)
                return finish.assemble(Kept(path))

        return audit(self.lab, changed, at_most=_AGAIN)


def _later(by_ms: int, *, played: bool) -> Change:
    """Return a meter whose times are late, which its clock does not say; with the bursts of the agent, or without."""

    def change(recording: Recording, _: Path) -> Recording:
        noted = recording.noted if played else replace(recording.noted, played=())
        return replace(recording, t_ns=recording.t_ns + by_ms * _MS, noted=noted)

    return change


def _answering(truths: Mapping[Path, Power]) -> Change:
    """Return a meter and a device that answer within 0.1 ms, and the meter runs 190 ppm faster.

    Ten seconds then tell its drift, and nothing hides what a wrong one costs.
    """

    def change(recording: Recording, path: Path) -> Recording:
        power = truths[path]
        one = power.drawn

        def faster(t_ns: np.ndarray) -> np.ndarray:
            return np.asarray(t_ns + np.rint((t_ns - one.offset_ns) * 190e-6).astype(np.int64))

        here_ns = np.arange(recording.clock[0].received_ns, recording.clock[-1].received_ns, 200 * _MS)
        there_ns = one.offset_ns + np.rint((here_ns - power.began_ns) / (1 + one.ppm * 1e-6)).astype(np.int64)
        clock = [
            ClockReading(int(at) - 50_000, int(there), int(at) + 50_000)
            for at, there in zip(here_ns, faster(there_ns), strict=True)
        ]
        device = tuple((at, round(offset / _S) * _S, 50_000) for at, offset, _ in recording.noted.device_clock)
        noted = replace(recording.noted, device_clock=device)
        return replace(recording, noted=noted, t_ns=faster(recording.t_ns), clock=tuple(clock))

    return change


_to_here = ClockMap.to_here


def _with_the_drift_turned_round(self: ClockMap, there_ns: np.ndarray) -> np.ndarray:
    if self.after is None:
        return _to_here(self, there_ns)
    mirrored = Epoch(self.after.here_ns, 2 * self.before.offset_ns - self.after.offset_ns, 0.0)
    return _to_here(ClockMap(self.before, mirrored), there_ns)
