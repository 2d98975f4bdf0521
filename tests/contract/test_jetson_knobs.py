"""A Jetson's power mode and clocks, through SSH, sudo and the real agent: set, seen, and put back whoever dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from virtual.jetson import Unavailable, VirtualJetson
from virtual.phone.testing import eventually

from melt.errors import UsageError
from melt.records import Conditions, DeviceFacts
from melt.targets import linux
from melt.targets.agent import AgentClient
from melt.targets.jobfile import Job
from melt.targets.knobs import CHECK, KnobPlan, plan_knobs
from melt.targets.probe import take_snapshot
from melt.telemetry.journal import Event as JournalEvent
from melt.telemetry.journal import JournalReader
from melt.transports.registry import open_transport

pytestmark = pytest.mark.slow

soon = partial(eventually, timeout_s=60.0)

ORIN, NANO = "orin-nano-jp6", "nano-jp4"
FOUND = ("25W", False)
"""The mode that the Orin is found in, and whether its clocks are fixed."""

A_MINUTE = ("sleep", "60")


class Board:
    """A board that is played, the link to it, and what is known of it."""

    def __init__(self, jetson: VirtualJetson) -> None:
        self.jetson = jetson
        self.n_jobs, self.folder = 0, ""
        self.connect()

    def connect(self) -> None:
        self.transport = open_transport(self.jetson.selector)
        self.root = linux.root(self.transport)
        self.agent = AgentClient(self.transport, self.root)
        self.agent.deploy()

    def facts(self) -> DeviceFacts:
        known = take_snapshot(self.transport, self.agent, linux.FACT_GLOBS, linux.FACT_COMMANDS)
        return linux.parse_facts(known, device_id_hint="x", kind="ssh")

    def plan(self, **conditions: Any) -> KnobPlan:
        """Plan the conditions of a new job, in `folder`."""
        self.n_jobs += 1
        self.folder = f"{self.root}/jobs/{self.n_jobs}"
        run = self.transport.run
        return plan_knobs(Conditions(**conditions), self.facts(), run, self.jetson.selector, self.folder)

    def start(self, plan: KnobPlan, tmp_path: Path, *runner: str) -> str:
        """Start the job that was planned last, and return its folder."""
        job = Job(run_id="knobs", runner=runner, prepares=plan.prepares, restores=plan.restores)
        self.transport.run(("mkdir", "-p", self.folder))
        (tmp_path / "job").write_bytes(job.render())
        self.transport.push(tmp_path / "job", f"{self.folder}/job")
        self.agent.start(self.folder)
        return self.folder

    def kill(self, folder: str, *roles: str) -> None:
        """Kill processes of the agent as nothing else can, once all of them are there."""
        found: dict[str, str] = {}

        def all_there() -> bool:
            rows = self.transport.run(("cat", f"{folder}/pid")).stdout.decode().splitlines()
            found.update({row.split()[0]: row.split()[1] for row in rows})
            return found.keys() >= set(roles)

        soon(all_there)
        self.transport.run(("kill", "-9", *(found[role] for role in roles)))

    def events(self, folder: str) -> list[JournalEvent]:
        with self.agent.tail(folder) as channel:
            journal = b"".join(iter(lambda: channel.read(1 << 16, 10) or b"", b""))
        return [record for record in JournalReader().feed(journal) if isinstance(record, JournalEvent)]

    def said(self, folder: str) -> dict[str, dict[str, object]]:
        """Return what each program printed that set a knob or read one back."""
        return {str(e.data["name"]): e.data for e in self.events(folder) if e.name == "prepared"}

    def end(self, folder: str) -> dict[str, Any]:
        soon(lambda: self.agent.status(folder).state == "ended")
        return self.agent.status(folder).end or {}

    def mode(self) -> tuple[str, bool]:
        state = self.jetson.state()
        return state["mode"], state["jetson_clocks"]


@contextmanager
def playing(folder: Path, profile: str = ORIN, **options: Any) -> Iterator[Board]:
    try:
        jetson = VirtualJetson(profile, folder, jtop=None, **options)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with jetson, pytest.MonkeyPatch.context() as patch:
        for name, value in jetson.environment.items():
            patch.setenv(name, value)
        board = Board(jetson)
        try:
            yield board
        finally:
            board.transport.close()


@pytest.fixture(scope="module")
def orin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with playing(tmp_path_factory.mktemp("orin")) as board:
        yield board


@pytest.fixture
def board(orin: Board) -> Board:
    """Return the board as it is found: each test leaves it so."""
    assert orin.mode() == FOUND
    return orin


def check_round(board: Board, tmp_path: Path, conditions: dict[str, Any], during: tuple[str, bool]) -> None:
    before = board.mode()
    plan = board.plan(**conditions)
    assert board.mode() == before, "planning changed the board"
    folder = board.start(plan, tmp_path, "sh", "-c", 'until [ -e "$0" ]; do sleep 0.1; done', f"{board.folder}/enough")
    soon(lambda: board.mode() == during)
    assert (board.facts().power_mode, board.facts().clocks_locked) == during
    # From here on nobody on the host does anything but look at the board itself.
    (board.jetson.root / f"{folder}/enough".lstrip("/")).touch()
    soon(lambda: board.mode() == before)
    end = board.end(folder)
    assert end["reason"] == "completed"
    assert [one["ok"] for one in end["restored"]] == [True] * len(plan.restores)
    said = board.said(folder)
    assert {name.removeprefix(CHECK): str(one["stdout"]).strip() for name, one in said.items() if CHECK in name} == {
        knob.name: knob.asked for knob in plan.knobs
    }


@pytest.mark.parametrize(
    ("conditions", "during"),
    [
        ({"nvpmodel": "15w"}, ("15W", False)),
        ({"jetson_clocks": True}, ("25W", True)),
        ({"nvpmodel": "2", "jetson_clocks": True}, ("MAXN_SUPER", True)),
    ],
)
def test_the_agent_sets_and_puts_back_without_the_host(
    board: Board, tmp_path: Path, conditions: dict[str, Any], during: tuple[str, bool]
) -> None:
    check_round(board, tmp_path, conditions, during)


def test_jetpack_4_does_it_with_its_own_files(tmp_path: Path) -> None:
    with playing(tmp_path / "nano", NANO) as board:
        check_round(board, tmp_path, {"nvpmodel": "5W", "jetson_clocks": True}, ("5W", True))


def test_what_was_set_is_put_back_when_the_worker_is_killed(board: Board, tmp_path: Path) -> None:
    folder = board.start(board.plan(nvpmodel="15W", jetson_clocks=True), tmp_path, *A_MINUTE)
    soon(lambda: board.mode() == ("15W", True))
    board.kill(folder, "worker", "runner")
    soon(lambda: board.mode() == FOUND)
    assert board.end(folder)["reason"] == "agent_killed"


def test_clocks_that_an_interrupted_run_fixed_are_released_when_it_is_recovered(board: Board, tmp_path: Path) -> None:
    """A run between the two finds them fixed, and leaves them: what was before is in the first job's own folder."""
    first = board.start(board.plan(nvpmodel="15W", jetson_clocks=True), tmp_path, *A_MINUTE)
    soon(lambda: board.mode() == ("15W", True))
    board.kill(first, "guardian", "worker", "runner")
    soon(lambda: board.agent.status(first).state == "dead")
    with pytest.raises(UsageError, match="only who fixed them can tell"):
        board.plan(jetson_clocks=False)
    plan = board.plan(jetson_clocks=True)
    assert [prepare.name for prepare in plan.prepares] == ["check jetson_clocks"]
    board.end(board.start(plan, tmp_path, "true"))
    assert board.mode() == ("15W", True)
    board.agent.recover(first)
    assert board.mode() == FOUND


