"""The llama.cpp adapter's command line, and finding engines by name."""

from __future__ import annotations

import ast
import json

import pytest

from melt.engines import registry
from melt.errors import UsageError
from melt.records import Artifact, Repeat, RunSpec, Sampling, Settings, Workload


def _command():
    spec = RunSpec(
        run_id="r",
        sweep_id="s",
        plan="p",
        block=0,
        position=0,
        device="local",
        model="m",
        quant=None,
        engine="llama.cpp",
        workload=Workload(kind="prompts", prompts=("größer",), n_gen=3),
        settings=Settings(threads=2),
        repeat=Repeat(),
        sampling=Sampling(),
    )
    artifact = Artifact(
        name="m", quant=None, format="gguf", sha256="0" * 64, size_bytes=1, path="m.gguf", n_ctx_train=1024
    )
    engine = registry.get("llama.cpp")
    return engine.command(spec, artifact, model_path="/data/m x.gguf", runner_dir="/r", python="/usr/bin/python3")


def test_the_command_names_the_runner_and_its_job():
    command = _command()
    assert command.argv == ("/usr/bin/python3", "/r/llama_cpp.py", "{dir}/runner.json")
    job = json.loads(command.files["runner.json"])
    assert job["model"] == "/data/m x.gguf"
    assert job["n_ctx_train"] == 1024
    assert job["workload"]["prompts"] == ["größer"]
    assert job["settings"]["threads"] == 2
    assert job["repeat"] == {"warmup": 1, "repetitions": 5}


def test_runner_files_exist_side_by_side_and_are_python_3_8():
    files = registry.get("llama.cpp").runner_files()
    assert len({path.parent for path in files}) == 1
    for path in files:
        ast.parse(path.read_text(encoding="utf-8"), path.name, feature_version=(3, 8))


def test_runner_imports_nothing_that_is_not_pushed_with_it():
    files = registry.get("llama.cpp").runner_files()
    beside = {path.stem for path in files[0].parent.glob("*.py")}
    pushed = {path.stem for path in files}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {node.module} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
                assert names & beside <= pushed


@pytest.mark.parametrize(
    ("name", "hint"), [("llamacpp", "did you mean 'llama.cpp'?"), ("tensorrt", "melt knows llama.cpp")]
)
def test_an_unknown_engine_is_refused_with_the_nearest_name(name, hint):
    with pytest.raises(UsageError, match=name) as caught:
        registry.get(name)
    assert hint in str(caught.value)
