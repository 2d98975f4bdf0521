"""A plan may mix models that generate tokens with models that answer at once: each gets what is for it."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melt.cli._inputs import find_inputs
from melt.engines.runner_job import job_file
from melt.errors import UsageError
from melt.plan import workloads
from melt.plan.expand import expand
from melt.plan.fitting import Fitting, Kind, check_dims
from melt.plan.model import ModelChoice, Plan
from melt.plan.workloads import parse_workload
from melt.records import Artifact, ModelTensor, RunSpec, Settings

_KINDS = {"words": Kind("gguf", generates=True), "eyes": Kind("onnx", generates=False), "odd": Kind("onnx")}
_FORMATS = {"llama.cpp": ("gguf",), "onnxruntime": ("onnx",), "both": ("gguf", "onnx")}
_FITTING = Fitting(_KINDS.__getitem__, _FORMATS.__getitem__)


def listed(plan: Plan) -> list[RunSpec]:
    return list(expand(plan, sweep_id="s", new_run_id=lambda: "r", new_seed=lambda: 1, fitting=_FITTING))


def plan(models: str, *words: str, **fields: object) -> Plan:
    asked = tuple(map(parse_workload, words)) or workloads.DEFAULT
    choices = tuple(ModelChoice(model=model) for model in models.split())
    return Plan(name="p", models=choices, workloads=asked, **fields)  # type: ignore[arg-type]


def test_each_model_gets_the_engine_and_the_workloads_that_are_for_it() -> None:
    found = {(s.model, s.engine, s.workload.name) for s in listed(plan("words eyes odd", "pp8", "tg4", "infer5"))}
    assert found == {
        ("words", "llama.cpp", "pp8"),
        ("words", "llama.cpp", "tg4"),
        ("eyes", "onnxruntime", "infer5"),
        *(("odd", "onnxruntime", name) for name in ("pp8", "tg4", "infer5")),
    }
    assert {(s.model, s.workload.name) for s in listed(plan("words eyes"))} == {
        ("words", "pp512"),
        ("words", "tg128"),
        ("eyes", "infer50"),
    }


def test_an_engine_that_is_asked_for_runs_the_formats_that_it_takes() -> None:
    specs = listed(plan("words eyes", "pp8", "infer5", engines=("llama.cpp", "both")))
    assert {(s.model, s.engine) for s in specs} == {("words", "llama.cpp"), ("words", "both"), ("eyes", "both")}


def test_a_setting_of_another_engine_makes_no_second_cell() -> None:
    swept = (Settings(n_batch=256, arena=False), Settings(n_batch=512, arena=False), Settings(n_batch=256))
    specs = listed(plan("words eyes", "pp8", "infer5", settings=swept))
    assert sorted(s.settings.n_batch for s in specs if s.model == "words") == [256, 512]
    assert sorted(s.settings.arena for s in specs if s.model == "eyes") == [False, True]


def test_a_decoder_of_onnx_takes_its_prompt_in_batches_of_the_plans_size() -> None:
    swept = (Settings(n_batch=16), Settings(n_batch=16, n_ubatch=8), Settings(temperature=0.5))
    specs = listed(plan("odd", "pp8", "infer5", settings=swept))
    of_tokens = [s.settings for s in specs if s.workload.kind != "inference"]
    assert sorted((s.n_batch, s.n_ubatch, s.temperature) for s in of_tokens) == [(16, 512, 0.0), (2048, 512, 0.5)]
    # A single-shot model has no prompt and draws no token.
    assert [s.settings for s in specs if s.workload.kind == "inference"] == [Settings()]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (plan("words", "infer5"), "no workload of the plan is for 'words' (GGUF, generates tokens): infer5"),
        (plan("words eyes", "pp8"), "no workload of the plan is for 'eyes' (ONNX, single-shot): pp8; ask for infer50"),
        (plan("eyes", "infer5", "pp8"), "workload 'pp8': no model of the plan is one that generates tokens: eyes"),
        (plan("eyes", "infer5", engines=("llama.cpp",)), "no engine of the plan runs 'eyes' (ONNX): llama.cpp; leave"),
    ],
)
def test_what_is_for_no_model_gets_a_sentence(wrong: Plan, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        listed(wrong)
    assert str(caught.value).startswith(sentence)


def model(name: str, *shape: int | str, **dims: int) -> Artifact:
    tensor = ModelTensor(name="x", type="float", shape=shape)
    return Artifact(
        name=name,
        quant="fp32",
        format="onnx",
        sha256="",
        size_bytes=1,
        path="",
        inputs=(tensor,),
        dims=dims,
        generative=False,
    )


def test_every_open_dimension_needs_a_length_and_every_length_a_dimension() -> None:
    eyes, ears = model("eyes", "batch", 3, "x.2", batch=1), model("ears", "batch", "seq", batch=1)
    check_dims(parse_workload("infer5 x.2=48"), [eyes])
    check_dims(parse_workload("infer5 x.2=48 seq=9"), [eyes, ears])
    with pytest.raises(UsageError, match=r"eyes leaves the dimension 'x.2' of its input 'x' open: .* infer50 x.2=1"):
        check_dims(parse_workload("infer5 batch=2"), [eyes])
    with pytest.raises(UsageError, match=r"'a', 'b' of its inputs open: .* infer50 a=1 b=128, or .* from inputs.npz"):
        check_dims(parse_workload("infer5"), [model("both", "a", "b")])
    with pytest.raises(UsageError, match=r"ears has no dimension 'sep', did you mean 'seq'\?"):
        check_dims(parse_workload("infer5 sep=3"), [ears])
    with pytest.raises(UsageError, match=r"'a \+ 1' of its input 'x' open, by a name that no workload can say: give"):
        check_dims(parse_workload("infer5"), [model("sum", "a + 1")])
    shapeless = replace(model("vague"), inputs=(ModelTensor(name="x", type="float", shape=None),))
    with pytest.raises(UsageError, match=r"vague does not say which shape its input 'x' has"):
        check_dims(parse_workload("infer5"), [shapeless])
    with pytest.raises(UsageError, match=r"by 'infer50 from x.npz', found 'inputs=x.npz'"):
        parse_workload("infer5 seq=3 inputs=x.npz")
    with pytest.raises(UsageError, match=r"still has no dimension 'batch'; all of their shapes are fixed"):
        check_dims(parse_workload("infer5 batch=1"), [model("still", 1, 3)])


def test_the_job_has_the_lengths_of_its_own_model(run_spec: RunSpec) -> None:
    eyes = model("eyes", "batch", 3, "x.2", **{"batch": 1, "x.2": 640})
    spec = replace(run_spec, workload=parse_workload("infer5 x.2=48 seq=9"))
    job = json.loads(job_file(spec, eyes, "/m.onnx"))
    assert (job["workload"]["dims"], job["workload"]["inputs"]) == ({"batch": 1, "x.2": 48}, None)
    # Given inputs need not be as long as is usual, but as the plan says.
    job = json.loads(job_file(spec, eyes, "/m.onnx", "/x.npz"))
    assert (job["workload"]["dims"], job["workload"]["inputs"]) == ({"x.2": 48}, "/x.npz")


@pytest.fixture
def run_spec() -> RunSpec:
    return listed(plan("eyes", "infer5"))[0]


def test_input_tensors_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    np.savez(path, x=np.zeros((1, 3), np.float32))
    found = find_inputs(path)
    assert (found.name, found.path, found.size_bytes) == ("one.npz", str(path), path.stat().st_size)
    moved = path.rename(tmp_path / "two.npz")
    assert find_inputs(moved).sha256 == found.sha256


def _zip(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _objects() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.array([{}]))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "cannot read the inputs .*: No such file or directory"),
        (b"no archive", "holds no input tensors: File is not a zip file; numpy.savez"),
        (_zip(a=b"no array"), "holds no input tensors: "),
        (_zip(), "is empty: numpy.savez writes"),
        (_objects(), "holds no input tensors: an array is of Python objects"),
        (_objects()[:-30], "holds no input tensors: "),
    ],
)
def test_what_holds_no_tensors_gets_a_sentence(tmp_path: Path, data: bytes | None, sentence: str) -> None:
    path = tmp_path / "x.npz"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError, match=sentence) as caught:
        find_inputs(path)
    assert "\n" not in str(caught.value)
