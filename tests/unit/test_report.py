"""What people and programs read, held against golden texts: look at the difference, then copy the new text over."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from analysis_samples import channel, make_start, run, runner_said
from store_samples import make_bundle

from melt.analysis.compare import compare
from melt.errors import UsageError
from melt.records import Calibration, Conditions, Knob, Metric, Outcome, Reason, TripLimit, Verdict
from melt.report.comparison import render
from melt.report.run import render_run
from melt.report.scale import percent, scale_for
from melt.report.table import render_table, write_rows

GOLDEN = Path(__file__).parent / "golden" / "report"


@pytest.fixture(autouse=True)
def screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def golden(name, text):
    path = GOLDEN / name
    assert text == path.read_text(encoding="utf-8"), f"differs from {path}"


@cache
def measured(gap_ms):
    return run(runner_said(gaps_ms=[gap_ms] * 3), start=make_start())


def sweep(sessions, quants=("q8_0", "q4_k_m", "q4_0")):
    """Runs of the sample workload whose tokens take 10 ms in the first column and 1 ms less in each further one."""
    made = []
    for session in range(sessions):
        for i, quant in enumerate(quants):
            seen = measured(10 - i + 0.1 * ((session * 3 + i) % 5))
            position = session * len(quants) + i
            bundle = make_bundle(f"r{position}", quant=quant, position=position, block=session)
            start = make_start()
            artifact = replace(
                start.artifact,
                quant=quant,
                sha256=f"{i}" * 64,
                size_bytes=144_000_000 // (i + 1),
                bits_per_weight=8.5 - i,
                notes=("made from Q4_1, a lossy origin",) if i else (),
            )
            bundle = replace(bundle, start=replace(bundle.start, artifact=artifact), metrics=seen.metrics)
            made.append(bundle)
    return made


def failed(bundle):
    reason = Reason(code="killed_by_oom", message="the kernel killed the runner because memory ran out")
    return replace(bundle, stop=replace(bundle.stop, outcome=Outcome.OOM, reasons=(reason,)))


def doubted(bundle):
    reason = Reason(code="unstable", message="the repetitions' decode rates vary by 6.1 % (CV), over 5 %")
    return replace(bundle, stop=replace(bundle.stop, verdict=Verdict.SUSPECT, reasons=(reason,)))


@pytest.mark.parametrize("fmt", ["table", "md", "json", "jsonl", "csv"])
def test_three_sessions_of_three_levels(fmt):
    made = sweep(3)
    made[4] = doubted(made[4])
    golden(f"three-sessions.{fmt}", render(compare(made), fmt))


def test_many_levels_one_of_which_does_not_fit():
    made = sweep(1, ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q2_k"))
    made[0] = failed(made[0])
    golden("seven-levels.table", render(compare(made), "table"))


def test_enough_sessions_are_judged():
    golden("seven-sessions.table", render(compare(sweep(7, ("q8_0", "q8_0_again", "q4_0"))), "table"))


def test_only_failures():
    golden("only-failures.table", render(compare([failed(b) for b in sweep(1)]), "table"))


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_table_is_wider_than_the_screen_unless_two_columns_need_it(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = render(compare(sweep(3, ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q2_k"))), "table")
    rules = [len(line) for line in text.splitlines() if line.startswith(" ──")]
    assert max(rules) <= max(width, 60)
    for level in ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q2_k"):
        assert level in text


def test_a_power_mode_is_that_of_the_run_not_the_one_it_was_found_in():
    made = []
    for bundle, asked in zip(sweep(1, ("q8_0", "q4_0")), ("15W", "MAXN"), strict=True):
        knob = Knob(name="nvpmodel", before="25W", asked=asked)
        spec = replace(bundle.start.spec, conditions=Conditions(nvpmodel=asked), quant="q8_0")
        device = replace(bundle.start.device, power_mode="25W")
        artifact = replace(bundle.start.artifact, sha256="0" * 64)
        start = replace(bundle.start, device=device, knobs=(knob,), spec=spec, artifact=artifact)
        made.append(replace(bundle, start=start))
    shown = render(compare(made[:1]), "md")
    assert "15W" in shown
    assert "25W" not in shown
    side_by_side = render(compare(made, by="power_mode"), "md")
    assert "| power mode |  | 15W | MAXN |" in side_by_side
    assert "25W" not in side_by_side


def test_records_hold_every_cell():
    made = sweep(3)
    rows = list(csv.DictReader(io.StringIO(render(compare(made), "csv"))))
    lines = [json.loads(line) for line in render(compare(made), "jsonl").splitlines()]
    assert len(rows) == len(lines)
    decode = [line for line in lines if line["metric"] == "decode_tps"]
    assert [line["column"] for line in decode] == ["q8_0", "q4_k_m", "q4_0"]
    assert decode[0]["difference"] is None
    assert decode[2]["median"] == pytest.approx(1e3 / 8.2, rel=0.02)


def whole_run():
    traces = [
        channel("core_c", "temperature", lambda t: 40 + 0.5 * t, site="coretemp Core 0", unit="c"),
        channel("package_j", "energy", lambda t: 12.0 * t, site="package-0", unit="j", cumulative=True),
    ]
    seen = run(traces=traces, start=make_start())
    bundle = make_bundle("0123456789abcdef")
    streams = tuple(stream for trace in traces for stream in trace.streams)
    start = replace(make_start(), streams=streams, missing=("CPU frequency is not measured: no cpufreq driver",))
    start = replace(start, spec=replace(start.spec, run_id="0123456789abcdef"))
    used = {**seen.used, "engine_revision": "llama.cpp 0.5.0"}
    return replace(
        bundle, start=start, stop=replace(bundle.stop, used=used), metrics=seen.metrics, windows=seen.windows
    )


@pytest.mark.parametrize("fmt", ["table", "md"])
def test_a_run_in_full(fmt):
    golden(f"run.{fmt}", render_run(whole_run(), fmt))


def test_conditions_are_shown_with_what_was_found():
    bundle = make_bundle()
    knobs = (
        Knob(name="screen_timeout", before="60000", asked="86400000"),
        Knob(name="fixed_performance", before=None, asked="true"),
    )
    text = render_run(replace(bundle, start=replace(bundle.start, knobs=knobs)), "md")
    assert "screen timeout 86400000 (found 60000), fixed performance true (found unknown)" in text
    assert "(found" not in render_run(bundle, "md")


def test_a_run_says_how_its_battery_was_read():
    bundle = whole_run()
    how = Calibration(column="battery_current_a", factor=-1e-3, basis="398 while charging: milliamperes", certain=False)
    bundle = replace(bundle, start=replace(bundle.start, calibrations=(how,)))
    said = "| calibration | battery_current_a: 398 while charging: milliamperes (not certain) |"
    assert said in render_run(bundle, "md")


def test_a_run_says_what_would_have_ended_it():
    def limit(site, value, unit="c"):
        return TripLimit(site=site, limit=value, unit=unit, basis="b", channel="cid 1", per_unit=1.0)

    bundle = make_bundle()
    assert "trip limits" not in render_run(bundle, "md")
    trips = (limit("cpu0", 112.0), limit("cpu1", 112.0), limit("battery", 60.0), limit("thermal status", 4.0, "1"))
    text = render_run(replace(bundle, start=replace(bundle.start, trips=trips)), "md")
    assert "| trip limits | cpu0 and 1 more 112.0 °C, battery 60.0 °C, thermal status 4 |" in text


def test_a_failed_run_with_its_evidence():
    bundle = make_bundle("0123456789abcdef", outcome=Outcome.OOM, verdict=Verdict.INVALID)
    kept = {"exit": '{"reason": "completed", "signal": 9}', "stderr": "first\nlast"}
    bundle = replace(bundle, stop=replace(bundle.stop, evidence=kept))
    golden("failed-run.table", render_run(bundle, "table", evidence=True))
    assert "show it with --evidence" in render_run(bundle, "table")
    assert json.loads(render_run(bundle, "json"))["stop"]["evidence"]["stderr"] == "first\nlast"


def test_a_run_as_json_can_be_read_back():
    from melt.codec import from_dict
    from melt.records import RunStart

    bundle = whole_run()
    document = json.loads(render_run(bundle, "json"))
    assert from_dict(RunStart, document["start"]) == bundle.start
    assert [from_dict(Metric, m) for m in document["metrics"]] == list(bundle.metrics)


ROWS = [["0123456789abcdef0123", "a name of several words | or so", "1234.5"], ["b", "[red]not a colour", "−2"]]


def test_tables_elsewhere_than_on_a_terminal_are_whole():
    text = render_table("Runs", ("id", "name", "figure"), ROWS, "table", numeric={2})
    for cell in (cell for row in ROWS for cell in row):
        assert cell in text
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_tables_on_a_terminal_wrap_words_but_never_numbers_or_ids(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    text = render_table(None, ("id", "name", "figure"), ROWS, "table", numeric={2})
    assert "0123456789abcdef0123" in text
    assert "1234.5" in text
    assert "a name of several words" not in text
    assert max(len(line) for line in text.splitlines() if "\x1b" not in line) <= 50


@pytest.mark.parametrize("fmt", ["table", "md"])
def test_names_cannot_steer_the_terminal(fmt: str) -> None:
    text = render_table("run \x1b[2J", ("a\x9b31m",), [["m\x1b]0;title\x07.gguf"]], fmt)
    assert not set(text) & set("\x1b\x07\x9b")
    assert "m\ufffd]0;title\ufffd.gguf" in text


def test_markdown_cells_cannot_break_a_row():
    text = render_table(None, ("a", "b"), [["x | y", "two\nlines"]], "md", numeric={1})
    assert text == "| a | b |\n| --- | ---: |\n| x \\| y | two<br>lines |\n"


def test_csv_and_json_keep_what_is_not_measured_apart():
    records = [{"a": 1.5, "b": float("nan"), "c": ["x"]}, {"a": None, "b": 0.0, "c": "x,y"}]
    assert write_rows(("a", "b", "c"), records, "csv") == 'a,b,c\n1.5,,"[""x""]"\n,0.0,"x,y"\n'
    assert json.loads(write_rows(("a", "b"), records, "json")) == [{"a": 1.5, "b": None}, {"a": None, "b": 0.0}]
    assert write_rows(("a",), records, "jsonl") == '{"a": 1.5}\n{"a": null}\n'
    assert write_rows(("a",), [], "json") == "[]\n"


def test_a_run_tells_where_its_meters_clock_stands_by_both_ways():
    signatures = [{"lag_ns": lag, "uncertainty_ns": 10_200_000, "quality": 0.8} for lag in (-479_610, 4_279_610)]
    clocks = {"clock_uncertainty_ns": 1_530_000, "drift": -38e-6, "signatures": signatures}

    def shown(fmt, **of_the_clock):
        document = json.dumps({"on_device_clock": {**clocks, **of_the_clock}})
        return render_run(replace(make_bundle(), attachments={"meter.json": document}), fmt)

    assert (
        "brought to the device's clock to ±1.53 ms, drift -38 ppm, by the device's own bursts -0.5 ms and +4.3 ms from "
        "there (±10.2 ms)"
    ) in shown("md")
    assert "±1.53 ms, the device's bursts were not found in its power" in shown("md", drift=None, signatures=[])
    assert "power meter" not in shown("md", clock_uncertainty_ns=None)
    assert json.loads(shown("json"))["meter"] == clocks


@pytest.mark.parametrize("write", [lambda: render_table(None, (), [], "xml"), lambda: write_rows((), [], "xml")])
def test_an_unknown_form_is_named(write):
    with pytest.raises(UsageError, match="'xml'"):
        write()


@pytest.mark.parametrize(
    ("values", "unit", "written"),
    [
        ([0.0123, 0.00456], "s", ["12.30 ms", "4.56 ms"]),
        ([1.5, 0.25], "s", ["1.500 s", "0.250 s"]),
        ([31.2, 4122.0], "tok/s", ["31.2 tok/s", "4122.0 tok/s"]),
        ([98_400_000.0], "bytes", ["93.8 MiB"]),
        ([512.0], "bytes", ["512 B"]),
        ([0.431], "ratio", ["43.1 %"]),
        ([41.26], "c", ["41.3 °C"]),
        ([2.0, 0.0], "1", ["2 ", "0 "]),
        ([0.0], "s", ["0 s"]),
    ],
)
def test_a_row_shares_its_prefix_and_decimals(values, unit, written):
    scale = scale_for(values, unit)
    assert [f"{scale.write(v)} {scale.symbol}" for v in values] == written


@pytest.mark.parametrize(
    ("value", "text"), [(-0.0312, "−3.1 %"), (0.1, "+10.0 %"), (2.5, "+250 %"), (-0.0001, "0.0 %")]
)
def test_percent(value, text):
    assert percent(value) == text


def test_no_uncertainty_is_told_of_an_energy_that_has_none():
    bundle = make_bundle()
    energy = Metric(name="energy_response_j", unit="j", source="whole device", value=7.2)
    text = render_run(replace(bundle, metrics=(*bundle.metrics, energy)), "table")
    assert "7.20 J" in text
    assert "±" not in "".join(line for line in text.splitlines() if "J" in line or "mWh" in line)
