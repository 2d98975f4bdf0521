"""A phone with a clock of its own, behind a link that jitters, watched by a meter with another clock of its own."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from melt_rig import Melt
from native_runners import BUILDS, build
from played_meter import name_meter, true_j
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, playing

pytestmark = BUILDS

_S = 1_000_000_000
_WORST_S = 0.02


@contextmanager
def _jitter(phone: VirtualPhone) -> Iterator[None]:
    """Let each moment have another latency, up to the worst of a Wi-Fi that is busy."""
    over, chance = threading.Event(), random.Random(11)

    def change() -> None:
        while not over.wait(0.03):
            phone.fault.latency(chance.uniform(0, _WORST_S))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        yield
    finally:
        over.set()
        changing.join()
        phone.fault.latency(0)


def test_energy_of_a_phone_is_the_meters_within_what_it_states(melt: Melt, tmp_path: Path) -> None:
    build("android-arm64")
    melt.env["MELT_DEVICES"] = str(name_meter(tmp_path, "{name: Pixel 8, os: android}"))
    with playing("pixel-8") as phone, adb_server("system") as server:
        server.connect(phone.address)
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        cell = ("--model", "tiny-pydoc", "-t", "1", "-r", "3", "--warmup", "0", "-pg", "8,8")
        with _jitter(phone):
            melt("run", "--device", f"adb:{phone.address}", *cell, timeout_s=600)
        shown = json.loads(melt("show", "last", "-o", "json").stdout)
    # A virtual phone's clock is this computer's less whole seconds, so the truth is known to the nanosecond.
    ahead_ns = round(shown["start"]["clock_offset_ns"] / _S) * _S
    assert ahead_ns > 0
    found = {m["repetition"]: m for m in shown["metrics"] if m["name"] == "energy_decode_j"}
    windows = [w for w in shown["windows"] if w["phase"] == "decode"]
    assert len(windows) == 3
    for window in windows:
        metric = found[window["repetition"]]
        truth_j = true_j(window["t0_ns"] + ahead_ns, window["t1_ns"] + ahead_ns)
        assert metric["source"] == "external meter, whole device"
        assert abs(metric["value"] - truth_j) <= metric["uncertainty"]
        assert metric["uncertainty"] < 0.5 * truth_j
    assert not [reason for reason in shown["stop"]["reasons"] if reason["code"].startswith("meter")]
