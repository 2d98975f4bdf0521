"""One plan over language models and single-shot models, this machine and a board: two engines, one store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from melt_rig import Melt
from virtual.jetson.testing import playing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAN = """\
name: two engines
devices: [local, orin]
models:
  - {model: smollm2-135m-instruct, quants: [q4_1, q2_k]}
  - {model: magika, quants: [fp32, int8-dynamic]}
  - {model: silero-vad, quants: fp32}
  - {model: rapidocr-cls, quants: fp32}
workloads: [pp8+tg4, infer10]
settings: {threads: 1}
repeat: {warmup: 1, repetitions: 2}
sampling: {baseline_s: 0.5}
"""
CELLS = {
    ("smollm2-135m-instruct", "q4_1"),
    ("smollm2-135m-instruct", "q2_k"),
    ("magika", "fp32"),
    ("magika", "int8-dynamic"),
    ("silero-vad", "fp32"),
    ("rapidocr-cls", "fp32"),
}


@pytest.fixture
def lab(melt: Melt, tmp_path: Path) -> Iterator[Melt]:
    """Melt with a board behind its own SSH server."""
    pytest.importorskip("onnxruntime")
    with playing("orin-nano-jp6", tmp_path / "board") as board:
        melt.env.update(board.ssh.environment)
        yield melt


def test_one_plan_over_two_engines_and_two_machines(lab: Melt, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    done = lab("run", str(plan), timeout_s=600)
    runs = lab.runs()
    assert [run["outcome"] for run in runs] == ["ok"] * 12, done.stderr
    assert len({run["sweep_id"] for run in runs}) == 1
    for board in (True, False):
        there = [run for run in runs if str(run["device"]).startswith("NVIDIA Jetson") is board]
        assert {(run["model"], run["quant"]) for run in there} == CELLS
    assert lab.here("store", "verify").returncode == 0

    groups = json.loads(lab.here("compare", "--by", "device", "-o", "json").stdout)["groups"]
    assert len(groups) == len(CELLS), "a group for each level: no model beside another's"
    for group in groups:
        rate = "inferences_per_s" if "infer10" in str(group) else "decode_tps"
        cells = {row["metric"]: row["cells"] for row in group["rows"]}[rate]
        assert len(cells) == 2
        assert all(cell["median"] > 0 for cell in cells)
