"""What is compared by columns is what the documents say: two readings of the same store, one answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from store_samples import make_bundle

from melt.analysis.compare import compare
from melt.analysis.history import histories
from melt.records import Apart, Metric, Outcome, Reason, Session, Verdict
from melt.report.comparison import render
from melt.store.selection import Selection
from melt.store.setups import fill
from melt.store.store import Store
from melt.store.upkeep import verify
from melt.traces import RunBundle

DOUBT = Reason(code="order_effect", message="rates fell by 9.0 %", figures={"change": -0.09})
QUANTS = ("q8_0", "q4_0")


def _metric(name: str, value: float | None, unit: str, **more: object) -> Metric:
    return Metric(**{"name": name, "value": value, "unit": unit, "repetition": None, "source": "runner"} | more)


def _varied(number: int, chance: random.Random) -> RunBundle:
    """A run as unlike the others as runs that are compared may be: its end, its session, what it measured."""
    block, quant = number // len(QUANTS), QUANTS[number % len(QUANTS)]
    made = make_bundle(f"r{number:03d}", sweep_id=f"s{block // 5}", block=block, position=number, quant=quant)
    start, stop = made.start, made.stop
    if number % 11 == 3:
        stop = replace(stop, outcome=Outcome.OOM, verdict=Verdict.INVALID, reasons=(DOUBT,))
    elif number % 7 == 2:
        stop = replace(stop, verdict=chance.choice(tuple(Verdict)), reasons=(replace(DOUBT, code="throttled"),))
    if block % 3:
        session = Session(
            uid=f"u{block}",
            sweep_id=start.spec.sweep_id,
            device_id=start.device.device_id,
            block=block,
            number=block,
            apart=tuple(Apart)[block % len(Apart)],
            began_utc_ns=start.started_utc_ns,
        )
        start = replace(start, session=session, device=replace(start.device, boot_id=f"b{block}"))
    if number % 13 == 5:
        start = replace(start, spec=replace(start.spec, reference=True))
    power = chance.gauss(5, 0.1) if number % 4 else None
    metrics = (
        _metric("decode_tps", chance.gauss(20, 1), "tok/s"),
        _metric("ttft_s", chance.gauss(0.5, 0.01) if number % 5 else None, "s", note="no token came"),
        _metric("power_mean_w", power, "w", source="rail", note="VDD_IN", uncertainty=power and 0.02 * power),
        _metric("temperature_max_c", None, "c", note=f"no sensor on boot {number % 3}" if number > 9 else None),
        _metric("steady_tps", chance.gauss(18, 1), "tok/s", uncertainty=0.3 if number % 2 else None),
    )
    device = replace(start.device, memory_available_bytes=number)
    return replace(made, start=replace(start, device=device), stop=stop, metrics=metrics)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    chance = random.Random(8)
    with Store.open(tmp_path_factory.mktemp("columns")) as opened:
        for number in range(48):
            opened.publish(replace(_varied(number, chance), traces=()))
        opened.review("order_effect", ["r020", "r021"], {"r020": DOUBT, "r021": DOUBT})
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("by", ["quant", "sweep", "device", "workload"])
def test_a_comparison_is_the_same(store: Store, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melt.store.columns._BATCH", 5)
    for chosen in (Selection(), Selection(sweep="s1"), Selection(limit=17), Selection(only_valid=True)):
        runs, figures = store.briefs(chosen)
        told, whole = compare(runs, by, figures=figures), compare(store.bundles(chosen), by)
        for form in ("json", "table", "csv"):
            assert render(told, form) == render(whole, form)


def test_a_history_is_the_same(store: Store) -> None:
    for chosen in (Selection(), Selection(limit=10)):
        told, whole = histories(*store.briefs(chosen)), histories(store.each_bundle(chosen))
        assert [(one.series_id, one.label, one.nights) for one in told] == [
            (one.series_id, one.label, one.nights) for one in whole
        ]


def test_runs_that_differ_in_themselves_alone_share_a_setup(store: Store) -> None:
    with store.database.read() as connection:
        counted = connection.exec_driver_sql("SELECT count(DISTINCT setup_sha256), count(*) FROM runs").one()
        boots = connection.exec_driver_sql("SELECT count(*) FROM setups").scalar_one()
    # Two levels, each with and without being the reference, and by boot where runs know no session.
    assert tuple(counted) == (boots, 48)
    assert boots <= 8


def test_setups_are_worked_out_again(store: Store) -> None:
    with store.database.read() as connection:
        before = connection.exec_driver_sql("SELECT run_id, setup_sha256 FROM runs ORDER BY run_id").all()
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET setup_sha256 = NULL")
        connection.exec_driver_sql("DELETE FROM setups")
        fill(connection)
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT run_id, setup_sha256 FROM runs ORDER BY run_id").all() == before
    assert list(verify(store)) == []


def test_verify_holds_setups_to_documents(store: Store) -> None:
    with store.database.write() as connection:
        one, other = connection.exec_driver_sql("SELECT setup_sha256 FROM setups LIMIT 2").scalars().all()
        connection.exec_driver_sql("UPDATE runs SET setup_sha256 = ? WHERE setup_sha256 = ?", (other, one))
    assert {finding.what for finding in verify(store)} == {"its documents and its columns say different things"}