@pytest.mark.parametrize(("tool", "words"), [("nvpmodel", ("-m", "0")), ("jetson_clocks", ())])
def test_what_is_put_back_waits_for_a_tool_that_was_cut_off_and_goes_on_as_root(
    board: Board, tool: str, words: tuple[str, ...]
) -> None:
    """No process of the user's can end one of root's: it is late, and must not have the last word."""
    plan = board.plan(nvpmodel="15W") if tool == "nvpmodel" else board.plan(jetson_clocks=True)
    (path,) = (found for found in (board.jetson.root / "usr").glob(f"*bin/{tool}"))
    board.transport.run(("mkdir", "-p", board.folder))
    board.transport.run(("sudo", "-n", "jetson_clocks", "--store", f"{board.folder}/clocks"))
    real = path.rename(path.with_name(f"{tool}.real"))
    path.write_text(
        f'#!/bin/sh\n[ "$#-$1" = "{len(words)}-{"".join(words[:1])}" ] && sleep 3\n/usr/*bin/{real.name} "$@"\n'
    )
    path.chmod(0o755)
    try:
        with board.transport.open(("sudo", "-n", tool, *words)) as late:
            soon(lambda: board.transport.run(("pgrep", "-x", tool)).exit_code == 0)
            for restore in plan.restores:
                assert board.transport.run(restore.argv).exit_code == 0
            assert board.transport.run(("pgrep", "-x", tool)).exit_code == 1
            assert late.close() == 0
    finally:
        real.rename(path)
    assert board.mode() == FOUND


