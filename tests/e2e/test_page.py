"""The page in a real browser: it says what the store says, loads nothing, runs nothing but its own, has a keyboard."""

from __future__ import annotations

import json
import math
import re
import shutil

import pytest
from heat_samples import BOOT_NS
from page_samples import HOSTILE, killed, nights, publish
from store_samples import make_bundle

from melt.analysis.columns import info
from melt.cli.main import main
from melt.report.run import title_of
from melt.report.scale import percent
from melt.store.selection import Selection
from melt.store.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
    with playwright.sync_playwright() as driver:
        # A sandbox of its own needs a user of its own, and containers run tests as root.
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


def report(folder, bundles, *flags):
    store, path = folder / "store", folder / "report.html"
    with Store.open(store) as made:
        publish(made, bundles)
    assert main(["report", "--store", str(store), "-o", str(path), *flags]) == 0
    return path


@pytest.fixture(scope="module")
def evening(tmp_path_factory):
    """A page of one sweep: four levels on two devices in two sessions, the last run killed."""
    return report(tmp_path_factory.mktemp("evening"), nights(1))


@pytest.fixture
def opened(browser):
    """Open a page; afterwards nothing may have been complained about, or asked of anybody else."""
    contexts, complaints = [], []

    def open_page(path, theme="light", width=1400):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("request", lambda request: request.url == path.as_uri() or complaints.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def texts(page, selector):
    return [text.strip() for text in page.locator(selector).all_text_contents()]


def test_lines_and_figures_are_those_of_the_store(opened, tmp_path):
    page = opened(report(tmp_path, nights(3, ("pixel",)), "--since", "2020-01-01"))
    with Store.open(tmp_path / "store", create=False) as store:
        lines = store.listing(Selection())

    shown = page.locator("#runs tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td.n')].map(cell => cell.dataset.v))"
    )
    expected = [[None if v is None else str(v) for v in (line.prefill_tps, line.decode_tps)] for line in lines]
    assert [[v and str(float(v)) for v in row] for row in shown] == expected
    assert len(texts(page, "#summary tbody tr")) == 4
    assert f"{len(lines)} runs" in page.locator(".counts").inner_text()
    page.locator("#history").scroll_into_view_if_needed()
    page.locator("#history svg").first.wait_for()
    dates = page.locator("#history svg").first.locator(".role-axis-label").first.text_content()
    assert re.findall(r"[A-Z][a-z]{2} \d\d", dates) == ["Nov 21", "Nov 22", "Nov 23"]


UNITS = {
    **{"ms": 1e-3, "s": 1.0, "µs": 1e-6, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "B": 1.0, "tok/s": 1.0},
    **{"mJ/tok": 1e-3, "J/tok": 1.0, "°C": 1.0, "%": 0.01, "": 1.0, "mJ": 1e-3, "J": 1.0, "W": 1.0, "mW": 1e-3},
    **{"tok/J": 1.0, "GB/s": 1e9},
}
"""How large one of each unit is that the page shows, as stored."""


def says(text, value, unit=None):
    """Whether a number as it is written is a value, to its last digit; its unit is behind it where none is given."""
    number, _, behind = text.replace("−", "-").partition(" ")
    factor = UNITS[behind if unit is None else unit]
    return abs(float(number) * factor - value) <= 0.5001 * factor * 10.0 ** -len(number.partition(".")[2])


def terminal(capsys, *words):
    capsys.readouterr()
    assert main([*words, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def check_summary(page, compared):
    """Hold each line of the summary, opened, against the columns of `melt compare`."""
    columns = [(g, i) for g in compared["groups"] for i in range(len(g["columns"]))]
    titles = [text.split(" ") for text in texts(page, "#summary thead th:has(small)")]
    lines = page.locator("#summary tbody tr[data-i]")
    assert lines.count() == len(columns)
    checked = 0
    for place, (group, index) in enumerate(columns):
        line = lines.nth(place)
        cells = {info(row["metric"]).title: row["cells"][index] for row in group["rows"]}
        shown = line.locator("td.n").evaluate_all(
            "cells => cells.map(cell => [cell.innerText, cell.dataset.v ?? null])"
        )
        for (*words, unit), (text, value) in zip(titles, shown, strict=False):
            cell = next((one for title, one in cells.items() if title.lower() == " ".join(words).lower()), None)
            if cell is None or cell["median"] is None:
                assert text == "-"
                continue
            assert float(value) == cell["median"]
            number, _, spread = text.partition(" ")
            assert says(number, cell["median"], unit)
            half = math.hypot((cell["high"] - cell["low"]) / 2, cell["uncertainty"] or 0)
            assert spread.startswith("±<") or (says(spread[1:], half, unit) if spread else half == 0)
            checked += 1
        line.press("Enter")
        detail = page.locator("#summary tr.detail").nth(place)
        detail.locator("section").first.wait_for()
        rows = detail.locator("section:has(> h3:text-is('Figures')) tbody tr")
        for name, median, spread, difference, _ in rows.evaluate_all(
            "rows => rows.map(r => [...r.cells].map(c => c.innerText))"
        ):
            assert says(median, cells[name]["median"])
            if spread:
                assert all(map(says, spread.split(" to "), (cells[name]["low"], cells[name]["high"])))
            told = cells[name]["difference"]
            assert difference == ("" if told is None else percent(told))
            checked += 1
    return checked


def check_runs(page, show):
    """Hold each run of the list, opened, against `melt show`."""
    checked = 0
    for line in page.locator("#runs tbody tr[data-i]").all():
        line.press("Enter")
        detail = page.locator(f"#{line.get_attribute('id')}-detail")
        detail.locator("dl").first.wait_for()
        run_id = page.locator(f"a[href='#{line.get_attribute('id')}']").first.text_content()
        stored = {title_of(m["name"]): m for m in show(run_id)["metrics"] if m["repetition"] is None}
        rows = detail.locator("section:has(> h3:text-is('Figures')) tbody tr")
        found = rows.evaluate_all("rows => rows.map(r => [...r.cells].map(c => c.innerText))")
        assert [name for name, *_ in found] == [title for title, m in stored.items() if m["value"] is not None]
        for name, text, source, _ in found:
            number, _, off = text.partition(" ± ")
            assert says(number, stored[name]["value"]), (name, text)
            assert not off or says(off, stored[name]["uncertainty"], number.partition(" ")[2])
            assert source == stored[name]["source"]
            checked += 1
    return checked


def test_every_figure_is_what_the_terminal_says(opened, tmp_path, capsys):
    page = opened(report(tmp_path, nights(1, ("pixel",), traces=0)))
    store = ("--store", str(tmp_path / "store"))
    assert check_summary(page, terminal(capsys, "compare", "--sweep", "last", *store)) == 48
    assert check_runs(page, lambda run_id: terminal(capsys, "show", run_id, *store)) == 35


def test_the_keyboard_finds_sorts_opens_and_closes(opened, evening):
    page = opened(evening)
    page.keyboard.press("/")
    page.keyboard.type("orin oom")
    assert texts(page, "#runs tbody tr:visible >> td.level") == ["q2_k"]
    assert "1 of 16 runs" in page.locator("#found").inner_text()

    page.keyboard.press("Escape")
    assert page.locator("#runs tbody tr:visible").count() == 16
    button = page.locator("#runs thead button", has_text="Decode")
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("#runs th", has_text="Decode").get_attribute("aria-sort") == "descending"
    rates = [float(text) for text in texts(page, "#runs tbody tr >> td.n:nth-of-type(4)") if text != "-"]
    assert rates == sorted(rates, reverse=True)
    assert "oom" in texts(page, "#runs tbody tr")[-1]

    first = page.locator("#runs tbody tr[data-i]").first
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    second = page.locator("#runs tbody tr[data-i]").nth(1)
    assert second.get_attribute("aria-expanded") == "true"
    page.locator(".inside dl").wait_for()
    page.keyboard.press("Escape")
    assert second.get_attribute("aria-expanded") == "false"
    assert page.locator("tr.detail:visible").count() == 0


def test_a_timeline_is_drawn_when_opened_and_zooms(opened, evening):
    page = opened(evening)
    assert page.locator("#runs svg").count() == 0
    page.locator("#runs tbody tr[data-i]", has_text="valid").first.click()
    page.locator("#runs .inside svg").wait_for()
    panels = " ".join(texts(page, "#runs .inside svg text"))
    for panel in ("decode rate, tok/s", "power", "temperature, °C", "clock, GHz", "memory", "prefill"):
        assert panel in panels

    span = "() => ['t0', 't1'].map(n => document.querySelector('#runs .inside .place').meltView.signal(n))"
    before = page.evaluate(span)
    page.get_by_role("button", name="Zoom in").click()
    after = page.evaluate(span)
    assert after[1] - after[0] == pytest.approx((before[1] - before[0]) / 2, rel=1e-3)
    page.get_by_role("button", name="Show the whole run").click()
    assert page.evaluate(span) == pytest.approx(before)


def test_a_timeline_tells_all_of_its_lines_at_the_pointer_and_by_keys(opened, evening):
    page = opened(evening)
    page.locator("#runs tbody tr[data-i]", has_text="valid").first.press("Enter")
    page.locator("#runs .inside svg").wait_for()
    chart = page.locator("#runs .inside .chart")
    chart.scroll_into_view_if_needed()
    field = page.locator("#runs .inside .mark-group.role-scope .background").first.bounding_box()
    t0, t1 = page.evaluate(
        "() => ['t0', 't1'].map(n => document.querySelector('#runs .inside .place').meltView.signal(n))"
    )
    page.mouse.move(field["x"] + 0.6 * field["width"], field["y"] + 5)
    at_s = float(page.locator(".readout .moment").inner_text().split(" s")[0])
    assert at_s == pytest.approx(t0 + 0.6 * (t1 - t0), abs=0.02)
    told = dict(text.split("\n") for text in page.locator(".values li").all_inner_texts())
    assert list(told) == [
        *("decode rate, tok/s", "power (battery), W", "temperature, °C: soc-5", "temperature, °C: soc-1"),
        *("clock, GHz (fastest CPU)", "memory, GiB (memory_3)"),
    ]
    with Store.open(evening.parent / "store", create=False) as store:
        shown = page.locator("#runs tr[aria-expanded='true']").get_attribute("id").removeprefix("run-")
        run_id = page.locator(f"a[href='#run-{shown}']").first.text_content()
        trace = store.trace(run_id, "sensors")
    # The samples are 0.1 s apart; time counts from the first measured token, 0.4 s after the prefill began.
    column = trace.columns["battery_2_w"]
    nearest = abs(trace.t_ns - BOOT_NS - (at_s + 0.4) * 1e9).argmin()
    assert float(told["power (battery), W"]) in [round(float(v), 3) for v in column[nearest - 1 : nearest + 2]]
    cross = page.locator("#runs .cross").bounding_box()
    assert cross["x"] == pytest.approx(field["x"] + 0.6 * field["width"], abs=1.5)
    last = page.locator("#runs .inside svg text", has_text="memory").bounding_box()
    assert cross["y"] + cross["height"] > last["y"] + 70, "through the panel below its heading"

    page.keyboard.press("Tab")
    page.locator(".readout input").focus()
    page.keyboard.press("ArrowRight")
    moved_s = float(page.locator(".readout .moment").inner_text().split(" s")[0])
    assert moved_s == pytest.approx(at_s + (t1 - t0) / 200, abs=0.02)
    page.keyboard.press("Home")
    assert page.locator(".readout input").get_attribute("aria-valuetext").startswith(f"{t0:.2f} s")
    assert page.locator(".values b").first.inner_text() == "-"


def test_the_switch_changes_the_theme_of_page_and_charts(opened, evening):
    paper = "() => getComputedStyle(document.body).backgroundColor"
    dark = opened(evening, theme="dark")
    assert dark.evaluate(paper) == "rgb(20, 23, 28)"
    dark.emulate_media(media="print", color_scheme="dark")
    assert dark.evaluate(paper) == "rgb(255, 255, 255)", "paper is white"
    page = opened(evening)
    page.locator("#fronts").scroll_into_view_if_needed()
    page.locator("#fronts svg").first.wait_for()
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.get_by_role("button", name="Change to the dark theme").click()
    assert page.evaluate(paper) == "rgb(20, 23, 28)"
    page.wait_for_function("() => document.querySelector('#fronts svg').outerHTML.includes('#e8eaed')")


def test_what_a_failed_run_left_can_be_read(opened, tmp_path):
    page = opened(report(tmp_path, [killed(make_bundle("f0").start)]))
    text = page.locator("#doubts").inner_text()
    assert "SIGKILL" in text
    assert "the kernel killed for want of memory" in text
    page.locator("#doubts summary", has_text="stderr").click()
    assert "failed to allocate <4096 MiB> & gave up" in page.locator("#doubts pre").inner_text()
    assert page.locator("#runs .badge").inner_text().endswith("oom")


def test_names_are_text_wherever_they_stand(opened, tmp_path):
    bundles = [
        make_bundle(f"h{i}{n}", position=2 * i + n, device=name, model=name, quant=quant, decode_tps=30.0 + n)
        for i, name in enumerate(HOSTILE)
        for n, quant in enumerate(("q8_0", name[:60]))
    ]
    page = opened(report(tmp_path, bundles), width=400)
    for place in range(len(bundles)):
        page.locator("#runs tbody tr[data-i]").nth(place).press("Enter")
    page.locator("#fronts").scroll_into_view_if_needed()
    page.locator("#fronts svg").first.wait_for()
    page.wait_for_function("n => document.querySelectorAll('#runs .inside dl').length === n", arg=len(bundles))
    assert page.evaluate("window.hostile") is None
    assert page.locator("main img, main script").count() == 0
    shown = set(texts(page, "#runs tr[data-i] > td:nth-of-type(1) bdi"))
    assert {re.sub(r"\s+", " ", name).strip() for name in HOSTILE} == {re.sub(r"\s+", " ", n) for n in shown}
    # Nothing is wider than the screen but what scrolls by itself.
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_an_empty_store_makes_a_page_that_says_so(opened, tmp_path):
    page = opened(report(tmp_path, []))
    assert "no run to report" in page.locator("#runs").inner_text()
    assert page.locator("table").count() == 0
