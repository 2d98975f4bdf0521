"""Two phones, two levels, one link dropped and one phone started anew on the way: every cell ends as it should."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from melt_rig import Melt
from native_runners import build
from virtual.adbd.testing import BUILD_TIMEOUT_S, real_adbd
from virtual.phone import Unavailable, VirtualPhone, require
from virtual.phone.clients import AdbServer, adb_programs

pytestmark = [pytest.mark.slow, pytest.mark.native, pytest.mark.timeout(BUILD_TIMEOUT_S + 1800)]

Wait = Callable[..., object]

PLAN = """\
name: two phones
devices: [{devices}]
models:
  - {{model: tiny-pydoc, quants: [q8_0, q4_0]}}
workloads: [pp32+tg16 for {seconds}s]
settings: {{threads: 1}}
repeat: {{warmup: 1, repetitions: 1}}
conditions: {{screen: "off", stay_awake: true, charging: suspended, brightness: 10}}
gate: {{battery_min_ratio: 20%, wait_s: 30s}}
"""


@pytest.fixture(scope="session", params=["emulated", "real"])
def daemon(request: pytest.FixtureRequest) -> str | Path:
    """The adb daemon of the phones: ours, and the one of AOSP."""
    if request.param == "emulated":
        return "emulated"
    return real_adbd()


@pytest.fixture
def adb() -> Iterator[AdbServer]:
    programs = adb_programs()
    if not programs:
        pytest.skip("no adb: install Debian's adb or the package adbutils")
    with AdbServer(next(iter(programs.values()))) as server:
        yield server


@pytest.fixture
def phones(daemon: str | Path, adb: AdbServer) -> Iterator[tuple[VirtualPhone, VirtualPhone]]:
    """A Pixel 8 and an old phone with other CPUs; connected."""
    try:
        require()
    except Unavailable as missing:
        pytest.skip(str(missing))
    build("android-arm64")
    with ExitStack() as stack:
        pixel, old = (stack.enter_context(VirtualPhone(name, adbd=daemon)) for name in ("pixel-8", "mi-a1"))
        for phone in (pixel, old):
            adb.connect(phone.address)
        yield pixel, old


@pytest.fixture
def lab(melt: Melt, adb: AdbServer) -> Melt:
    """Melt with the test's own adb server."""
    melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{adb.port}"
    return melt


def _collecting(melt: Melt, phone: VirtualPhone) -> bool:
    """Whether a run on this phone has begun to come home; fails when melt has ended before."""
    assert melt.started[-1].poll() is None, melt.started[-1].communicate()
    for site in melt.store.glob("spool/*/site.json"):
        journal = site.with_name("journal")
        if phone.address in site.read_text() and journal.is_file() and journal.stat().st_size > 4000:
            return True
    return False


def test_a_sweep_survives_a_dropped_link_and_a_reboot(
    lab: Melt, phones: tuple[VirtualPhone, VirtualPhone], tmp_path: Path, wait_for: Wait
) -> None:
    pixel, old = phones
    found = [phone.state() for phone in phones]
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN.format(devices=f"{pixel.address}, 'adb:{old.address}'", seconds=8))
    process = lab.start("run", str(plan))
    wait_for("a run on the Pixel", lambda: _collecting(lab, pixel), timeout_s=120)
    pixel.fault.drop()
    wait_for("a run on the old phone", lambda: _collecting(lab, old), timeout_s=120)
    old.fault.reboot()
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in err, err
    assert process.returncode == 1, err
    runs = lab.runs()
    assert len(runs) == 4, err
    assert sorted(str(run["outcome"]) for run in runs) == ["device_lost", "ok", "ok", "ok"], err
    assert "q8_0" in out
    assert "melt resume" in err

    lab("resume", timeout_s=240)
    runs = lab.runs()
    assert sorted(str(run["outcome"]) for run in runs) == ["device_lost", "ok", "ok", "ok", "ok"]
    assert [_settings(phone.state()) for phone in phones] == [_settings(state) for state in found]
    assert lab("store", "verify").returncode == 0

    lab("run", "--model", "tiny-pydoc", "--quant", "q8_0,q4_0", "--workload", "pp32+tg16 for 8s", "-t", "1", "-r", "1")
    everything = ("--model", "tiny-pydoc", "--outcome", "ok")
    compared = lab("compare", *everything, "--by", "device", "-o", "json").stdout
    exported = list(csv.DictReader(io.StringIO(lab("export", "-f", "csv", *everything).stdout)))
    for name in ("Google Pixel 8", "Xiaomi Mi A1"):
        assert name in compared
        assert name in {row["device_name"] for row in exported}
    assert len(json.loads(compared)["groups"]) >= 2, "a phone with its screen off stands in a group of its own"
    assert len({row["device_name"] for row in exported}) == 3


def _settings(state: dict[str, object]) -> dict[str, object]:
    """What a run may change and must put back; clocks, heat and charge go their own way."""
    own = ("settings", "stay_on", "screen", "brightness", "battery_input_suspended", "fixed_performance")
    return {name: state[name] for name in own}
