"""Phones of a model share a sweep; what one cannot do any more is done by another."""

from __future__ import annotations

import json
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from melt_rig import Melt
from native_runners import BUILDS, build
from virtual.phone import VirtualPhone
from virtual.phone.clients import AdbServer
from virtual.phone.testing import Adb, adb_server, playing

pytestmark = BUILDS

IMPATIENT = Path(__file__).with_name("impatient_melt.py")

PLAN = """\
devices: [{model: pixel-8, count: 2}]
models: {model: tiny-pydoc, quants: [q8_0, q4_0]}
workloads: [pp16 for 1s, tg16 for 1s]
settings: {threads: 1}
repeat: {warmup: 0, repetitions: 1, sessions: 2}
order: sequential
"""


@pytest.fixture
def server(melt: Melt) -> Iterator[AdbServer]:
    build("android-arm64")
    with adb_server("system") as server:
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        yield server


@pytest.fixture
def phones(server: AdbServer) -> Iterator[tuple[VirtualPhone, VirtualPhone]]:
    with playing() as one, playing(serial="38080DLJH000BB") as other:
        for phone in (one, other):
            Adb(server, phone)
        yield one, other


def _specs(melt: Melt) -> list[dict[str, Any]]:
    return [spec for path in melt.store.glob("sweeps/*.json") for spec in json.loads(path.read_text())["specs"]]


def _published(melt: Melt) -> set[str]:
    """The devices of which a run is in the store."""
    return {spec["device"] for spec in _specs(melt) if (melt.store / "traces" / spec["run_id"]).is_dir()}


def test_phones_of_a_model_share_a_sweep_and_stand_in_for_each_other(
    melt: Melt, phones: tuple[VirtualPhone, VirtualPhone], tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    one, other = phones
    (tmp_path / "plan.yaml").write_text(PLAN)
    process = melt.start("run", str(tmp_path / "plan.yaml"))
    wait_for("a run of each phone", lambda: len(_published(melt)) == 2, timeout_s=120)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 1

    one.fault.unauthorized()
    done = melt("resume", timeout_s=240)
    assert "an equal device did its runs" in done.stderr
    (document,) = (melt.store / "sweeps").glob("*.json")
    sweep = json.loads(document.read_text())
    (move,) = sweep["moves"]
    assert (move["device"], move["to"]) == (f"adb:{one.address}", f"adb:{other.address}")
    ended = {run["run_id"]: run for run in melt.runs()}
    cells = defaultdict(list)
    for spec in sweep["specs"]:
        assert ended[spec["run_id"]]["outcome"] == "ok"
        cells[spec["quant"], spec["workload"]["n_gen"]].append(spec["device"])
    assert len(cells) == 4
    assert all(len(devices) == 2 and len(set(devices)) == 1 for devices in cells.values()), cells


def test_a_phone_that_is_gone_for_good_leaves_its_cells_to_one_that_stood_by(
    melt: Melt,
    server: AdbServer,
    phones: tuple[VirtualPhone, VirtualPhone],
    tmp_path: Path,
    wait_for: Callable[..., object],
) -> None:
    with playing(serial="38080DLJH000CC") as third:
        Adb(server, third)
        plan = PLAN.replace("threads: 1", "threads: 1, timeout_s: 25").replace("q8_0, ", "")
        (tmp_path / "plan.yaml").write_text(plan)
        words = ("run", str(tmp_path / "plan.yaml"), "--store", str(melt.store))
        process = melt.start_program(sys.executable, str(IMPATIENT), "3", *words)
        wait_for("a run of each of two phones", lambda: len(_published(melt)) == 2, timeout_s=120)
        # Which of the three stands by is the inventory's choice; of the two that measure, one has not measured all.
        left = [spec["device"] for spec in _specs(melt) if not (melt.store / "traces" / spec["run_id"]).is_dir()]
        shelf = {f"adb:{phone.address}": phone for phone in (*phones, third)}
        (stands_by,) = shelf.keys() - {spec["device"] for spec in _specs(melt)}
        lost = left[-1]
        shelf[lost].stop()
        _, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
        (move,) = json.loads(next(melt.store.glob("sweeps/*.json")).read_text())["moves"]
        assert (move["device"], move["to"]) == (lost, stands_by)
        assert "is set aside, it failed 3 times in a row" in stderr
        ended = {run["run_id"]: run["outcome"] for run in melt.runs()}
        assert [ended[spec["run_id"]] for spec in _specs(melt)] == ["ok"] * 4
        assert lost not in {spec["device"] for spec in _specs(melt)}
        assert melt.here("store", "verify").returncode == 0
