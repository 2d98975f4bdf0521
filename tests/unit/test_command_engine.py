"""The worked example of a plug-in, read where it lies: what it makes of a program's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "command-engine"

_ONE = """\
formats: [gguf]
files: [tool]
command: [tool, "{model}"]
events: [{event: finish}]
samples: [{decode_tps: speed.decode}]
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return the engine of a program that prints a single object."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from melt_command_engine import CommandEngine

    (tmp_path / "one.yaml").write_text(_ONE)
    return CommandEngine(str(tmp_path / "one.yaml"))


def test_a_single_object_is_all_or_nothing(example: Any) -> None:
    said = json.dumps({"model": {"layers": [1, {"a": True}]}, "speed": {"decode": [31.5, 30.0]}, "ok": None}, indent=1)
    whole = example.parse([b"loading {x}", *said.encode().splitlines(), b"done"])
    assert (whole.complete, dict(whole.samples)) == (True, {"decode_tps": (31.5, 30.0)})
    for end in range(len(said)):
        torn = example.parse([said[:end].encode()])
        assert (torn.complete, dict(torn.samples)) == (False, {}), said[:end]
