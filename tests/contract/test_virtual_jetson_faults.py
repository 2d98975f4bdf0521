"""The real agent on the virtual Jetson over melt's own SSH: rails at 100 Hz, broken links, full disks, loud shells.

How knobs are set and put back is held in test_jetson_knobs.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from virtual.jetson import VirtualJetson
from virtual.jetson.testing import playing, ssh
from virtual.phone.testing import eventually

from melt.errors import NoSpace, TransportError
from melt.records import Conditions, Sampling
from melt.session.connect import Site, connect
from melt.targets.jobfile import Job
from melt.targets.knobs import KnobPlan, plan_knobs
from melt.telemetry.base import Discovery
from melt.telemetry.decode import decode
from melt.telemetry.journal import Event, Journal, read_journal
from melt.telemetry.platforms import platform
from melt.telemetry.schedule import Schedule, make_schedule

pytestmark = pytest.mark.slow

SECONDS = 4
RATE_HZ = 100


class Board:
    """A board and melt's view of it."""

    def __init__(self, jetson: VirtualJetson, site: Site) -> None:
        self.jetson, self.site = jetson, site
        self.agent = site.target.agent

    def rails(self) -> Schedule:
        """Plan what is read of the power rails as fast as they may be read."""
        found = platform("linux").discover(self.site.snapshot, Sampling(power_hz=RATE_HZ))
        return make_schedule(Discovery(tuple(s for s in found.files if s.streams[0].collector == "rails")))

    def plan(self, name: str, **conditions: Any) -> KnobPlan:
        run, facts = self.site.target.transport.run, self.site.target.facts
        return plan_knobs(Conditions(**conditions), facts, run, self.site.selector, self.site.job_dir(name))

    def start(self, job: Job, folder: Path) -> str:
        where = self.site.job_dir(job.run_id)
        self.site.target.transport.run(("mkdir", "-p", where))
        (folder / "job").write_bytes(job.render())
        self.site.target.transport.push(folder / "job", f"{where}/job")
        self.agent.start(where)
        return where

    def wait(self, where: str) -> dict[str, Any]:
        """Wait until a job has ended, whatever becomes of the link; return what its `end` says."""
        found: list[dict[str, Any]] = []

        def ended() -> bool:
            try:
                status = self.agent.status(where)
            except TransportError:
                return False
            found.extend([dict(status.end)] if status.end else [])
            return bool(found)

        eventually(ended, timeout_s=60)
        return found[0]

    def journal(self, where: str) -> Journal:
        with self.agent.tail(where) as channel:
            return read_journal(b"".join(iter(lambda: channel.read(1 << 16, 10) or b"", b"")))

    def knobs(self) -> tuple[str, bool]:
        state = self.jetson.state()
        return state["mode"], state["jetson_clocks"]


@contextmanager
def _reached(profile: str, folder: Path, **options: Any) -> Iterator[Board]:
    options = {"jtop": None, "home_mb": 64, **options}
    with playing(profile, folder, **options) as jetson, pytest.MonkeyPatch.context() as patch:
        for name, value in jetson.environment.items():
            patch.setenv(name, value)
        site = connect(jetson.selector)
        try:
            yield Board(jetson, site)
        finally:
            site.close()


@pytest.fixture(scope="module")
def orin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with _reached("orin-nano-jp6", tmp_path_factory.mktemp("orin")) as board:
        yield board


def test_facts_are_those_of_the_board(orin: Board) -> None:
    facts = orin.site.target.facts
    assert facts.name == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert facts.soc == "tegra234 (6x Cortex-A78AE)"
    assert (facts.os_build, facts.power_mode, facts.clocks_locked) == ("JetPack 6.2 (L4T 36.4.3)", "25W", False)
    assert facts.memory_total_bytes == 7_803_096 << 10
    assert facts.virtualization is None
    here = connect("local")
    here.close()
    assert facts.device_id != here.target.facts.device_id
    assert abs(orin.site.clock_offset_ns) > 1e9, "its clock is its own"


