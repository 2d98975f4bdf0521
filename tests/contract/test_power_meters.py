"""melt's own power meters that need no hardware, held against what melt.testing asks of every one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from melt.testing.cases import MeterCase
from melt.testing.test_power_meters import TestPowerMeter, watched

__all__ = ["TestPowerMeter", "watched"]

_PRINTS = """\
import itertools, time
began = time.monotonic()
for k in itertools.count():
    time.sleep(max(0.0, began + k / 100 - time.monotonic()))
    print(f"{time.monotonic() - began:.6f},4.0,0.5", flush=True)
"""


@pytest.fixture(scope="module", params=["lines", "recorded"])
def meter_case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MeterCase:
    if request.param == "lines":
        command = [sys.executable, "-c", _PRINTS]
        return MeterCase(name="lines", options={"command": command, "columns": ["time_s", "v", "a"], "rate_hz": 100})
    path: Path = tmp_path_factory.mktemp("recorded") / "trace.csv"
    path.write_text("time_ms,w\n" + "".join(f"{k},{k % 7}\n" for k in range(500)))
    return MeterCase(name="recorded", options={"file": str(path), "repeat": True})
