"""What is planned for a Jetson's knobs, from what its tools print. Planning changes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import make_bundle

from melt.errors import DeviceError, UsageError
from melt.records import Conditions, Cpu, DeviceFacts, Knob
from melt.targets.jetson_knobs import Mode, choose, parse_modes
from melt.targets.knobs import KnobPlan, plan_knobs
from melt.transports.base import Completed

CONFIGS = Path(__file__).parents[1] / "data" / "nvpmodel"
ORIN_NANO = (CONFIGS / "orin-nano.conf").read_text()


def facts(**changed: object) -> DeviceFacts:
    known = {"os": "linux", "kind": "ssh", "name": "the board", "soc": "tegra234 (6x Cortex-A78AE)"}
    return replace(make_bundle().start.device, **(known | changed))  # type: ignore[arg-type]


class Board:
    """Answers what is asked of it, and notes what changes something: planning must not."""

    def __init__(self, mode: str = "NV Power Mode: 25W\n1\n", clocks: str = "free", user: str = "jetson") -> None:
        self.mode, self.clocks, self.user = mode, clocks, user
        self.config: str | None = ORIN_NANO
        self.tools = {"nvpmodel": "/usr/sbin/nvpmodel", "jetson_clocks": "/usr/bin/jetson_clocks"}
        self.sudo: tuple[int, str] = (0, "")

    def run(self, argv: Sequence[str]) -> Completed:
        code, out, err = self.answer(list(argv))
        return Completed(tuple(argv), code, out.encode(), err.encode())

    def answer(self, argv: list[str]) -> tuple[int, str, str]:
        match argv:
            case ["cat", "/etc/nvpmodel.conf"] if self.config is not None:
                return 0, self.config, ""
            case ["cat", path]:
                return 1, "", f"cat: {path}: No such file or directory"
            case ["id", "-u"]:
                return 0, "0" if self.user == "root" else "1000", ""
            case ["id", "-un"]:
                return 0, self.user, ""
            case ["sudo", "-n", "/usr/sbin/nvpmodel", "-q"] | ["sudo", "-n", "/usr/bin/jetson_clocks", "--help"]:
                return self.sudo[0], "", self.sudo[1]
            case ["sh", "-c", program, "melt", tool] if "command -v" in program:
                return 0 if tool in self.tools else 127, self.tools.get(tool, ""), ""
            case ["sh", "-c", program, *_] if "scaling_min_freq" in program:
                return 0, f"{self.clocks}\n", ""
            case ["sh", "-c", program, *_] if program.startswith("PATH=$PATH:/usr/sbin; nvpmodel -q"):
                return 0, self.mode, ""
        raise AssertionError(f"this was not to be run: {argv}")

    def plan(self, **conditions: object) -> KnobPlan:
        return plan_knobs(Conditions(**conditions), facts(), self.run, "ssh:board", "/home/jetson/.melt/jobs/r1")  # type: ignore[arg-type]


def arguments(plan: KnobPlan) -> list[tuple[str, ...]]:
    return [prepare.argv[4:] for prepare in plan.prepares if prepare.name.startswith("set ")]


def undone(plan: KnobPlan) -> list[tuple[str, ...]]:
    return [restore.argv[4:] for restore in plan.restores]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.conf")), ids=lambda path: path.stem)
def test_the_modes_of_a_board_are_read(path: Path) -> None:
    found = "".join(
        f"{mode.number} {mode.name} on {','.join(map(str, mode.cpus))}\n" for mode in parse_modes(path.read_text())
    )
    assert found == path.with_suffix(".expected.txt").read_text()


@given(st.text(alphabet=st.sampled_from(list("<> POWER_MODEL ID=0NAME1CPU_ONLINECORE \n#")), max_size=120))
def test_any_text_has_modes_or_none(text: str) -> None:
    assert all(mode.name for mode in parse_modes(text))


def test_a_mode_is_named_in_any_case_or_numbered() -> None:
    modes = [Mode(0, "MODE_15W", ()), Mode(2, "MAXN", ())]
    assert choose(modes, "maxn", "x") == choose(modes, "2", "x") == modes[1]
    with pytest.raises(
        UsageError, match=r"the board has no power mode '15W'; its modes are MODE_15W \(0\), MAXN \(2\)"
    ):
        choose(modes, "15W", "the board")


def test_mode_and_clocks_are_set_in_this_order_and_undone_in_the_other() -> None:
    plan = Board().plan(nvpmodel="15W", jetson_clocks=True)
    stored = "/home/jetson/.melt/jobs/r1/clocks"
    assert plan.knobs == (
        Knob(name="nvpmodel", before="25W", asked="15W"),
        Knob(name="jetson_clocks", before="free", asked="fixed"),
    )
    assert [prepare.name for prepare in plan.prepares] == [
        "set nvpmodel", "check nvpmodel", "set jetson_clocks", "check jetson_clocks",
    ]  # fmt: skip
    assert arguments(plan) == [
        ("15W", "0", "sudo -n", "/usr/sbin/nvpmodel", ""),
        (stored, "sudo -n", "/usr/bin/jetson_clocks"),
    ]
    assert undone(plan) == [
        (stored, "sudo -n", "/usr/bin/jetson_clocks"),
        ("25W", "1", "sudo -n", "/usr/sbin/nvpmodel", ""),
    ]


def test_what_is_so_already_is_only_watched_and_needs_no_rights() -> None:
    board = Board(clocks="fixed")
    board.sudo = (1, "sudo: a password is required")
    plan = board.plan(nvpmodel="25w", jetson_clocks=True)
    assert [prepare.name for prepare in plan.prepares] == ["check nvpmodel", "check jetson_clocks"]
    assert (plan.restores, plan.cpus) == ((), None)


def test_clocks_that_were_fixed_are_fixed_again_in_each_mode() -> None:
    plan = Board(clocks="fixed").plan(nvpmodel="MAXN_SUPER")
    assert arguments(plan)[0][-1] == undone(plan)[0][-1] == "/usr/bin/jetson_clocks"


def test_the_clocks_of_others_are_not_released() -> None:
    with pytest.raises(UsageError, match="only who fixed them can tell"):
        Board(clocks="fixed").plan(jetson_clocks=False)
    assert not Board().plan(jetson_clocks=False).restores


def test_root_needs_no_sudo() -> None:
    assert arguments(Board(user="root").plan(nvpmodel="15W"))[0][2] == ""


@pytest.mark.parametrize(
    ("now", "usable", "asked", "then"),
    [
        ("25W", range(6), "7W", [0, 1, 2, 3]),
        ("7W", range(4), "25W", [0, 1, 2, 3, 4, 5]),
        ("25W", range(6), "15W", [0, 1, 2, 3, 4, 5]),
        ("25W", [0, 5], "7W", [0]),  # a container with two of them
        ("7W", [1, 2], "25W", [1, 2, 4, 5]),
    ],
)
def test_a_mode_says_which_cpus_there_are_then(now: str, usable: Sequence[int], asked: str, then: list[int]) -> None:
    board = Board(f"NV Power Mode: {now}\n{ {'25W': 1, '7W': 3}[now] }\n")
    device = facts(cpus=tuple(Cpu(index=index, core=7) for index in usable))
    plan = plan_knobs(Conditions(nvpmodel=asked), device, board.run)
    assert plan.cpus == tuple(Cpu(index=index, core=7 if index in usable else None) for index in then)


def test_who_may_not_is_told_which_line_to_add() -> None:
    board = Board()
    board.sudo = (1, "sudo: a password is required")
    with pytest.raises(UsageError) as caught:
        board.plan(nvpmodel="15W")
    assert "(sudo: a password is required)" in str(caught.value)
    assert "jetson ALL=(root) NOPASSWD: /usr/sbin/nvpmodel, /usr/bin/jetson_clocks" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "error", "sentence"),
    [
        ({"config": None}, DeviceError, "the power modes cannot be read"),
        ({"mode": "NVPM WARN: power mode is not set!\n"}, DeviceError, "none was set yet"),
        ({"tools": {}}, UsageError, "the board has no such program; .* nvidia-l4t-nvpmodel"),
    ],
)
def test_a_board_without_it_is_told_so(changed: dict[str, object], error: type[Exception], sentence: str) -> None:
    board = Board()
    for name, value in changed.items():
        setattr(board, name, value)
    with pytest.raises(error, match=sentence):
        board.plan(nvpmodel="15W")


def test_clocks_that_cannot_be_seen_are_not_touched() -> None:
    with pytest.raises(DeviceError, match="no clocks can be read"):
        Board(clocks="").plan(jetson_clocks=True)


@pytest.mark.parametrize(
    ("device", "conditions", "sentence"),
    [
        ({}, {"screen": "off", "nvpmodel": "15W"}, "has no knob screen: phones have screen; leave it out"),
        (
            {"os": "android", "soc": "Tensor G3"},
            {"nvpmodel": "15W"},
            "has no knob nvpmodel: Jetson boards have nvpmodel",
        ),
        (
            {"soc": "bcm2712"},
            {"wifi": False, "jetson_clocks": True},
            "no knob wifi, jetson_clocks: phones have wifi; Jetson boards have jetson_clocks; leave them out",
        ),
        ({"os": "macos", "soc": "Apple M2"}, {"charging": "suspended"}, "phones have charging"),
    ],
)
def test_a_knob_of_other_devices_is_refused_with_theirs(
    device: dict[str, object], conditions: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        plan_knobs(Conditions(**conditions), facts(**device), Board().run)  # type: ignore[arg-type]
