"""`melt import`: what other programs measured becomes runs, whole or not at all, once, and never beside melt's own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_samples import make_bundle

from melt.analysis.alike import IncomparableError, check_alike, grouped
from melt.analysis.import_formats import READERS, read_entries
from melt.analysis.import_json import NotImportableError
from melt.analysis.imported import Source, bundles_of
from melt.analysis.pairs import ALLOWABLE
from melt.cli.main import main
from melt.codec import dumps, loads
from melt.records import Outcome, RunStart, RunStop, Verdict
from melt.store.store import Store
from melt.traces import RunBundle

DATA = Path(__file__).parents[1] / "data"
BENCH = DATA / "llama_bench"
IMPORTS = DATA / "imports"
MLPERF, OPTIMUM = (IMPORTS / f"{name}.json" for name in ("mlperf-mobile", "optimum-benchmark"))

Melt = Callable[..., tuple[str, str]]


@pytest.fixture
def melt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Melt:
    def run(*words: str | Path, status: int = 0) -> tuple[str, str]:
        found = main([*map(str, words), "--store", str(tmp_path / "store")])
        said = capsys.readouterr()
        assert found == status, said.err
        return said.out, said.err

    return run


def bundles(tmp_path: Path) -> dict[str, RunBundle]:
    with Store.open(tmp_path / "store", create=False) as store:
        return {f"{b.start.spec.model} {b.start.spec.workload.name}": b for b in store.bundles()}


def values(bundle: RunBundle, name: str) -> list[float | None]:
    return [m.value for m in bundle.metrics if m.name == name]


def test_llama_bench_json(melt: Melt, tmp_path: Path) -> None:
    out, err = melt("import", BENCH / "2026-pinned.json", "--device", "bench box", "--tag", "old")
    tests = json.loads((BENCH / "2026-pinned.json").read_text())
    assert len(out.split()) == len(tests)
    assert err == f"melt: {BENCH / '2026-pinned.json'}: {len(tests)} of llama-bench imported\n"
    found = bundles(tmp_path)
    decode = found["model tg8"]
    told = next(t for t in tests if (t["n_gen"], t["n_prompt"], t["n_depth"]) == (8, 0, 0))
    assert values(decode, "decode_tps") == [sorted(told["samples_ts"])[1], *told["samples_ts"]]
    assert values(decode, "prefill_tps") == []
    start, stop = decode.start, decode.stop
    assert (stop.outcome, stop.verdict, [r.code for r in stop.reasons]) == (Outcome.OK, Verdict.SUSPECT, ["imported"])
    assert start.imported is not None
    assert (start.imported.tool, start.imported.file) == ("llama-bench", "2026-pinned.json")
    text = (BENCH / "2026-pinned.json").read_text().splitlines()
    assert text[(start.imported.line or 0) - 1].strip() == "{"
    assert (start.device.name, start.device.soc) == ("bench box", told["cpu_info"])
    assert (start.artifact.size_bytes, start.artifact.weight_bytes) == (None, told["model_size"])
    assert (stop.used["threads"], stop.used["backend"]) == (1, "CPU")
    assert start.started_utc_ns % 10**9 == 0
    with Store.open(tmp_path / "store") as store:
        assert json.loads(store.attachment(start.spec.run_id, "imported.json")) == told
    assert melt("runs", "--tag", "old", "-o", "csv")[0].count("\n") == 1 + len(tests)
    assert "imported from" not in melt("show", start.spec.run_id)[0]


@pytest.mark.parametrize("form", ["csv", "sql"])
def test_llama_bench_without_samples(melt: Melt, tmp_path: Path, form: str) -> None:
    melt("import", BENCH / f"2026-pinned.{form}")
    found = bundles(tmp_path)
    assert set(found) == {"tiny-pydoc pp32", "tiny-pydoc tg8"}
    (decode,) = (m for m in found["tiny-pydoc tg8"].metrics if m.name == "decode_tps")
    assert decode.repetition is None
    assert "the mean of all repetitions" in str(decode.note)
    assert decode.value is not None
    assert str(decode.value) in (BENCH / f"2026-pinned.{form}").read_text()
    assert decode.figures.keys() == {"stddev"}
    start = found["tiny-pydoc tg8"].start
    assert (start.spec.quant, start.artifact.n_params, start.spec.settings.threads) == ("f16", 3410176, 1)


def test_every_year_of_llama_bench(melt: Melt) -> None:
    melt("import", *sorted(BENCH.glob("20*.json"))[:3], BENCH / "2026-pinned.jsonl")


def test_mlperf_mobile(melt: Melt, tmp_path: Path) -> None:
    melt("import", MLPERF)
    found = bundles(tmp_path)
    tokens = found["llm-1b_q8 llm-1b SingleStream"]
    assert {m.name: (m.value, m.unit) for m in tokens.metrics} == {
        "e2e_s": (1.92, "s"),
        "ttft_s": (0.31, "s"),
        "output_tps": (41.5, "tok/s"),
        "accuracy": (0.415, "ratio"),
    }
    assert (tokens.start.device.name, tokens.start.device.soc) == ("Acme One", "CH8750")
    assert (tokens.start.device.os, tokens.start.device.os_build) == ("android", "16")
    assert tokens.stop.verdict is Verdict.SUSPECT
    images = found["image_classification_v2_q8 image_classification_v2 SingleStream"]
    assert {m.name for m in images.metrics} == {"query_s", "samples_per_s", "accuracy"}
    assert images.stop.verdict is Verdict.INVALID
    assert images.start.imported is not None
    assert images.start.imported.tool_version == "5.1.0"


def test_optimum_benchmark(melt: Melt, tmp_path: Path) -> None:
    melt("import", OPTIMUM)
    run = bundles(tmp_path)["org/tiny-llama pp128+tg64"]
    assert values(run, "ttft_s") == [0.375, 0.25, 0.5, 0.375]
    assert values(run, "prefill_tps")[1:] == [512.0, 256.0, 128 / 0.375]
    assert values(run, "decode_tps") == [63.0] * 4
    assert values(run, "e2e_s")[0] == 1.375
    assert values(run, "load_s") == [2.5]
    assert values(run, "peak_rss_bytes") == [1200.25e6]
    assert not any(m.unit in ("w", "j", "j/tok") for m in run.metrics)
    assert (run.start.spec.quant, run.start.spec.settings.threads) == ("bfloat16", 4)
    report = tmp_path / "benchmark_report.json"
    report.write_text(json.dumps(json.loads(OPTIMUM.read_text())["report"]))
    melt("import", report)
    assert values(bundles(tmp_path)["unknown "], "ttft_s")[0] == 0.375


def test_a_submission_to_mlperf_mobile(melt: Melt, tmp_path: Path) -> None:
    melt("import", IMPORTS / "mlperf-mobile-v5.0.json")
    found = bundles(tmp_path)
    images = found["mobilenet_v4_htp image_classification_v2 SingleStream"]
    assert {m.name: (m.value, m.note) for m in images.metrics} == {
        "query_s": (0.000756143, "the mean of 79283 queries"),
        "samples_per_s": (1277.104956316625, None),
        "accuracy": (0.8213800191879272, None),
    }
    start = images.start
    assert (start.device.name, start.device.soc) == ("OnePlus PJZ110", "SM8750")
    assert (start.artifact.format, start.artifact.path) == ("dlc", "local:///mlperf_models/mobilenet_v4_htp.dlc")
    assert (start.spec.engine, start.spec.settings.threads) == ("snpe", 4)
    offline = found["mobilenet_v4_htp_batched_4 image_classification_offline_v2 Offline"]
    assert [(m.value, m.note) for m in offline.metrics if m.name == "query_s"] == [
        (12.331497965, "the mean of one query")
    ]
    (quality,) = (m for m in found["snusr_htp super_resolution SingleStream"].metrics if m.name == "accuracy")
    assert quality.note == "shown as 33.39 dB"
    # Six files are a model: none of them alone names it.
    assert "stable_diffusion stable_diffusion SingleStream" in found


def test_captured_results_of_optimum_benchmark(melt: Melt, tmp_path: Path) -> None:
    melt("import", IMPORTS / "optimum-bert.json", IMPORTS / "optimum-llama-awq.json")
    found = bundles(tmp_path)
    bert = found["BAAI/bge-base-en-v1.5 64 x pp128"]
    assert values(bert, "query_s")[1:3] == [11.477741526905447, 11.554612639942206]
    # Its own mean over the ten is 5.649.
    assert values(bert, "samples_per_s")[0] == pytest.approx(5.65, abs=0.02)
    assert bert.start.device.name == "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz"
    awq = found["hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4 pp64+tg64"]
    assert values(awq, "decode_tps")[1] == pytest.approx(63 / 1.457540771484375)
    assert (awq.start.spec.quant, values(awq, "peak_rss_bytes")) == ("awq-4bit", [5534.732288e6])
    assert awq.start.device.name == "NVIDIA A100-SXM4-80GB"


def test_the_gpu_that_was_asked_for_is_the_device(melt: Melt, tmp_path: Path) -> None:
    whole = json.loads((IMPORTS / "optimum-llama-awq.json").read_text())
    whole["config"]["backend"]["device_ids"] = "3"
    other = tmp_path / "benchmark.json"
    other.write_text(json.dumps(whole))
    melt("import", other)
    (run,) = bundles(tmp_path).values()
    assert run.start.device.name == "NVIDIA DGX Display"


def test_a_run_shows_no_setting_that_nobody_told(melt: Melt) -> None:
    out, _ = melt("import", MLPERF)
    told, _ = melt("show", out.split()[0])
    assert "threads=4; others not told, or at melt's defaults" in " ".join(told.split())
    assert "page_cache" not in told
    assert "warm up" not in told


def test_twice_changes_nothing(melt: Melt, tmp_path: Path) -> None:
    files = (BENCH / "2026-pinned.jsonl", MLPERF, OPTIMUM)
    melt("import", *files)
    copied = tmp_path / "elsewhere.jsonl"
    copied.write_text("\n" + (BENCH / "2026-pinned.jsonl").read_text() * 2)
    before = melt("runs", "-o", "json")[0]
    out, err = melt("import", *files, copied)
    assert out == ""
    assert "0 of mlperf-mobile imported, 2 known already" in err
    assert melt("runs", "-o", "json")[0] == before


def test_each_process_of_a_cell_is_a_session(tmp_path: Path) -> None:
    line = json.loads((BENCH / "2026-pinned.jsonl").read_text().splitlines()[0])
    nights = [json.dumps({**line, "test_time": f"2026-11-0{day}T02:00:00Z"}) for day in (1, 2, 3)]
    tool, entries = read_entries("\n".join(nights), "nights.jsonl")
    found = bundles_of(entries, Source(tool=tool, file="nights.jsonl", sha256="0" * 64, written_utc_ns=0))
    assert [b.start.spec.block for b in found] == [0, 1, 2]
    assert len({b.start.device.device_id for b in found}) == 1


def test_never_beside_what_melt_measured(melt: Melt, tmp_path: Path) -> None:
    melt("import", BENCH / "2026-pinned.jsonl", "--device", "local")
    with Store.open(tmp_path / "store") as store:
        imported = store.bundles()[0].start
        store.publish(make_bundle("own"))
    assert melt("runs", "--only-valid", "-o", "csv")[0].count("\n") == 2
    theirs = bundles(tmp_path)[f"{imported.spec.model} pp32"]
    ours = replace(theirs, start=replace(imported, imported=None))
    for pair in ([theirs, ours], [ours, theirs]):
        with pytest.raises(
            IncomparableError, match=r"the provenance is '(measured by melt|imported from llama-bench)'"
        ):
            check_alike(grouped(pair, "device"), "device")
    check_alike(grouped([theirs, theirs], "device"), "device")
    assert "provenance" not in ALLOWABLE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ":1: the file is empty"),
        ("hello\nworld", ":1: not known as results of llama-bench, mlperf-mobile, optimum-benchmark; --format says"),
        ('[\n{"n_prompt": 1, "n_gen": 0},\n{"n_prompt": ', ":3: not JSON, or cut short"),
        ('[{"n_prompt": 1, "n_gen": 0}', ":1: the JSON array is cut short"),
        ('{"n_prompt": 8, "n_gen": 0}\n{"n_prompt": 0, "n_gen": 0}', ":2: no result of llama-bench"),
        ('{"n_prompt": 8, "n_gen": 0}\n7', ":2: a JSON object was expected, here is 7"),
        ("n_prompt,n_gen\n1,0\n1\n", ":3: this row has not as many fields"),
        ("INSERT INTO t (n_prompt, n_gen) VALUES ('1');", ":1: no row as `llama-bench -o sql` prints it"),
        ("log: n_prompt\n{n_gen}", ":1: other lines stand before the results"),
        ('{"results": [], "meta": {}}', ":1: mlperf-mobile has left no result here"),
        ("[" * 100_000, ":1: not JSON"),
        ("n_prompt,n_gen\n1," + "[" * 100_000, ":2: no result of llama-bench"),
        ('{"n_prompt": ' + "9" * 5000 + ', "n_gen": 0}', ":1: not JSON that anybody wrote: a number has thousands"),
    ],
)
def test_a_bad_file_leaves_nothing(melt: Melt, tmp_path: Path, content: str, said: str) -> None:
    bad = tmp_path / "bad"
    bad.write_text(content)
    err = melt("import", BENCH / "2026-pinned.json", bad, status=2)[1]
    assert f"{bad}{said}" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_files_that_cannot_be_read(melt: Melt, tmp_path: Path) -> None:
    assert "No such file" in melt("import", tmp_path / "none", status=2)[1]
    (tmp_path / "binary").write_bytes(b"a\nb\xff\xfe")
    assert "binary:2: not a text in UTF-8" in melt("import", tmp_path / "binary", status=2)[1]


SAMPLES = [
    path.read_text()
    for path in (BENCH / "2026-pinned.json", BENCH / "2026-pinned.csv", *sorted(IMPORTS.glob("*.json")))
]
ODD = st.sampled_from([None, [], {}, "x", -1, 0, 1e400, float("nan"), True, [None], {"value": []}, 2**70, ""]).map(
    copy.deepcopy
)


@settings(max_examples=3 * settings.default.max_examples // 5, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_odd_fields_are_unknown_or_one_sentence(data: st.DataObject) -> None:
    whole = json.loads(data.draw(st.sampled_from([SAMPLES[0], *SAMPLES[2:]])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = whole
        while isinstance(at, (dict, list)) and at:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not isinstance(at[key], (dict, list)) or data.draw(st.booleans()):
                if isinstance(at, dict) and data.draw(st.booleans()):
                    del at[key]
                else:
                    at[key] = data.draw(ODD)
                break
            at = at[key]
    check(json.dumps(whole))


@settings(max_examples=2 * settings.default.max_examples // 5)
@given(st.sampled_from(SAMPLES), st.integers(0, 5000), st.integers(0, 20), st.text(max_size=4))
def test_damaged_texts_are_one_sentence(text: str, at: int, cut: int, put: str) -> None:
    check(text[:at] + put + text[at + cut :])


def check(text: str) -> None:
    for tool in (None, *READERS):
        try:
            name, entries = read_entries(text, "f", tool)
            found = bundles_of(entries, Source(tool=name, file="f", sha256="0" * 64, written_utc_ns=0))
        except NotImportableError as error:
            said = str(error)
        else:
            said = "f:"
            for bundle in found:
                assert bundle.stop.verdict is not Verdict.VALID
                assert loads(RunStart, dumps(bundle.start)) == bundle.start
                assert loads(RunStop, dumps(bundle.stop)).verdict is bundle.stop.verdict
        assert said.startswith("f:")
