"""Sweeps over real adb, sshd and agents while melts are killed and devices fail, as a seed says: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from faults.invariants import DeviceAtRest, check
from melt_rig import Melt
from mishaps import Mishap, Night, draw, live_through
from native_runners import build
from virtual.adbd.testing import BUILD_TIMEOUT_S, real_adbd
from virtual.jetson import VirtualJetson
from virtual.jetson.testing import playing as playing_board
from virtual.jetson.testing import said
from virtual.phone import VirtualPhone
from virtual.phone.clients import AdbServer, adb_programs
from virtual.phone.testing import Adb
from virtual.phone.testing import playing as playing_phone

from melt.cli._progress_text import title
from melt.records import RunSpec
from melt.store.selection import Selection
from melt.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.native, pytest.mark.timeout(BUILD_TIMEOUT_S + 1800)]

SEEDS = range(int(os.environ.get("MELT_WALK_SEEDS", "1")))
LASTS_S = float(os.environ.get("MELT_WALK_S", "30"))
"""How long things go wrong. More of both for a night: MELT_WALK_SEEDS=20 MELT_WALK_S=120."""

PLAN = """\
name: {name}
devices: [{devices}]
models: [{{model: tiny-pydoc, quants: {quants}}}]
workloads: [pp16+tg16]
settings: {{threads: 1, timeout_s: 60}}
repeat: {{warmup: 0, repetitions: 2, sessions: {sessions}}}
{more}"""
PHONE = 'conditions: {screen: "off", stay_awake: true, charging: suspended}\ngate: {battery_min_ratio: 20%, wait_s: 3s}'
BOARD = "conditions: {nvpmodel: 15W, jetson_clocks: true}"

_PHONES_OWN = ("settings", "stay_on", "screen", "brightness", "battery_input_suspended")
_DISK = "size=64m"


@dataclass(frozen=True)
class Lab:
    """A phone of each adb daemon, a board, and this machine; the store is on a small disk where there may be one."""

    melt: Melt
    phones: tuple[VirtualPhone, VirtualPhone]
    board: VirtualJetson
    adb: AdbServer
    disk: Path | None

    def at_rest(self) -> Iterator[DeviceAtRest]:
        """How each device stands now; its knobs are compared later with those of another such look."""
        for phone in self.phones:
            state = phone.state()
            listed = Adb(self.adb, phone).shell("ls /data/local/tmp/melt/jobs 2>/dev/null || true")
            knobs = {name: repr(state[name]) for name in _PHONES_OWN}
            yield DeviceAtRest(phone.address, {}, knobs, tuple(listed.split()))
        state = self.board.state()
        listed = said(self.board, "ls .melt/jobs 2>/dev/null; pgrep -f [r]unner.json || true")
        knobs = {name: repr(state[name]) for name in ("mode", "jetson_clocks")}
        yield DeviceAtRest("the board", {}, knobs, tuple(listed.split()))
        yield DeviceAtRest("this machine", {}, {}, tuple(path.name for path in self.melt.job_dirs()))

    def mishaps(self, nights: list[Night]) -> list[Mishap]:
        """Everything that can go wrong here."""
        return [
            *(Mishap(f"the melt of {night.name} is killed", night.die) for night in nights),
            Mishap("somebody presses Ctrl-C", lambda: nights[0].die(signal.SIGINT)),
            Mishap("the adb server is killed", lambda: self.adb.run("kill-server")),
            *(mishap for phone in self.phones for mishap in _of_phone(phone)),
            Mishap("the board's link breaks", self.board.drop_link),
            Mishap("the board's link freezes", self.board.ssh.freeze, self.board.ssh.thaw, 4.0),
            Mishap("the board starts anew", self.board.reboot),
            Mishap("the board's disk is full", self.board.fill_disk, self.board.free_disk, 6.0),
            *([Mishap("the store's disk is full", self._fill, self._free, 3.0)] if self.disk else []),
        ]

    def _fill(self) -> None:
        assert self.disk is not None
        free = os.statvfs(self.disk)
        with (self.disk / "ballast").open("ab") as out, suppress(OSError):
            os.posix_fallocate(out.fileno(), 0, free.f_bavail * free.f_frsize)

    def _free(self) -> None:
        assert self.disk is not None
        (self.disk / "ballast").unlink(missing_ok=True)


def _of_phone(phone: VirtualPhone) -> list[Mishap]:
    name, fault = phone.address, phone.fault
    return [
        Mishap(f"{name}'s cable is moved", fault.drop),
        Mishap(f"{name}'s link freezes", fault.freeze, fault.thaw, 4.0),
        Mishap(f"{name} starts anew", lambda: fault.reboot(boot_s=1)),
        Mishap(f"{name} runs empty and is charged", lambda: fault.reboot(boot_s=5)),
        Mishap(f"{name}'s clock jumps", lambda: fault.clock_jump(3600, boot_s=1)),
        Mishap(f"{name}'s disk is full", fault.disk_full, fault.disk_free, 6.0),
        Mishap(f"{name}'s battery is low", lambda: fault.battery(level=5), lambda: fault.battery(level=None), 6.0),
        Mishap(f"{name} ends the runner for its memory", lambda: fault.memory_kill("runner.json")),
        Mishap(f"{name} ends all of a run", lambda: fault.kill("/data/local/tmp/melt/jobs")),
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", str(folder))
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        yield None
        return
    yield folder
    subprocess.run(("umount", "-l", folder), check=True)


@pytest.fixture
def lab(melt: Melt, small_disk: Path | None, tmp_path: Path) -> Iterator[Lab]:
    programs = adb_programs()
    if not programs:
        pytest.skip("no adb: install Debian's adb or the package adbutils")
    build("android-arm64")
    with ExitStack() as stack:
        pixel = stack.enter_context(playing_phone("pixel-8"))
        other = stack.enter_context(playing_phone("pixel-8", adbd=real_adbd()))
        board = stack.enter_context(playing_board("orin-nano-jp6", tmp_path / "board", home_mb=64))
        adb = stack.enter_context(AdbServer(next(iter(programs.values()))))
        for phone in (pixel, other):
            adb.connect(phone.address)
        board.wait_jtop()
        env = {**melt.env, **board.environment, "ADB_SERVER_SOCKET": f"tcp:127.0.0.1:{adb.port}"}
        here = Melt(env, (small_disk or tmp_path) / "store", melt.state)
        yield Lab(here, (pixel, other), board, adb, small_disk)
        here.clean_up()
        # A melt starts a server in the place of a killed one.
        adb.run("kill-server")


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_every_cell_ends_once(lab: Lab, tmp_path: Path, seed: int) -> None:
    phones = ", ".join(f'"{phone.address}"' for phone in lab.phones)
    sweeps = {
        # A large file travels slowly into an emulated CPU's checksum.
        "phones": PLAN.format(name="phones", devices=phones, quants="[q4_0]", sessions=3, more=PHONE),
        "board": PLAN.format(name="board", devices=lab.board.selector, quants="[q8_0, q4_0]", sessions=2, more=BOARD),
        "here": PLAN.format(name="here", devices="local", quants="[q8_0, q4_0]", sessions=4, more=""),
    }
    nights = []
    for name, text in sweeps.items():
        plan = tmp_path / f"{name}.yaml"
        plan.write_text(text)
        nights.append(Night(lab.melt, name, ("run", str(plan))))
    before = {device.name: device.knobs_now for device in lab.at_rest()}

    diary: list[str] = []
    live_through(nights, draw(Random(seed), lab.mishaps(nights), LASTS_S, every_s=2.0), diary)

    story = "\n".join([f"seed {seed}", *diary, *(f"== {night.name}\n{night.log()}" for night in nights)])
    (tmp_path / "story.txt").write_text(story)
    devices = [DeviceAtRest(one.name, before[one.name], one.knobs_now, one.running) for one in lab.at_rest()]
    for night in nights:
        sweep = night.sweep()
        assert sweep is not None
        assert check(lab.melt.store, sweep.sweep_id, night.asked, {}, devices) == [], story
        unheard = night.acknowledged() - _published(lab.melt, sweep.sweep_id)
        assert not unheard, f"said to be kept, and is not, or said twice: {unheard}\n{story}"
    assert lab.melt.here("store", "verify").returncode == 0


def _published(melt: Melt, sweep_id: str) -> Counter[tuple[str, str, str]]:
    def key(spec: RunSpec, outcome: str) -> tuple[str, str, str]:
        return spec.device, title(spec), outcome

    with Store.open(melt.store, create=False) as store:
        bundles = store.bundles(Selection(sweep=sweep_id))
    return Counter(key(bundle.start.spec, bundle.stop.outcome.value) for bundle in bundles)
