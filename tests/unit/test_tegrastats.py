"""Lines of tegrastats that boards printed, against what must be read out of them; and lines that no board printed."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.records import Sampling
from melt.telemetry.platforms.jetson_tegrastats import channels, read_line

FOLDER = Path(__file__).parents[1] / "data" / "tegrastats"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt") if ".expected" not in path.name)
LINES = [line for name in NAMES for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()]


def render(text: str) -> str:
    sheet = []
    for line in text.splitlines():
        reading = read_line(line)
        sheet += [f"rail {label}: {watts:g} W" for label, watts in reading.rails_w.items()]
        sheet += [f"temperature {label}: {degrees:g} C" for label, degrees in reading.temps_c.items()]
        sheet += [f"busy {engine}: {share:g}" for engine, share in reading.busy.items()]
        sheet += [f"clock {engine}: {hertz:g} Hz" for engine, hertz in reading.freq_hz.items()]
        sheet.append("")
    return "\n".join(sheet)


@pytest.mark.parametrize("name", NAMES)
def test_a_line_reads_as_expected(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert render(text) == (FOLDER / f"{name}.expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", LINES)
def test_the_stream_reads_back_what_the_first_line_showed(line: str) -> None:
    (source,) = channels({"$ tegrastats": line.encode()}, Sampling(), ())
    numbers = dict(zip(source.streams, source.parse(line.encode()), strict=True))
    assert not any(math.isnan(number) for number in numbers.values())
    rails = {stream.name: number for stream, number in numbers.items() if stream.quantity == "power"}
    assert sum(rails.values()) == pytest.approx(sum(read_line(line).rails_w.values()))
    assert not any("rail NC" in stream.site for stream in numbers)


def test_a_part_that_is_switched_off_later_has_no_value_then() -> None:
    on, off = "GR3D_FREQ 62%@612 gpu@50C VDD_IN 4541mW/4541mW", "GR3D_FREQ gpu@-256C VDD_IN 4000mW/4300mW"
    (source,) = channels({"$ tegrastats": on.encode()}, Sampling(power_hz=4), ())
    assert source.argv == ("tegrastats", "--interval", "250")
    now = {stream.name: number for stream, number in zip(source.streams, source.parse(off.encode()), strict=True)}
    assert now.pop("rail_vdd_in_power_w") == 4.0
    assert set(now) == {"gpu_c", "gpu_busy_ratio", "gpu_freq_hz"}
    assert all(map(math.isnan, now.values()))


def test_what_files_tell_is_left_to_them() -> None:
    told = {"temperature", "gpu_busy", "gpu_freq", "emc_freq"}
    (source,) = channels({"$ tegrastats": LINES[0].encode()}, Sampling(), told)
    assert {stream.quantity for stream in source.streams if stream.site != "emc"} == {"power"}
    told |= {"rails", "emc_busy"}
    assert channels({"$ tegrastats": LINES[0].encode()}, Sampling(), told) == []
    assert channels({"$ tegrastats": b"tegrastats: not found\n"}, Sampling(), ()) == []
    assert channels({}, Sampling(), ()) == []


@given(st.text() | st.sampled_from(LINES).flatmap(lambda line: st.integers(0, len(line)).map(lambda cut: line[:cut])))
def test_no_line_makes_it_fail(line: str) -> None:
    reading = read_line(line)
    assert all(-100 <= degrees <= 250 for degrees in reading.temps_c.values())
    (source,) = channels({"$ tegrastats": LINES[0].encode()}, Sampling(), ())
    assert len(source.parse(line.encode(errors="surrogatepass"))) == len(source.streams)


if __name__ == "__main__":
    sys.stdout.write(render(Path(sys.argv[1]).read_text(encoding="utf-8")))
