"""Two phones of a model share a sweep; one that cannot be reached any more leaves its cells to the other."""

from __future__ import annotations

import json
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from melt_rig import Melt
from native_runners import BUILDS, build
from virtual.phone import VirtualPhone
from virtual.phone.testing import Adb, adb_server, playing

pytestmark = BUILDS

PLAN = """\
devices: [{model: pixel-8, count: 2}]
models: {model: tiny-pydoc, quants: [q8_0, q4_0]}
workloads: [pp16 for 1s, tg16 for 1s]
settings: {threads: 1}
repeat: {warmup: 0, repetitions: 1, sessions: 2}
order: sequential
"""


@pytest.fixture
def phones(melt: Melt) -> Iterator[tuple[VirtualPhone, VirtualPhone]]:
    with playing() as one, playing(serial="38080DLJH000BB") as other, adb_server("system") as server:
        build("android-arm64")
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        for phone in (one, other):
            Adb(server, phone)
        yield one, other


def _published(melt: Melt) -> set[str]:
    """The devices of which a run is in the store."""
    specs = [spec for path in melt.store.glob("sweeps/*.json") for spec in json.loads(path.read_text())["specs"]]
    return {spec["device"] for spec in specs if (melt.store / "traces" / spec["run_id"]).is_dir()}


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
