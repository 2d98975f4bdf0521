"""The clock that skips idle time, and a shelf of simulated devices on it: what benchmarks/fleet.py stands on."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from threading import Thread

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fleet
from skipping_clock import SkippingClock

HOUR_NS = 3600 * 10**9


def test_an_hour_in_which_all_sleep_takes_no_time_and_everyone_wakes_in_turn() -> None:
    clock = SkippingClock(3)
    begun_ns, real_s = clock.now_ns(), time.perf_counter()
    woken: list[tuple[int, int]] = []

    def sleeper(number: int) -> None:
        for hour in range(1, 4):
            due_ns = begun_ns + hour * HOUR_NS + number * 10**9
            clock.sleep_until(due_ns)
            assert clock.now_ns() >= due_ns
            woken.append((hour, number))
        clock.leave()

    threads = [Thread(target=sleeper, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert woken == sorted(woken)
    assert len(woken) == 9
    assert time.perf_counter() - real_s < 10


def test_work_takes_the_time_it_takes() -> None:
    clock = SkippingClock(2)
    clock_ns = clock.now_ns()
    sleeper = Thread(target=clock.sleep_until, args=(clock_ns + HOUR_NS,), daemon=True)
    sleeper.start()
    sleeper.join(timeout=0.2)  # the other actor works for so long
    assert sleeper.is_alive()
    assert clock.now_ns() - clock_ns < 60 * 10**9
    clock.leave()
    sleeper.join(timeout=10)
    assert not sleeper.is_alive(), "nobody else is left: the hour is skipped"


@pytest.mark.slow
def test_simulated_devices_are_measured_as_real_ones_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "restored afterwards")
    found = fleet.measure(3, 2, 60.0, tmp_path)
    assert 0.5 < found.busy_ratio < 1
    assert found.overhead_s > 0
    assert found.real_s < 60
