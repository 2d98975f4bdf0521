"""A run drawn as text: what is on it, at every width, and where nothing was measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from analysis_samples import at, channel, make_start, run
from rich.cells import cell_len
from store_samples import make_bundle

from melt.records import Workload
from melt.report.canvas import Canvas
from melt.report.plot import Style, render_plot
from melt.traces import RunBundle, Trace

FALLS_S = 20.0
"""When tokens take half as long again, from the first measured one on."""

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def request(begin_s: float, repetition: int, *, warmup: bool = False, gap_ms: float = 10) -> dict[str, object]:
    """32 tokens after a prefill of 0.1 s."""
    return {
        "event": "generation",
        "repetition": repetition,
        "warmup": warmup,
        "submit_ns": at(begin_s),
        "depth": 0,
        "n_prompt": 64,
        "prefill": {"t0_ns": at(begin_s), "t1_ns": at(begin_s + 0.1), "batches": []},
        "token_ns": [at(begin_s + 0.11) + round(i * gap_ms * 1e6) for i in range(32)],
        "token_ids": [],
        "stop": "length",
        "text": None,
    }


def said() -> list[dict[str, object]]:
    load = {"event": "load", "t0_ns": at(1.0), "t1_ns": at(1.4), "page_cache": {}, "used": {}, "memory": {}}
    events, now_s = [load, request(2.0, 0, warmup=True)], 4.0
    while now_s < 52:
        slow = now_s >= 4 + FALLS_S
        events.append(request(now_s, 0, gap_ms=15 if slow else 10))
        now_s += 0.65 if slow else 0.5
    return [*events, {"event": "finish", "t_ns": at(53)}]


def sensors() -> list[Trace]:
    hot = channel("cpu_c", "temperature", lambda t: 35 + np.minimum(t, 30), site="cpu-thermal", unit="c")
    skin = channel("skin_c", "temperature", lambda t: 30 + 0.2 * t, site="skin", unit="c", rate_hz=1.0)
    clock = channel("cpu0_hz", "frequency", lambda t: np.where(t < 24, 2.4e9, 1.6e9), site="cpu0", unit="hz")
    watts = channel("w", "power", lambda t: np.where((t > 2) & (t < 52), 6.0, 1.0), site="battery", unit="w")
    status = channel("thermal_status", "state", lambda t: np.where(t < 22, 0, 2), site="device", rate_hz=1.0)
    return [hot, skin, clock, watts, status]


def bundle(traces: list[Trace] | None = None, events: list[dict[str, object]] | None = None) -> RunBundle:
    start = make_start(workload=Workload(kind="sustained", n_prompt=64, n_gen=32, duration_s=48.0))
    seen = run(said() if events is None else events, start=start, traces=sensors() if traces is None else traces)
    made = make_bundle("0123456789abcdef")
    return replace(
        made,
        start=replace(start, spec=replace(start.spec, run_id="0123456789abcdef")),
        windows=seen.windows,
        metrics=seen.metrics,
        traces=(*seen.traces, seen.token_trace),
    )


@pytest.fixture(scope="module")
def throttled() -> RunBundle:
    return bundle()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 140, 400])
@pytest.mark.parametrize("unicode", [True, False])
def test_every_line_fits(throttled: RunBundle, width: int, unicode: bool) -> None:
    text = render_plot(throttled, Style(width, unicode=unicode))
    assert max(map(cell_len, text.splitlines())) <= max(40, min(width, 160))
    assert text.isascii() or unicode
    assert "\x1b" not in text


def test_colours_are_all_that_a_terminal_gets_more(throttled: RunBundle) -> None:
    coloured = render_plot(throttled, Style(80, colour=True))
    assert ESCAPE.search(coloured)
    titles = [line for line in ESCAPE.sub("", coloured).splitlines() if "°C" in line and "cpu-thermal" in line]
    assert len(titles) == 1


def test_all_that_was_measured_is_drawn(throttled: RunBundle) -> None:
    text = render_plot(throttled, Style(80))
    for title in ("decode, tok/s", "temperature, °C", "clock, GHz", "power, W (battery)", "throttling as reported"):
        assert title in text
    assert "No " not in text
    assert "burst 100 tok/s, steady 66.7 tok/s, steady of burst 66.7 %, time to throttle 19.5 s" in " ".join(
        text.split()
    )
    assert "  65.0 │" in text, "the hottest at its highest"
    assert "2.40 │" in text
    assert re.search(r"phases +·+l+·*w+·*m+·+$", text, re.MULTILINE)


def test_the_throttle_is_marked_at_the_same_column_everywhere(throttled: RunBundle) -> None:
    lines = render_plot(throttled, Style(80, unicode=False)).splitlines()
    columns = {match.start() for line in lines if (match := re.search(r"(?<=[ *o+x]):", line)) and "|" in line}
    assert len(columns) == 1


def test_a_device_without_sensors() -> None:
    text = render_plot(bundle([]), Style(60))
    for what in ("No temperature was", "No clock was", "No power was", "The device has no report of throttling."):
        assert what in text
    assert "decode, tok/s" in text


def test_a_run_without_tokens() -> None:
    text = render_plot(bundle(events=said()[:1]), Style(60))
    assert "No decode was timed: there is no curve of its rate." in text
    assert "temperature, °C" in text


def test_a_run_of_which_nothing_is_left() -> None:
    nothing = replace(make_bundle(), windows=(), traces=())
    assert "Nothing was recorded of this run that could be drawn." in render_plot(nothing, Style(60))


def test_a_hole_is_not_drawn_over() -> None:
    dropped = channel("cpu_c", "temperature", lambda t: 40 + t / 10, site="cpu", unit="c", drop=(20, 40))
    text = render_plot(bundle([dropped]), Style(80))
    panel = text[text.index("temperature, °C") : text.index("└")].splitlines()[1:7]
    columns = [any(line[10:].ljust(80)[i] not in " ┊" for line in panel) for i in range(70)]
    assert not any(columns[27:43]), "nothing between 20 and 40 of 60 s"
    assert all(columns[2:22])


def test_a_steep_line_has_no_holes() -> None:
    canvas = Canvas(4, 3, 0.0, 1.0, dots=True)
    canvas.draw(0, np.array([0.0, 1.0, 0.0, 1.0, np.nan, np.nan, 0.5, 0.5]))
    rows = ["".join(cell.text for cell in row) for row in canvas.rows()]
    assert rows[0][2] == " "
    assert all(ord(rows[y][0]) > 0x2800 for y in range(3))


def test_the_document_of_a_run_can_be_read_beside_it(throttled: RunBundle) -> None:
    values = {m.name: m for m in throttled.metrics if m.repetition is None}
    note = values["time_to_throttle_s"].note
    assert note == "the device reported thermal status 2 (moderate) at 17.9 s"
    assert json.loads(json.dumps(values["time_to_throttle_s"].figures))["reported_s"] == pytest.approx(17.89)


def test_the_sensors_that_are_shown_tell_the_most_apart() -> None:
    alike = [
        channel(f"cpu{i}_c", "temperature", lambda t, i=i: 60 + i + t / 10, site=f"cpu{i}", unit="c") for i in range(4)
    ]
    case = channel("skin_c", "temperature", lambda t: 38 + t / 20, site="skin", unit="c")
    battery = channel("battery_temp_c", "temperature", lambda t: 30 + t / 30, site="battery", unit="c")
    text = render_plot(bundle([*alike, case, battery]), Style(80))
    assert "temperature, °C   * cpu3   o battery   + skin" in text


def test_what_a_device_calls_its_sensors_steers_no_terminal() -> None:
    hot = channel("cpu_c", "temperature", lambda t: 40 + t / 3, site="cpu\x1b[2J\n\x9b1A", unit="c")
    text = render_plot(bundle([hot]), Style(80))
    assert all(line.isprintable() for line in text.splitlines())
    assert "cpu?[2J??1A" in text


@pytest.mark.parametrize("watts", [1e15, -1e15, 123456.7])
def test_a_number_that_cannot_be_true_shifts_no_axis(watts: float) -> None:
    meter = channel("w", "power", lambda t: np.where(t < 30, 5.0, watts), site="battery", unit="w")
    assert max(map(cell_len, render_plot(bundle([meter]), Style(80)).splitlines())) <= 80


def test_a_counter_that_came_twice_at_once_has_no_endless_power() -> None:
    counter = channel("j", "energy", lambda t: 5 * t, site="package-0", unit="j", cumulative=True)
    twice = counter.t_ns.copy()
    twice[11::10] = twice[10:-1:10]
    panel = render_plot(bundle([replace(counter, t_ns=twice)]), Style(80)).partition("power, W (CPU package)")[2]
    assert "inf" not in panel
    assert float(panel.splitlines()[1].split()[0]) < 20
