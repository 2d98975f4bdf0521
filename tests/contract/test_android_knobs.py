"""Every knob on every kind of phone: planning changes nothing, setting is seen, restoring gives back what was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, eventually, playing

from melt.errors import UsageError
from melt.records import Conditions, DeviceFacts
from melt.targets import android
from melt.targets.agent import AgentClient
from melt.targets.jobfile import Job
from melt.targets.knobs import CHECK, KnobPlan, plan_knobs
from melt.targets.probe import take_snapshot
from melt.telemetry.journal import Event as JournalEvent
from melt.telemetry.journal import JournalReader
from melt.transports.base import Transport
from melt.transports.registry import open_transport

pytestmark = pytest.mark.slow

PROFILES = ("pixel-8", "galaxy-s21", "mi-a1", "locked-down")


class Reached:
    """A phone, the link to it, and what is known of it."""

    def __init__(self, phone: VirtualPhone, transport: Transport) -> None:
        self.phone, self.transport = phone, transport
        known = take_snapshot(transport, self, (), android.FACT_COMMANDS)
        self.facts: DeviceFacts = android.parse_facts(known, device_id_hint="x", kind="adb")

    def read(self, globs: object) -> dict[str, bytes]:
        return {}

    def plan(self, **conditions: Any) -> KnobPlan:
        return plan_knobs(Conditions(**conditions), self.facts, self.transport.run)

    def state(self) -> dict[str, Any]:
        state = self.phone.state()
        state.pop("charge_uah")
        # A property that was not there stays, with the value of one that is not.
        state["props"].pop("power.battery_input.suspended", None)
        return state

    def set(self, plan: KnobPlan) -> dict[str, str]:
        """Do what the agent does before a run; return what each check printed."""
        done = {prepare.name: self.transport.run(prepare.argv) for prepare in plan.prepares}
        return {
            name.removeprefix(CHECK): one.stdout.decode().strip()
            for name, one in done.items()
            if name.startswith(CHECK)
        }

    def restore(self, plan: KnobPlan) -> None:
        for restore in plan.restores:
            assert self.transport.run(restore.argv).exit_code == 0, restore


@pytest.fixture(scope="module")
def reached() -> Iterator[dict[str, Reached]]:
    with ExitStack() as stack:
        server = stack.enter_context(adb_server("system"))
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{server.port}")
        found = {}
        for name in PROFILES:
            phone = stack.enter_context(playing(name, data_mb=8))
            server.connect(phone.address)
            transport = open_transport(f"adb:{phone.address}")
            stack.callback(transport.close)
            found[name] = Reached(phone, transport)
        yield found


@pytest.mark.parametrize(
    ("profile", "conditions", "changed"),
    [
        ("pixel-8", {"screen": "off"}, {"screen": "off"}),
        ("pixel-8", {"brightness": 7}, {"brightness": 7}),
        ("pixel-8", {"stay_awake": True}, {"stay_on": 7}),
        ("pixel-8", {"charging": "suspended"}, {"battery_input_suspended": True}),
        ("pixel-8", {"fixed_performance": True}, {"fixed_performance": True}),
        ("pixel-8", {"airplane": True, "wifi": True}, {"airplane": True, "wifi": True}),
        ("pixel-8", {"wifi": False}, {"wifi": False}),
        (
            "galaxy-s21",
            {"screen": "on", "stay_awake": True, "charging": "allowed", "brightness": 0},
            {"screen": "on", "stay_on": 7, "battery_input_suspended": False, "brightness": 0},
        ),
        ("mi-a1", {"screen": "off", "stay_awake": False}, {"screen": "off", "stay_on": 0}),
    ],
)
def test_a_knob_is_set_read_back_and_put_back(
    reached: dict[str, Reached], profile: str, conditions: dict[str, Any], changed: dict[str, Any]
) -> None:
    one = reached[profile]
    before = one.state()
    plan = one.plan(**conditions)
    assert one.state() == before, "planning changed the phone"
    try:
        read = one.set(plan)
        during = one.state()
        assert {key: during[key] for key in changed} == changed
        assert read == {knob.name: knob.asked for knob in plan.knobs}
    finally:
        one.restore(plan)
    assert one.state() == before


def test_what_a_phone_refuses_reads_back_as_it_was(reached: dict[str, Reached]) -> None:
    plan = reached["galaxy-s21"].plan(charging="suspended")
    assert reached["galaxy-s21"].set(plan) == {"charging": "allowed"}


def test_a_knob_that_was_turned_already_stays_turned(reached: dict[str, Reached]) -> None:
    one = reached["pixel-8"]
    one.transport.run(("input", "keyevent", "223"))
    try:
        plan = one.plan(screen="on")
        assert one.set(plan)["screen"] == "on"
        one.restore(plan)
        assert one.state()["screen"] == "off"
    finally:
        one.transport.run(("input", "keyevent", "224"))


def test_an_old_phone_and_made_up_batteries_are_refused_with_a_sentence(reached: dict[str, Reached]) -> None:
    with pytest.raises(UsageError, match=r"fixed_performance: .* runs Android \d, the command came with Android 11"):
        reached["mi-a1"].plan(fixed_performance=True)
    one = reached["pixel-8"]
    one.transport.run(("dumpsys", "battery", "unplug"))
    try:
        with pytest.raises(UsageError, match="dumpsys battery reset"):
            one.plan(charging="suspended")
    finally:
        one.transport.run(("dumpsys", "battery", "reset"))


def test_a_link_is_not_cut(reached: dict[str, Reached]) -> None:
    one = reached["pixel-8"]
    for conditions in ({"wifi": False}, {"airplane": True}):
        for selector in ("adb:192.168.1.7:5555", "adb:adb-1A2B._adb-tls-connect._tcp", "adb:10.0.0.2:41234@host:5037"):
            with pytest.raises(UsageError, match="reached by Wi-Fi"):
                plan_knobs(Conditions(**conditions), one.facts, one.transport.run, selector)
        assert plan_knobs(Conditions(**conditions), one.facts, one.transport.run, "adb:1A2B@host:5037").prepares


def test_a_setting_that_two_conditions_need_is_set_once(reached: dict[str, Reached]) -> None:
    plan = reached["pixel-8"].plan(screen="on", stay_awake=True)
    names = [prepare.name for prepare in plan.prepares]
    assert "check screen_timeout" in names
    assert len(set(names)) == len(names)


def test_the_agent_puts_everything_back_when_the_host_never_returns(
    reached: dict[str, Reached], tmp_path: Path
) -> None:
    """The whole of it on the phone: set before the runner, seen in the journal, undone when it is over."""
    one = reached["pixel-8"]
    before = one.state()
    root = android.root(one.transport)
    agent = AgentClient(one.transport, root)
    agent.deploy()
    plan = one.plan(screen="off", brightness=10, stay_awake=True, charging="suspended", airplane=True)
    job = Job(run_id="knobs", runner=("sleep", "600"), timeout_s=3, prepares=plan.prepares, restores=plan.restores)
    folder = f"{root}/jobs/knobs"
    one.transport.run(("mkdir", "-p", folder))
    (tmp_path / "job").write_bytes(job.render())
    one.transport.push(tmp_path / "job", f"{folder}/job")
    agent.start(folder)
    eventually(lambda: one.state() != before)
    # From here on nobody on the host does anything but look at the phone itself.
    eventually(lambda: one.state() == before, timeout_s=60)
    eventually(lambda: agent.status(folder).state == "ended", timeout_s=20)
    with agent.tail(folder) as channel:
        journal = b"".join(iter(lambda: channel.read(1 << 16, 10) or b"", b""))
    events = [record for record in JournalReader().feed(journal) if isinstance(record, JournalEvent)]
    said = {e.data["name"]: str(e.data["stdout"]).strip() for e in events if e.name == "prepared"}
    assert {name.removeprefix(CHECK): text for name, text in said.items() if name.startswith(CHECK)} == {
        knob.name: knob.asked for knob in plan.knobs
    }
    (end,) = (e.data for e in events if e.name == "end")
    assert end["reason"] == "timeout"
    assert all(restored["ok"] for restored in end["restored"])  # type: ignore[attr-defined]
