"""Plans: a wrong one gets its lines and sentences, a right one is what it says, and nothing else is ever raised."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from melt import codec
from melt.errors import PlanError, UsageError
from melt.plan import values
from melt.plan.model import MAX_ORDER_SEED, ORDERS, ModelChoice, Plan, Reference
from melt.plan.reader import read_plan
from melt.plan.repeats import change_repeat
from melt.records import Conditions, Gate, Grid, Inputs, Repeat, Sampling, Settings, Thresholds, Workload
from melt.verdicts import DOUBTS

GOLDEN = Path(__file__).parent / "golden" / "plan"
SHIPPED = Path(__file__).parents[2] / "plans"
DOCS = Path(__file__).parents[2] / "docs" / "plans.md"


def load_from(folder: Path) -> Any:
    def load(name: str) -> str:
        if not (folder / name).is_file():
            raise UsageError(f"cannot read the prompt file {name}: No such file or directory")
        return (folder / name).read_text(encoding="utf-8")

    return load


def found_inputs(name: str) -> Inputs:
    return Inputs(name=Path(name).name, sha256="a" * 64, size_bytes=3, path=f"/here/{name}")


@pytest.mark.parametrize("path", sorted((GOLDEN / "bad").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_wrong_plan_gets_the_sentences_beside_it(path: Path) -> None:
    expected = path.with_suffix(".expected.txt").read_text(encoding="utf-8").rstrip("\n")
    with pytest.raises(PlanError) as caught:
        read_plan(path.read_text(encoding="utf-8"), path.name, load_prompts=load_from(path.parent))
    assert str(caught.value) == expected
    assert expected.startswith(caught.value.where + ": ")


@pytest.mark.parametrize("path", sorted((GOLDEN / "good").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_right_plan_reads_as_the_document_beside_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    plan = read_plan(text, path.name, load_prompts=load_from(path.parent), load_inputs=found_inputs)
    assert codec.to_dict(plan) == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_plans_compare_levels_and_are_named_like_their_files(path: Path) -> None:
    plan = read_plan(path.read_text(encoding="utf-8"), str(path))
    assert plan.name == path.stem
    assert sum(len(choice.quants) for choice in plan.models) >= 2


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("true", Reference()),
        ("off", None),
        ("null", None),
        ("{model: m, quant: Q8_0, workload: tg8  @ d4}", Reference(model="m", quant="q8_0", workload="tg8 @ d4")),
    ],
)
def test_the_reference_is_the_first_cell_or_one_that_is_named(text: str, reference: Reference | None) -> None:
    plan = read_plan(f"models: {{model: m, quants: q8_0}}\nworkloads: [tg8 @ d4]\nreference: {text}\n", "plan.yaml")
    assert plan.reference == reference
    assert plan.n_runs == (4 if reference else 1)


def test_a_level_made_with_an_importance_matrix_is_another_quantization() -> None:
    plan = read_plan("models: {model: m, quants: [q4_k_m, Q4_K_M+Imatrix]}\nworkloads: pp64\n", "plan.yaml")
    assert plan.models[0].quants == ("q4_k_m", "q4_k_m+imatrix")


def test_every_example_of_the_documentation_is_a_plan() -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    plans = [read_plan(text, "plan.yaml", load_inputs=found_inputs) for text in examples]
    assert [plan.n_runs for plan in plans] == [2, 4 * 7 * 2 * 6 + 3, 5 * 4 * 2, 2, 3, 4, 4, 1, 40]


def test_the_least_plan_takes_its_name_from_the_file_and_the_rest_from_the_defaults() -> None:
    plan = read_plan("models: tiny-pydoc\nworkloads: pp64\n", "nightly/phones.yaml")
    assert plan == Plan(name="phones", models=(ModelChoice(model="tiny-pydoc"),), workloads=(Workload(n_prompt=64),))


def test_every_field_of_the_records_can_be_set_in_a_plan() -> None:
    for record, readers in (
        (Settings, values.SETTINGS),
        (Conditions, values.CONDITIONS),
        (Gate, values.GATE),
        (Sampling, values.SAMPLING),
    ):
        assert [field.name for field in fields(record)] == list(readers)
    words = {"min": "min_sessions", "max": "sessions"}
    assert {field.name for field in fields(Repeat)} == {words.get(key, key) for key in values.REPEAT}


def test_many_problems_are_cut_short() -> None:
    text = "models: a\nworkloads:\n" + "".join(f"- no{n}\n" for n in range(30))
    with pytest.raises(PlanError) as caught:
        read_plan(text, "plan.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 10 more problems"


def test_a_prompt_file_without_a_loader_is_a_problem_not_a_crash() -> None:
    with pytest.raises(PlanError, match=r"^p:2: workloads: prompt files cannot be read here"):
        read_plan("models: a\nworkloads: q.jsonl+tg8\n", "p")


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(PlanError, match="characters"):
        read_plan("#" * 10_000_000, "plan.yaml")


# ---- properties ----

_YAML_TEXT = st.text(
    alphabet=st.sampled_from(list("abp512:-[]{}&*!|>'\"#%@`,? \n\t\r~<=\\.x\u2028\ufeff\x00é")), max_size=60
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["pp1", "tg2 @ d3", "q8_0"]),
)
_KEYS = st.sampled_from(
    ["models", "workloads", "settings", "repeat", "sampling", "name", "order", "model", "quants", "prompt", "gen",
     "prompts", "sustained", "threads", "warmup", "conditions", "screen", "gate", "wait_s", "sensors_hz", "affinity"]
)  # fmt: skip
_TREES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)


def written(document: object) -> str:
    """Return it as YAML, by libyaml where PyYAML has it, which is ten times as quick."""
    return str(yaml.dump(document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), allow_unicode=True))


def read_anything(text: str) -> None:
    with contextlib.suppress(PlanError):
        read_plan(text, "plan.yaml", load_prompts=lambda _: '"a prompt"\n')


@given(st.text(max_size=80) | _YAML_TEXT)
def test_any_text_is_a_plan_or_a_plan_error(text: str) -> None:
    read_anything(text)


@given(st.dictionaries(_KEYS, _TREES, max_size=6))
def test_any_tree_is_a_plan_or_a_plan_error(tree: dict[str, object]) -> None:
    read_anything(written(tree))


@given(st.data())
def test_a_damaged_plan_is_a_plan_or_a_plan_error(data: st.DataObject) -> None:
    text = (GOLDEN / "good" / "everything.yaml").read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    read_anything(text[:start] + data.draw(_YAML_TEXT) + text[end:])


_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
_QUANTS = st.none() | st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
_SECONDS = st.integers(1, 10**8).map(lambda ms: ms / 1000)
_TOKENS = st.integers(1, values.MAX_TOKENS)
_DIMS = st.dictionaries(st.sampled_from(["batch", "x.2", "past+1", "\u5e8f"]), _TOKENS, max_size=2)
_WORKLOADS = st.one_of(
    st.builds(Workload, n_prompt=_TOKENS, n_gen=_TOKENS | st.just(0), n_depth=_TOKENS | st.just(0)),
    st.builds(Workload, n_gen=_TOKENS, n_depth=_TOKENS | st.just(0)),
    st.builds(Workload, kind=st.just("sustained"), n_prompt=_TOKENS, n_gen=_TOKENS, duration_s=_SECONDS),
    st.builds(Workload, kind=st.just("inference"), n_infer=_TOKENS, dims=_DIMS),
    st.builds(Workload, kind=st.just("inference"), duration_s=_SECONDS, dims=_DIMS),
)
_THREADS = st.none() | st.integers(1, 1024)
_CACHE = st.sampled_from(["f16", "q8_0", "q4_0"])
_SETTINGS = st.builds(
    Settings,
    threads=_THREADS,
    threads_batch=_THREADS,
    n_batch=st.integers(1, 4096),
    cache_type_k=_CACHE,
    cache_type_v=_CACHE,
    flash_attn=st.sampled_from(["auto", "on", "off"]),
    mmap=st.booleans(),
    page_cache=st.sampled_from(["warm", "cold"]),
    seed=st.integers(0, 2**32 - 1),
    temperature=st.floats(0, 100, allow_subnormal=False),
    affinity=st.none() | st.sampled_from(["0", "0-3", "0-3,6"]),
    timeout_s=_SECONDS,
    trip_c=st.none() | st.floats(1, 200),
    trip_defaults=st.booleans(),
    providers=st.sampled_from([(), ("CPUExecutionProvider",), ("CUDAExecutionProvider", "CPUExecutionProvider")]),
    graph_optimization=st.sampled_from(["disabled", "all"]),
    io_binding=st.booleans(),
    inter_op_threads=_THREADS,
)
_TRUTH = st.none() | st.booleans()
_SWITCH = st.none() | st.sampled_from(["on", "off"])
_CONDITIONS = st.builds(
    Conditions,
    screen=_SWITCH,
    brightness=st.none() | st.integers(0, 255),
    stay_awake=_TRUTH,
    charging=st.none() | st.sampled_from(["suspended", "allowed"]),
    wifi=_TRUTH,
    usb_power=_SWITCH,
    nvpmodel=st.none() | st.sampled_from(["MAXN", "15W", "MODE_30W_6CORE", "0", "12"]),
    jetson_clocks=_TRUTH,
)
_RATES_HZ = st.floats(0.01, 1000)
_RATIOS = st.none() | st.floats(0, 1, allow_subnormal=False)
_GATES = st.builds(
    Gate, battery_min_ratio=_RATIOS, temperature_max_c=st.none() | st.floats(-40, 200), charging=_TRUTH, wait_s=_SECONDS
)
_SHARES = st.floats(0, 0.5, allow_subnormal=False)
_THRESHOLDS = st.builds(
    Thresholds,
    repetitions_min=st.integers(1, 1000),
    unstable_cv=_SHARES,
    gap_periods=st.floats(1.5, 1000),
    clock_uncertainty_s=_SECONDS,
    swap_bytes=st.integers(0, 2**40),
    battery_low_ratio=st.floats(0, 1, allow_subnormal=False),
    charge_factor=st.floats(1.1, 100),
    invalid=st.lists(st.sampled_from(list(DOUBTS)), max_size=3, unique=True).map(tuple),
)
_REPEATS = st.builds(
    change_repeat,
    st.builds(Repeat, warmup=st.integers(0, 9), repetitions=st.integers(1, 9)),
    st.fixed_dictionaries({"sessions": st.integers(1, 9)})
    | st.fixed_dictionaries(
        {"until_ci": st.floats(0.0001, 0.5)}, optional={"min": st.integers(3, 9), "max": st.integers(9, 30)}
    ),
)
_PLANS = st.builds(
    Plan,
    name=_NAMES,
    models=st.lists(
        st.builds(
            ModelChoice, model=_NAMES, quants=st.lists(_QUANTS, min_size=1, max_size=3, unique=True).map(tuple)
        ),
        min_size=1, max_size=3, unique_by=lambda choice: choice.model,
    ).map(tuple),
    workloads=st.lists(_WORKLOADS, min_size=1, max_size=4, unique_by=lambda workload: workload.name).map(tuple),
    devices=st.lists(_NAMES, min_size=1, max_size=3, unique=True).map(tuple),
    engines=st.lists(_NAMES, min_size=1, max_size=2, unique=True).map(tuple),
    settings=st.lists(_SETTINGS, min_size=1, max_size=3).map(tuple),
    conditions=st.lists(_CONDITIONS, min_size=1, max_size=2).map(tuple),
    gate=_GATES,
    thresholds=_THRESHOLDS,
    repeat=_REPEATS,
    sampling=st.builds(Sampling, sensors_hz=_RATES_HZ, process_hz=_RATES_HZ, power_hz=st.none() | _RATES_HZ),
    order=st.sampled_from(ORDERS),
    reference=st.none() | st.just(Reference()),
    grid=st.none() | st.builds(Grid, g_per_kwh=st.floats(0, 3000, allow_subnormal=False)),
).flatmap(
    lambda plan: st.builds(
        replace, st.just(plan),
        conditions_on=st.dictionaries(
            st.sampled_from(plan.devices), st.lists(_CONDITIONS, min_size=1, max_size=2).map(tuple)
        ),
    )
).flatmap(
    lambda plan: st.builds(replace, st.just(plan), order_seed=st.none() | st.integers(0, MAX_ORDER_SEED))
    if plan.order == "random" else st.just(plan)
)  # fmt: skip


@settings(max_examples=2 * settings.default.max_examples // 5)  # each is a document of a hundred lines
@given(_PLANS)
def test_a_plan_written_down_reads_back_equal(plan: Plan) -> None:
    document = codec.to_dict(plan)
    document["workloads"] = [workload.name for workload in plan.workloads]
    for one in document["settings"]:
        one["providers"] = "+".join(one["providers"]) or "default"
    document["grid"] = None if plan.grid is None else plan.grid.g_per_kwh
    document["verdict"] = {key: value for key, value in document.pop("thresholds").items() if value != []}
    own = document.pop("conditions_on")
    document["devices"] = [
        {"device": device, "conditions": own[device]} if device in own else device for device in plan.devices
    ]
    least, most = document["repeat"].pop("min_sessions"), document["repeat"]["sessions"]
    if plan.repeat.until_ci is not None:
        del document["repeat"]["sessions"]
        document["repeat"] |= {"min": least, "max": most}
    assert read_plan(written(document), "plan.yaml") == plan
