"""What docs/store.md shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from store_samples import make_bundle, make_trace

from melt.store import schema
from melt.store.store import Store

DOC = Path(__file__).parents[2] / "docs" / "store.md"


@pytest.mark.slow
def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open(Path("results")) as store:
        for i, (quant, tps) in enumerate([("q8_0", 20.0), ("q8_0", 22.0), ("q4_0", 30.0), ("q4_0", 34.0)]):
            trace = make_trace(100, seed=i)
            store.publish(make_bundle(f"r{i}", block=i % 2, position=i, quant=quant, decode_tps=tps, traces=(trace,)))
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", DOC.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "python", "python", "python"]
    seen: dict[str, object] = {}
    for kind, text in blocks:
        if kind == "sh":
            words = text.split()
            assert words[0] == "melt"
            subprocess.run([sys.executable, "-m", *words, "--store", "results"], check=True, capture_output=True)
        else:
            exec(compile(text, str(DOC), "exec"), seen)
    assert seen["levels"] == [("tiny", "q4_0", 2, 32.0), ("tiny", "q8_0", 2, 21.0)]
    assert [(run_id, type(value)) for run_id, value in seen["hottest"]] == [(f"r{i}", Decimal) for i in range(4)]
    assert seen["medians"].rows() == [("tiny", "q4_0", 32.0), ("tiny", "q8_0", 21.0)]
    assert 0 < len(seen["decoding"]) < 100
    assert len(seen["sensors"].t_ns) == 100
    seen["records"].close()
    seen["con"].close()


def test_every_table_and_column_is_described() -> None:
    text = DOC.read_text(encoding="utf-8")
    for table in schema.metadata.tables.values():
        assert f"**{table.name}**" in text
        missing = [column.name for column in table.columns if f"`{column.name}`" not in text]
        assert missing == [], table.name
