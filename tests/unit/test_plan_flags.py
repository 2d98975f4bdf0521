"""Flags make plans with llama-bench's habits, and change parts of a plan file."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from melt.cli._planargs import add_plan_arguments, plan_from_args
from melt.errors import PlanError, UsageError
from melt.fleet.names import resolve_devices
from melt.plan.flags import integers
from melt.plan.model import ModelChoice, Plan, Reference
from melt.records import Conditions, Gate, Repeat

PLAN = """\
name: lab
devices: [phone, board]
models:
  - {model: a, quants: [q8_0, q4_0]}
  - {model: b, quants: [q4_0, f16]}
workloads: [pp64, questions.jsonl+tg8]
settings: {threads: [1, 2], mmap: false}
repeat: {warmup: 0, repetitions: 9, sessions: 4}
"""


def plan_of(*words: str) -> Plan:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_plan_arguments(parser)
    return plan_from_args(parser.parse_args(words))


@pytest.fixture
def plan_file(tmp_path: Path) -> str:
    (tmp_path / "questions.jsonl").write_text('"Why?"\n', encoding="utf-8")
    path = tmp_path / "lab.yaml"
    path.write_text(PLAN, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("512", (512,)),
        ("1-4", (1, 2, 3, 4)),
        ("1-8+3", (1, 4, 7)),
        ("128-1024*2", (128, 256, 512, 1024)),
        ("5-5", (5,)),
        ("0-2", (0, 1, 2)),
    ],
)
def test_ranges_are_those_of_llama_bench(text: str, values: tuple[int, ...]) -> None:
    assert integers(text) == values


@pytest.mark.parametrize(
    "text", ["4-1", "1-4+0", "1-4*1", "0-4*2", "1-99999999", "1-", "--1", "1--4", "1-4/2", "", "1-4-8"]
)
def test_ranges_that_never_end_or_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        integers(text)


def test_without_lengths_the_workloads_are_those_of_llama_bench() -> None:
    plan = plan_of("--model", "m")
    assert plan.models == (ModelChoice(model="m"),)
    assert [workload.name for workload in plan.workloads] == ["pp512", "tg128"]


def test_lists_by_comma_by_repeating_and_by_range() -> None:
    plan = plan_of(
        *("-m", "a,b", "--model", "c", "-q", "Q8_0,q4_0", "-p", "128-256*2", "-n", "64", "-pg", "512,128"),
        *("-d", "0,512", "-t", "1,2", "-t", "2-4+2", "-r", "2", "-fa", "0", "-fa", "1", "--affinity", "0-3,6"),
    )
    assert [choice.model for choice in plan.models] == ["a", "b", "c"]
    assert {choice.quants for choice in plan.models} == {("q8_0", "q4_0")}
    assert [workload.name for workload in plan.workloads] == [
        *("pp128", "pp128 @ d512", "pp256", "pp256 @ d512", "tg64", "tg64 @ d512"),
        *("pp512+tg128", "pp512+tg128 @ d512"),
    ]
    assert [(s.threads, s.flash_attn, s.affinity) for s in plan.settings] == [
        (threads, flash, "0-3,6") for threads in (1, 2, 4) for flash in ("off", "on")
    ]
    assert plan.repeat.repetitions == 2


def test_a_length_of_zero_turns_its_workload_off() -> None:
    assert [workload.name for workload in plan_of("-m", "m", "-p", "0", "-n", "32").workloads] == ["tg32"]


def test_workload_words_take_commas_and_prompt_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q.jsonl").write_text('"Why?"\n', encoding="utf-8")
    plan = plan_of("-m", "m", "--workload", "pp8 for 1m,tg8 @ d4", "--workload", "q.jsonl+tg8")
    assert [workload.name for workload in plan.workloads] == ["pp8 for 60s", "tg8 @ d4", "q.jsonl+tg8"]


def test_a_plan_file_alone_stays_what_it_is(plan_file: str) -> None:
    plan = plan_of(plan_file)
    assert (plan.name, plan.devices, plan.n_runs) == ("lab", ("phone", "board"), 2 * 4 * 2 * 2 * 4)
    assert plan.workloads[1].prompts == ("Why?",)


def test_flags_replace_the_parts_that_they_name_and_no_other(plan_file: str) -> None:
    before = plan_of(plan_file)
    after = plan_of(
        plan_file, "--device", "local", "-p", "8", "--repetitions", "2", "--threads", "4", "--order", "sequential"
    )
    assert after.devices == ("local",)
    assert [workload.name for workload in after.workloads] == ["pp8"]
    assert (after.repeat.warmup, after.repeat.repetitions, after.repeat.sessions) == (0, 2, 4)
    assert [(s.threads, s.mmap) for s in after.settings] == [(4, False)]
    assert after.order == "sequential"
    assert (after.name, after.models, after.engines, after.sampling) == (
        *(before.name, before.models, before.engines, before.sampling),
    )


@pytest.mark.parametrize(
    ("words", "repeat"),
    [
        (("--until-ci", "2%"), Repeat(sessions=20, min_sessions=3, until_ci=0.02)),
        (("--until-ci", "0.05", "--min-sessions", "6"), Repeat(sessions=20, min_sessions=6, until_ci=0.05)),
        (("--until-ci", "1%", "--min-sessions", "30"), Repeat(sessions=30, min_sessions=30, until_ci=0.01)),
        (("--until-ci", "1%", "--max-sessions", "3"), Repeat(sessions=3, min_sessions=3, until_ci=0.01)),
    ],
)
def test_sessions_until_a_precision_have_bounds_of_their_own(words: tuple[str, ...], repeat: Repeat) -> None:
    assert plan_of("--model", "m", *words).repeat == repeat


def test_a_precision_and_a_fixed_number_of_sessions_replace_each_other(plan_file: str) -> None:
    repeat = plan_of(plan_file, "--until-ci", "2%").repeat
    assert repeat == Repeat(warmup=0, repetitions=9, sessions=20, min_sessions=3, until_ci=0.02)
    Path(plan_file).write_text(PLAN.replace("sessions: 4", "until_ci: 3%, min: 4, max: 9"), encoding="utf-8")
    assert plan_of(plan_file, "--sessions", "5").repeat == Repeat(warmup=0, repetitions=9, sessions=5)
    changed = plan_of(plan_file, "--until-ci", "1%", "--max-sessions", "12").repeat
    assert changed == Repeat(warmup=0, repetitions=9, sessions=12, min_sessions=4, until_ci=0.01)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--until-ci", "2"), "--until-ci: expected a precision such as 2%, from 0.01% to 50%, found '2'"),
        (
            ("--until-ci", "2%", "--min-sessions", "2"),
            "--min-sessions: expected a whole number from 3 to 10000, found '2'",
        ),
        (("--until-ci", "2%", "--sessions", "4"), "--sessions --until-ci: a precision (until_ci) and a fixed number"),
        (("--max-sessions", "9"), "--max-sessions: a least or most number of sessions (min, max) needs a precision"),
        (("--until-ci", "2%", "--min-sessions", "9", "--max-sessions", "8"), "at most 8 sessions (max) are fewer than"),
    ],
)
def test_wrong_numbers_of_sessions_get_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of("--model", "m", *words)
    assert sentence in str(caught.value)


def test_a_new_order_leaves_the_seed_of_the_old_one_behind(plan_file: str) -> None:
    with Path(plan_file).open("a", encoding="utf-8") as file:
        file.write("order: random\norder_seed: 7\n")
    assert plan_of(plan_file).order_seed == 7
    assert plan_of(plan_file, "--order-seed", "8").order_seed == 8
    assert plan_of(plan_file, "--order", "random").order_seed == 7
    changed = plan_of(plan_file, "--order", "interleaved")
    assert (changed.order, changed.order_seed) == ("interleaved", None)
    with pytest.raises(UsageError, match=r"^--order-seed: a seed belongs to the order 'random', and the order is 'seq"):
        plan_of(plan_file, "--order", "sequential", "--order-seed", "8")


def test_a_reference_can_be_asked_for_and_must_still_be_there(plan_file: str) -> None:
    assert plan_of(plan_file).reference is None
    assert plan_of(plan_file, "--reference").reference == Reference()
    with Path(plan_file).open("a", encoding="utf-8") as file:
        file.write("reference: {quant: f16}\n")
    assert plan_of(plan_file, "--reference").reference == Reference(quant="f16")
    with pytest.raises(UsageError, match=r"^the plan's reference: no cell of the plan has quant 'f16'"):
        plan_of(plan_file, "--quant", "q8_0")


def test_models_keep_the_quants_of_the_plan_and_new_ones_take_all_of_them(plan_file: str) -> None:
    assert plan_of(plan_file, "--model", "b,new").models == (
        ModelChoice(model="b", quants=("q4_0", "f16")),
        ModelChoice(model="new", quants=("q8_0", "q4_0", "f16")),
    )
    assert {choice.quants for choice in plan_of(plan_file, "--quant", "q2_k").models} == {("q2_k",)}


def test_depths_alone_are_given_to_the_workloads_of_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("models: a\nworkloads: [pp8, tg8 @ d1]\n", encoding="utf-8")
    assert [w.name for w in plan_of(str(path), "-d", "0,4").workloads] == ["pp8", "pp8 @ d4", "tg8", "tg8 @ d4"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "nothing to run: name a plan file, or a model with --model NAME"),
        (("-m", "m", "-t", "two"), "--threads: expected a whole number, found 'two'"),
        (("-m", "m", "-t", "0-2"), "--threads: expected a whole number from 1 to 1024, found '0'"),
        (
            ("-m", "m", "--quant", "q8_0,"),
            "--quant: expected a quantization such as q8_0, q4_k_m or int8-dynamic, found ''",
        ),
        (("-m", "m", "-r", "0"), "--repetitions: expected a whole number from 1 to 100000, found '0'"),
        (("-m", "m", "-p", "0"), "-p 0 and -n 0 leave nothing to run: give one of them a length"),
        (("-m", "m", "-p", "8-4"), "-p: the range '8-4' never gets to its end"),
        (("-m", "m", "-pg", "512"), "-pg: expected a prompt and a generation length such as 512,128, found '512'"),
        (("-m", "m", "--timeout", "soon"), "--timeout: expected a duration such as 60s, 5m or 1h, found 'soon'"),
        (("-m", "m", "-ctk", "q8"), "--cache-type-k: expected one of f16, "),
        (("-m", "m", "--workload", "xx"), "--workload: 'xx' is not a workload"),
        (("-m", "m", "--workload", "q.jsonl+tg8"), "--workload: cannot read the prompt file q.jsonl: No such file"),
        (("-m", "m", "--workload", "tg8 @ d4", "-d", "8"), "-d: the workload 'tg8 @ d4' names its depth already"),
        (("-m", "m", "-p", "1-9999", "-d", "1-9999"), "the plan asks for 99980001 runs"),
        (("-m", "m", "-t", "1-999", "-b", "1-999"), "the plan asks for 998001 runs"),
    ],
)
def test_errors_name_the_flag(
    words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        plan_of(*words)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_prompts_have_a_depth_too(plan_file: str) -> None:
    plan = plan_of(plan_file, "-d", "8")
    assert [workload.name for workload in plan.workloads] == ["pp64 @ d8", "questions.jsonl+tg8 @ d8"]


def test_minus_one_is_all_layers_and_no_length() -> None:
    assert plan_of("-m", "m", "-ngl", "-1").settings[0].n_gpu_layers == -1
    with pytest.raises(UsageError, match="-p: expected a whole number from 0"):
        plan_of("-m", "m", "-p", "-1")


def test_files_that_cannot_be_read_get_one_sentence(tmp_path: Path, plan_file: str) -> None:
    with pytest.raises(UsageError, match=r"^there is no plan .*/lap\.yaml, did you mean .*/lab\.yaml\?$"):
        plan_of(str(tmp_path / "lap.yaml"))
    with pytest.raises(UsageError, match=r"^there is no plan .*/nowhere/lab\.yaml$"):
        plan_of(str(tmp_path / "nowhere" / "lab.yaml"))
    with pytest.raises(UsageError, match=r"^cannot read the plan .*: Is a directory$"):
        plan_of(str(tmp_path))
    with pytest.raises(UsageError, match=r"^there is no plan "):
        plan_of("a\0b")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"models: a\nname: caf\xe9\n")
    with pytest.raises(UsageError, match=r"latin\.yaml:2: the plan is not UTF-8 text: save it as UTF-8$"):
        plan_of(str(latin))
    latin.write_bytes(b"\xef\xbb\xbfmodels: a\r\nworkloads: pp8\r\n")
    assert plan_of(str(latin)).name == "latin"


def test_a_wrong_prompt_file_of_a_plan_is_named_with_both_lines(plan_file: str) -> None:
    Path(plan_file).with_name("questions.jsonl").write_text('"fine"\n7\n', encoding="utf-8")
    with pytest.raises(PlanError, match=r"lab\.yaml:6: workloads: questions\.jsonl:2: expected a prompt"):
        plan_of(plan_file)


def test_conditions_take_lists_and_keep_what_the_plan_says_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("models: a\nworkloads: pp8\nconditions: {charging: suspended, screen: on}\ngate: {wait_s: 1m}\n")
    plan = plan_of(
        str(path), "--condition", "screen=off,on", "--condition", "brightness = 9", "--gate", "battery_min_ratio=30%"
    )
    assert plan.conditions == tuple(
        Conditions(charging="suspended", screen=screen, brightness=9) for screen in ("off", "on")
    )
    assert plan.gate == Gate(battery_min_ratio=0.3, wait_s=60)


def test_conditions_change_those_that_a_device_has_of_its_own_too(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "models: a\nworkloads: pp8\ndevices: [local, {device: '10.0.0.1:5555', conditions: {screen: off}}]\n"
    )
    plan = plan_of(str(path), "--condition", "brightness=9")
    assert plan.conditions_of("local") == (Conditions(brightness=9),)
    own = (Conditions(screen="off", brightness=9),)
    assert plan.conditions_on == {"10.0.0.1:5555": own}
    assert resolve_devices(plan).conditions_on == {"adb:10.0.0.1:5555": own}
    path.write_text("models: a\nworkloads: pp8\ndevices: [{device: b, conditions: {cluster: big}}]\n")
    with pytest.raises(UsageError, match="choose the CPUs"):
        plan_of(str(path), "--affinity", "0-1")


def test_a_device_under_two_names_is_in_one_state(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    entry = "{{device: '{}', conditions: {{screen: {}}}}}"
    for screens, refused in ((("off", "off"), False), (("off", "on"), True)):
        both = ", ".join(map(entry.format, ("10.0.0.1:5555", "adb:10.0.0.1:5555"), screens))
        path.write_text(f"models: a\nworkloads: pp8\ndevices: [{both}]\n")
        plan = plan_of(str(path))
        if refused:
            with pytest.raises(UsageError, match=r"'10\.0\.0\.1:5555' and 'adb:10\.0\.0\.1:5555' are one"):
                resolve_devices(plan)
        else:
            assert resolve_devices(plan).devices == ("adb:10.0.0.1:5555",)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--condition", "screen"), "--condition: expected such as screen=…, found 'screen'"),
        (
            ("--condition", "scren=off"),
            "--condition: expected such as screen=…, found 'scren=off', did you mean 'screen'?",
        ),
        (("--condition", "screen=dim"), "--condition screen: expected on or off, found 'dim'"),
        (("--gate", "wait_s=soon"), "--gate wait_s: expected a duration such as 60s, 5m or 1h, found 'soon'"),
        (
            ("--condition", "cluster=big", "--affinity", "0-3"),
            "both the cluster 'big' and the affinity '0-3' choose the CPUs: leave out one of them",
        ),
    ],
)
def test_wrong_conditions_and_gates_name_the_flag(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of("-m", "a", *words)
    assert str(caught.value).startswith(sentence)
