"""A phone that gets hot in mid-run: its curve, the limits that end a run, and both drawn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from melt_rig import Melt, RunsOnADevice
from native_runners import BUILDS, build
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, playing

pytestmark = BUILDS

Wait = Callable[..., object]
THROTTLES_S, LASTS_S = 20.0, 45.0
_FAST_MS, _SLOW_MS = 50, 80
_TOKENS, _PREFILL_MS = 8, 100

PLAYED = r"""#!/system/bin/sh
# Says what a runner would say whose tokens come at known times, and lives as long.
read up rest < /proc/uptime
base_s=${up%%.*}
base_ms=$((10 * (1${up##*.} - 100)))
at() { printf '%d%03d000000' $((base_s + (base_ms + $1) / 1000)) $(((base_ms + $1) % 1000)); }
echo '{"event":"hello","runner":"played","engine":"llama.cpp","engine_version":"1","engine_revision":"r","pid":1}'
echo '{"event":"load","t0_ns":'$(at 0)',"t1_ns":'$(at 100)',"page_cache":{},"used":{"threads":1},"memory":{}}'
now=200
while [ $now -lt @LASTS@ ]; do
    submit=$now now=$((now + @PREFILL@)) tokens= i=0 gap=@FAST@
    [ $submit -ge @THROTTLES@ ] && gap=@SLOW@
    while [ $i -lt @TOKENS@ ]; do
        tokens="$tokens${tokens:+,}$(at $now)"
        now=$((now + gap)) i=$((i + 1))
    done
    echo '{"event":"generation","repetition":0,"warmup":false,"submit_ns":'$(at $submit)',"depth":0,"n_prompt":8,'\
'"prefill":{"t0_ns":'$(at $submit)',"t1_ns":'$(at $((submit + 90)))',"batches":[]},"token_ns":['$tokens'],'\
'"token_ids":[],"stop":"length","text":null}'
    sleep $(((now - submit) / 1000)).$(printf %03d $(((now - submit) % 1000)))
done
echo '{"event":"finish","t_ns":'$(at $now)',"peak_rss_bytes":null}'
"""


@dataclass(frozen=True)
class Lab(RunsOnADevice):
    """Melt and one phone."""

    melt: Melt
    phone: VirtualPhone
    wait_for: Wait

    def start(self, *words: str) -> Any:
        """Begin a sustained run and return when its runner works."""
        cell = ("--model", "tiny-pydoc", "--quant", "q8_0", "-t", "1", "-r", "1", "--warmup", "0")
        process = self.melt.start("run", "--device", f"adb:{self.phone.address}", *cell, *words)
        self.wait_for(
            "a runner",
            lambda: process.poll() is not None or b"runner_started" in self._journals(),
            timeout_s=90,
        )
        return process

    def metrics(self, shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {m["name"]: m for m in shown["metrics"] if m["repetition"] is None}

    def _journals(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.melt.store.glob("spool/*/journal"))


@pytest.fixture
def lab(melt: Melt, wait_for: Wait) -> Iterator[Lab]:
    build("android-arm64")
    with playing("pixel-8") as phone, adb_server("system") as server:
        server.connect(phone.address)
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        yield Lab(melt, phone, wait_for)


def _played(folder: Path) -> Path:
    """Write a runner whose rate falls at a known moment: this computer is too busy to be throttled on purpose."""
    numbers = {
        "LASTS": round(1000 * LASTS_S),
        "THROTTLES": round(1000 * THROTTLES_S) + 200,
        "FAST": _FAST_MS,
        "SLOW": _SLOW_MS,
        "TOKENS": _TOKENS,
        "PREFILL": _PREFILL_MS,
    }
    text = PLAYED
    for name, number in numbers.items():
        text = text.replace(f"@{name}@", str(number))
    path = folder / "played-runner"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_phone_that_throttles_in_mid_run(lab: Lab, tmp_path: Path) -> None:
    engine = f"llama.cpp-native:{_played(tmp_path)}"
    process = lab.start("--engine", engine, "--workload", "pp8+tg8 for 45s")
    threading.Event().wait(THROTTLES_S)
    lab.phone.fault.ramp(45.5, seconds=1)
    lab.end(process, 0)
    shown = lab.shown()
    found = lab.metrics(shown)
    throttle = found["time_to_throttle_s"]
    assert throttle["value"] == pytest.approx(THROTTLES_S, abs=throttle["uncertainty"] + 0.5)
    assert "the device reported" in throttle["note"]
    assert throttle["figures"]["reported_s"] == pytest.approx(THROTTLES_S, abs=10)
    assert found["burst_tps"]["value"] == pytest.approx(1000 / _FAST_MS, rel=0.01)
    assert found["steady_tps"]["value"] == pytest.approx(1000 / _SLOW_MS, rel=0.01)
    assert found["steady_ratio"]["value"] == pytest.approx(_FAST_MS / _SLOW_MS, rel=0.01)
    assert found["temperature_rise_c"]["value"] > 5
    assert found["temperature_start_c"]["value"] < found["temperature_max_c"]["value"]
    drawn = lab.melt.here("show", "last", "--plot").stdout
    for part in ("decode, tok/s", "temperature, °C", "clock, GHz", "thermal status", "throttled from"):
        assert part in drawn
    assert "\x1b" not in drawn
    assert lab.melt.here("show", "last", "--plot", "-o", "json", check=2).stdout == ""


def test_a_limit_ends_the_run_and_its_conditions_with_it(lab: Lab) -> None:
    before = lab.phone.state()["brightness"]
    process = lab.start("--workload", "pp8+tg16 for 120s", "--trip", "60", "--condition", "brightness=11")
    threading.Event().wait(6)
    lab.phone.fault.ramp(70.0, seconds=3)
    lab.end(process, 1)
    shown = lab.shown()
    assert shown["stop"]["outcome"] == "failed"
    (reason,) = shown["stop"]["reasons"]
    assert reason["code"] == "tripped"
    assert "more than its limit of 60.0 °C (as `trip_c` asks): the runner was ended" in reason["message"]
    assert reason["figures"]["value"] > reason["figures"]["limit"] == 60
    limits = {(limit["site"], limit["limit"]) for limit in shown["start"]["trips"]}
    assert {("battery", 60.0), ("thermal status", 4.0)} <= limits
    assert lab.phone.state()["brightness"] == before
    assert lab.metrics(shown)["decode_tps"]["value"] > 0, "what was measured until then is kept"
    drawn = lab.melt.here("show", "last", "--plot").stdout
    assert "decode, tok/s" in drawn
    assert "tripped: " in drawn


def test_a_phone_ends_a_run_by_its_own_word(lab: Lab) -> None:
    process = lab.start("--workload", "pp8+tg16 for 120s")
    lab.phone.fault.ramp(53.0)
    lab.end(process, 1)
    (reason,) = lab.shown()["stop"]["reasons"]
    assert reason["message"].startswith("thermal status said 5, more than its limit of 4 (from 5, emergency,")
