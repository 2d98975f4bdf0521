"""Pictures are drawn for real: what is held here is what comes out of Vega, not what goes into it."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import make_bundle

from melt.analysis.ab import Change
from melt.analysis.changepoints import ChangePoint, Found
from melt.analysis.history import Night, Series
from melt.analysis.latency import inference_trace
from melt.engines.base import Inference
from melt.errors import StoreError, UsageError
from melt.records import Outcome, Stream, Verdict, Window, Workload
from melt.report.charts.axes import Axis, fitted
from melt.report.charts.history import history_spec
from melt.report.charts.labels import Box, Mark, placed
from melt.report.charts.output import chart_element, check_path, png_bytes, svg_text, write_chart
from melt.report.charts.pareto import ParetoPoint, State, pareto_spec
from melt.report.charts.script import page_script
from melt.report.charts.theme import DARK, LIGHT, Spec
from melt.report.charts.timeline import timeline_spec
from melt.traces import Trace

RATE = Axis(title="Decode", unit="tok/s", better="higher")
LOSS = Axis(title="KL divergence", unit="nats", better="lower")
HOSTILE = ("</script><script>x()</script>", "a'\"&<b>", "\u202eright to left", "x" * 200, "{{datum}}", "\udcff\x1b[2J")
LEVELS: tuple[tuple[str, float, float | None, State], ...] = (
    ("F16", 30.0, 0.0, "front"),
    ("Q8_0", 55.0, 0.0003, "front"),
    ("Q5_0", 54.0, 0.0075, "dominated"),
    ("Q4_K_M", 74.0, 0.018, "recommended"),
    ("Q2_K", 85.0, 0.27, "refused"),
    ("TQ1_0", 80.0, None, "failed"),
)


def levels() -> list[ParetoPoint]:
    return [
        ParetoPoint(label=label, x=x, y=y, state=state, x_interval=(x - 2, x + 2), size_bytes=1e9)
        for label, x, y, state in LEVELS
    ]


def drawn(spec: Spec, mark: str) -> tuple[set[str], int]:
    """Return the texts of a picture, and how many marks of a kind it has."""
    root = ET.fromstring(svg_text(spec))
    texts = {"".join(element.itertext()) for element in root.findall(".//{*}text")}
    groups = [
        g
        for g in root.findall(".//{*}g")
        if f"mark-{mark}" in g.get("class", "").split() and "aria-hidden" not in g.attrib
    ]
    return texts, sum(len(g.findall("{*}path")) for g in groups if "role-mark" in g.get("class", ""))


def nights(n: int) -> Series:
    return Series(
        series_id="a" * 12,
        label="a phone",
        start=make_bundle().start,
        nights=tuple(
            Night(
                sweep_id=f"s{i}",
                plan="nightly",
                began_utc_ns=(1_760_000_000 + 86_400 * i) * 10**9,
                run_ids=(f"r{i}",),
                outcomes={Outcome.OK: 3},
                verdict=None if i == 2 else Verdict.SUSPECT if i == 3 else Verdict.VALID,
                found={"os_build": "old" if i < 5 else "new"},
                values={} if i == 2 else {"decode_tps": (30.0, 31.0, 32.0 + i)},
            )
            for i in range(n)
        ),
    )


def test_pareto_draws_every_level_that_was_measured_and_names_the_others() -> None:
    texts, marks = drawn(pareto_spec(levels(), RATE, LOSS, title="Levels"), "symbol")
    assert marks == 5
    assert {"F16", "Q8_0", "Q5_0", "Q4_K_M", "Q2_K", "not dominated", "does not meet a limit for certain"} <= texts
    assert "Not drawn: TQ1_0 (failed)" in texts
    assert "Decode, tok/s  (higher is better →)" in texts
    assert {"0", "0.001", "0.01", "0.1"} <= texts


def test_pareto_front_passes_over_levels_that_another_beats() -> None:
    points = [*levels(), ParetoPoint(label="beaten", x=50.0, y=0.2, state="front")]
    front = pareto_spec(points, RATE, LOSS, title="Levels")["layer"][0]["data"]["values"]
    assert [row["x"] for row in front] == [30.0, 55.0, 74.0]


@pytest.mark.parametrize("points", [[], levels()[:1], levels()[-1:]])
def test_pareto_of_few_points_is_drawn(points: list[ParetoPoint]) -> None:
    spec = pareto_spec(points, RATE, LOSS, title="Levels")
    texts, n = drawn(spec, "symbol")
    assert "Levels" in texts
    assert any(text.startswith("Nothing to draw") for text in texts) is (n == 0)
    assert png_bytes(spec).startswith(b"\x89PNG"), "a picture without a size can be SVG, but no PNG"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 20.0], "linear"),
        ([0.001, 1.0], "log"),
        ([0.0, 0.001, 1.0], "symlog"),
        ([-1.0, 900.0], "linear"),
        ([], "linear"),
    ],
)
def test_axis_is_logarithmic_where_values_lie_decades_apart(values: list[float], kind: str) -> None:
    scale = fitted(LOSS, values)
    assert scale.kind == kind
    assert all(0.0 < scale.share(value) < 1.0 for value in values)


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0, 400)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_labels_stay_in_the_frame(points: list[tuple[float, float]]) -> None:
    frame = Box(-60, -20, 660, 420)
    for place in placed([Mark(x, y, 6, 50) for x, y in points], frame):
        assert place.box.overlap(frame) == pytest.approx(1.0)


def test_labels_of_a_whole_catalogue_do_not_cover_each_other() -> None:
    # 35 levels along a curve, in pairs that nearly coincide.
    marks = [Mark(20 + 17 * i - 5 * (i % 2), 380 - 10 * i + 3 * (i % 2), 6, 50) for i in range(35)]
    boxes = [place.box for place in placed(marks, Box(0, 0, 640, 400))]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlap(pair[1])]


def test_history_marks_each_night_and_what_changed() -> None:
    change = ChangePoint(
        change_id="c0ffee00",
        series_id="a" * 12,
        metric="decode_tps",
        night=4,
        sweep_id="s4",
        began_utc_ns=0,
        before=40.0,
        after=38.0,
        change=Change.REGRESSED,
        found=Found.SEGMENTS,
    )
    spec = history_spec(nights(8), "decode_tps", [change, replace(change, metric="ttft_s")])
    assert spec is not None
    texts, marks = drawn(spec, "symbol")
    assert marks == 8
    assert {"valid", "suspect", "no believed figure", "▼ −5.0 %", "OS build"} <= texts
    assert history_spec(nights(8), "energy_j") is None


def test_a_timeline_says_from_what_its_time_counts() -> None:
    bundle = make_bundle()
    column = {"collector": "sensors", "name": "cpu0_hz", "quantity": "frequency", "unit": "hz", "site": "cpu0"}
    cpu = Stream(**column, source="made", rate_hz=10.0)
    t_ns = bundle.windows[0].t0_ns + np.arange(30, dtype=np.int64) * 10**8
    sensors = Trace(collector="sensors", t_ns=t_ns, columns={"cpu0_hz": np.full(30, 2e9)}, streams=(cpu,))
    requests = Inference(repetition=0, warmup=False, t0_ns=tuple(t_ns[5:9].tolist()), t1_ns=tuple(t_ns[6:10].tolist()))
    workload = Workload(kind="inference", n_infer=4)
    start = replace(bundle.start, spec=replace(bundle.start.spec, workload=workload))
    window = Window(phase="inference", repetition=0, warmup=False, t0_ns=int(t_ns[5]), t1_ns=int(t_ns[9]))
    single = replace(bundle, start=start, windows=(window,), traces=(sensors, inference_trace((requests,))))
    for run, began in (
        (single, "the first measured request"),
        (replace(single, windows=(), traces=(sensors,)), "the record began"),
    ):
        spec = timeline_spec(run)
        assert spec is not None
        assert spec["vconcat"][-1]["layer"][-1]["encoding"]["x"]["axis"]["title"] == f"seconds since {began}"


def test_the_rate_of_a_run_shorter_than_a_bin_is_a_point_within_it() -> None:
    bundle = make_bundle()
    t_ns = bundle.windows[0].t0_ns + np.arange(4, dtype=np.int64) * 10_000_000
    requests = Inference(repetition=0, warmup=False, t0_ns=tuple(t_ns[:3].tolist()), t1_ns=tuple(t_ns[1:].tolist()))
    start = replace(bundle.start, spec=replace(bundle.start.spec, workload=Workload(kind="inference", n_infer=3)))
    window = Window(phase="inference", repetition=0, warmup=False, t0_ns=int(t_ns[0]), t1_ns=int(t_ns[3]))
    run = replace(bundle, start=start, windows=(window,), traces=(inference_trace((requests,)),))
    spec = timeline_spec(run)
    assert spec is not None
    assert spec["vconcat"][0]["layer"][-1]["data"]["values"] == [{"t": 0.015, "v": 100.0, "s": "inference"}]
    assert drawn(spec, "symbol")[1] == 1


def test_timeline_keeps_a_peak_and_leaves_a_gap_open() -> None:
    bundle = make_bundle()
    t_ns = bundle.windows[0].t0_ns + np.arange(20_000, dtype=np.int64) * 20_000_000
    columns = {f"cpu{i}_hz": np.full(20_000, 2e9) for i in range(4)} | {"zone_c": 40 + np.arange(20_000) / 1e3}
    columns["cpu2_hz"][12_345] = 3e9
    for values in columns.values():
        values[5_000:9_000] = np.nan
    streams = tuple(
        Stream(
            collector="sensors",
            name=name,
            quantity="temperature" if name == "zone_c" else "frequency",
            unit="c" if name == "zone_c" else "hz",
            site=HOSTILE[0] if name == "zone_c" else name[:4],
            source="made",
            rate_hz=50.0,
        )
        for name in columns
    )
    traces = (Trace(collector="sensors", t_ns=t_ns, columns=columns, streams=streams),)
    spec = timeline_spec(replace(bundle, traces=traces), most_points=500)
    assert spec is not None
    assert {"clock, GHz (fastest CPU)", "loading", "decode", "seconds since the measured part began"} <= drawn(
        spec, "line"
    )[0]
    rows = spec["vconcat"][1]["layer"][-1]["data"]["values"]
    assert len(rows) <= 500
    assert max(row["v"] for row in rows if row["v"] is not None) == 3.0
    (gap,) = [row["t"] for row in rows if row["v"] is None]
    before, after = max(r["t"] for r in rows if r["t"] < gap), min(r["t"] for r in rows if r["t"] > gap)
    assert after - before == pytest.approx(80, abs=2)
    assert timeline_spec(replace(bundle, traces=(), windows=())) is None


def test_both_themes_draw_the_same_in_their_own_colours() -> None:
    spec = pareto_spec(levels(), RATE, LOSS, title="Levels")
    light, dark = svg_text(spec, LIGHT), svg_text(spec, DARK)
    assert LIGHT.roles["recommended"] in light
    assert LIGHT.roles["recommended"] not in dark
    assert DARK.roles["recommended"] in dark
    assert light.count("<path") == dark.count("<path")


class Elements(HTMLParser):
    """Counts elements and keeps what scripts hold."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)