def test_a_mode_that_takes_a_restart_is_not_set_and_says_so(board: Board, tmp_path: Path) -> None:
    booted = board.facts().boot_id
    plan = board.plan(nvpmodel="7W")
    folder = board.start(plan, tmp_path, "true")
    end = board.end(folder)
    said = board.said(folder)
    assert str(said["set nvpmodel"]["stderr"]).startswith("it takes a restart: sudo nvpmodel -m 3")
    assert str(said["check nvpmodel"]["stdout"]).strip() == "25W"
    assert [one["ok"] for one in end["restored"]] == [True]
    assert (board.mode(), board.facts().boot_id) == (FOUND, booted)
    assert {cpu.index for cpu in plan.cpus or ()} <= {0, 1, 2, 3}


def test_clocks_that_were_fixed_stay_fixed_in_the_other_mode_and_back(board: Board, tmp_path: Path) -> None:
    board.transport.run(("sudo", "-n", "jetson_clocks", "--store", "/tmp/found"))
    board.transport.run(("sudo", "-n", "jetson_clocks"))
    try:
        folder = board.start(board.plan(nvpmodel="MAXN_SUPER", jetson_clocks=True), tmp_path, *A_MINUTE)
        soon(lambda: board.mode() == ("MAXN_SUPER", True))
        board.agent.stop(folder)
        assert board.mode() == ("25W", True)
    finally:
        board.transport.run(("sudo", "-n", "jetson_clocks", "--restore", "/tmp/found"))


def test_clocks_are_not_fixed_where_what_was_before_cannot_be_kept(board: Board, tmp_path: Path) -> None:
    plan = board.plan(jetson_clocks=True)
    board.transport.run(("mkdir", "-p", f"{board.folder}/clocks"))
    folder = board.start(plan, tmp_path, "true")
    assert [one["ok"] for one in board.end(folder)["restored"]] == [True]
    said = board.said(folder)
    assert said["set jetson_clocks"]["exit_code"] != 0
    assert str(said["check jetson_clocks"]["stdout"]).strip() == "free"
    assert board.mode() == FOUND


def test_a_mode_outlives_a_restart_of_the_board_and_is_put_back_then(tmp_path: Path) -> None:
    with playing(tmp_path / "orin") as board:
        folder = board.start(board.plan(nvpmodel="15W", jetson_clocks=True), tmp_path, *A_MINUTE)
        soon(lambda: board.mode() == ("15W", True))
        board.jetson.reboot()
        assert board.mode() == ("15W", False)
        board.transport.close()
        board.connect()
        board.agent.recover(folder)
        assert board.mode() == FOUND


@pytest.mark.parametrize("sudo", [None, ("jetson_clocks",)])
def test_without_the_rights_nothing_starts_and_the_line_to_add_is_said(
    tmp_path: Path, sudo: tuple[str, ...] | None
) -> None:
    with playing(tmp_path / "orin", sudo=sudo) as board:
        with pytest.raises(UsageError) as caught:
            board.plan(nvpmodel="15W", jetson_clocks=True)
        assert "jetson ALL=(root) NOPASSWD: /usr/sbin/nvpmodel, /usr/bin/jetson_clocks" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert board.mode() == FOUND
        # What is so already needs no rights.
        assert not board.plan(nvpmodel="25W", jetson_clocks=False).restores