@pytest.mark.parametrize("profile", ["orin-nano-jp6", "nano-jp4"])
def test_rails_are_sampled_at_100_hz_and_what_is_missed_is_counted(profile: str, tmp_path: Path) -> None:
    with _reached(profile, tmp_path / "board") as board:
        schedule = board.rails()
        where = board.start(Job(run_id="rails", linger_s=SECONDS, groups=schedule.groups), tmp_path)
        board.wait(where)
        journal = board.journal(where)
        millivolt = 5.064 if profile == "orin-nano-jp6" else 5.04
        total = "rail_vdd_in" if profile == "orin-nano-jp6" else "rail_pom_5v_in"
    (trace,) = decode(journal, schedule)
    (last,) = [r.data for r in journal.records if isinstance(r, Event) and r.name == "self"][-1:]
    (missed,) = last["missed"].values() if isinstance(last["missed"], dict) else last["missed"]
    assert abs(len(trace.t_ns) + missed - SECONDS * RATE_HZ) <= 2
    assert missed < SECONDS * RATE_HZ / 10
    steps_ms = np.diff(trace.t_ns) / 1e6
    assert np.median(steps_ms) == pytest.approx(1e3 / RATE_HZ, rel=0.02)
    assert not [name for name, values in trace.columns.items() if np.isnan(values).any()]
    volts = [values for name, values in trace.columns.items() if name.startswith(total) and name.endswith("_v")]
    assert all((values == millivolt).all() for values in volts)
    watts = [values for name, values in trace.columns.items() if name.startswith(total) and name.endswith("_w")]
    assert watts, trace.columns.keys()
    assert len(np.unique(watts[0])) > 5, "a board's power moves"
    assert ((watts[0] > 1) & (watts[0] < 25)).all()


def test_knobs_are_put_back_when_the_link_drops(orin: Board, tmp_path: Path) -> None:
    before = orin.knobs()
    plan = orin.plan("dropped", nvpmodel="MAXN_SUPER", jetson_clocks=True)
    job = Job(run_id="dropped", runner=("sleep", "3"), prepares=plan.prepares, restores=plan.restores)
    where = orin.start(job, tmp_path)
    eventually(lambda: orin.knobs() == ("MAXN_SUPER", True), timeout_s=30)
    orin.jetson.drop_link()
    eventually(lambda: orin.knobs() == before, timeout_s=60)
    assert orin.wait(where)["reason"] == "completed"


def test_a_full_disk_is_named_and_room_helps(orin: Board, tmp_path: Path) -> None:
    big = tmp_path / "model"
    big.write_bytes(bytes(4 << 20))
    remote = f"{orin.site.target.root}/big"
    orin.jetson.fill_disk(leave_kb=512)
    try:
        with pytest.raises(NoSpace):
            orin.site.target.transport.push(big, remote)
    finally:
        orin.jetson.free_disk()
    orin.site.target.transport.push(big, remote)
    assert (orin.jetson.home / ".melt/big").stat().st_size == 4 << 20
    ssh(orin.jetson, "rm .melt/big")


def test_a_disk_that_fills_up_in_mid_run_ends_in_order(orin: Board, tmp_path: Path) -> None:
    schedule = orin.rails()
    job = Job(run_id="full", runner=("sleep", "4"), groups=schedule.groups)
    where = orin.start(job, tmp_path)
    orin.jetson.fill_disk()
    try:
        end = orin.wait(where)
    finally:
        orin.jetson.free_disk()
    assert (end["reason"], end["exit_code"]) == ("completed", 0)
    assert end["journal_errno"] == 28
    assert _events(orin.journal(where), "journal_full")


def test_noise_and_an_odd_locale_change_nothing(tmp_path: Path, orin: Board) -> None:
    with _reached("orin-nano-jp6", tmp_path, noise=True, locale="tr_TR.UTF-8") as noisy:
        loud, quiet = noisy.site.target.facts, orin.site.target.facts
        assert (loud.device_id, loud.os_build, loud.power_mode) == (quiet.device_id, "JetPack 6.2 (L4T 36.4.3)", "25W")
        assert noisy.site.target.root == "/home/jetson/.melt"
        assert noisy.plan("x", nvpmodel="15W").knobs[0].before == "25W"


def _events(journal: Journal, name: str) -> list[Event]:
    return [record for record in journal.records if isinstance(record, Event) and record.name == name]