def test_hostile_names_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [ParetoPoint(label=n, x=1.0 + i, y=2.0 - i, state="front", details={n: n}) for i, n in enumerate(HOSTILE)]
    spec = pareto_spec(points, RATE, replace(LOSS, title=HOSTILE[0]), title=HOSTILE[0], subtitle=HOSTILE[-1])
    texts, marks = drawn(spec, "symbol")
    assert marks == len(HOSTILE)
    assert not any("\u202e" in text or "\x1b" in text for text in texts)
    read = Elements()
    read.feed(chart_element(spec, name=HOSTILE[0] + HOSTILE[1]))
    assert read.names == ["div", "script"]
    monkeypatch.setattr("melt.report.charts.output.page_script", lambda: "drawn();")
    write_chart(spec, tmp_path / "hostile.html")
    read = Elements()
    read.feed((tmp_path / "hostile.html").read_text(encoding="utf-8"))
    assert (read.names.count("div"), read.names.count("script"), read.names.count("body")) == (1, 2, 1)


def test_suffix_says_how_a_picture_is_written(tmp_path: Path) -> None:
    spec = pareto_spec(levels(), RATE, LOSS, title="Levels", width=300, height=200)
    write_chart(spec, tmp_path / "levels.PNG", theme=DARK)
    assert (tmp_path / "levels.PNG").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    width = int.from_bytes(png_bytes(spec)[16:20])
    root = ET.fromstring(svg_text(spec))
    assert width == pytest.approx(2 * float(root.get("width", "0")), abs=2)
    for name in ("levels.gif", "levels", "nowhere/levels.svg", "."):
        with pytest.raises(UsageError, match=r"choose one of \.svg, \.png, \.html|no folder|is a folder"):
            check_path(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["levels.PNG"]


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="name too long"):
        write_chart(pareto_spec([], RATE, LOSS, title="Levels"), tmp_path / f"{'x' * 300}.svg")


@pytest.mark.slow
def test_page_script_is_kept_and_cannot_end_its_element(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = page_script()
    (kept,) = (tmp_path / "melt" / "charts").iterdir()
    assert "</script" not in script.lower()
    assert DARK.paper in script
    kept.write_text("kept;", encoding="utf-8")
    assert "kept;" in page_script()
