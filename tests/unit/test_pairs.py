"""Which runs of two selections are judged against each other, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compare_samples import bundles
from store_samples import make_bundle

from melt.analysis.ab import Change
from melt.analysis.alike import FIELDS, IncomparableError
from melt.analysis.pairs import compare_ab
from melt.errors import UsageError
from melt.records import Cpu, Imported, Metric, Outcome, Verdict

RATES = [30, 30.1, 29.9, 30.2, 29.8, 30]


def two(a=RATES, b=RATES, **how):
    """Runs of A and of B, six sessions each, in different sweeps."""
    return tuple(
        [replace(run, start=replace(run.start, spec=replace(run.start.spec, sweep_id=sweep, run_id=f"{sweep}-{i}")))
         for i, run in enumerate(bundles({"q8_0": rates}, **how))]
        for sweep, rates in (("a", a), ("b", b))
    )  # fmt: skip


def of(comparison, metric="decode_tps"):
    (found,) = (d for d in comparison.cells[0].differences if d.metric == metric)
    return found


def with_device(run, **facts):
    return replace(run, start=replace(run.start, device=replace(run.start.device, **facts)))


def with_artifact(run, **facts):
    return replace(run, start=replace(run.start, artifact=replace(run.start.artifact, **facts)))


def with_used(run, **used):
    return replace(run, stop=replace(run.stop, used={**run.stop.used, **used}))


LLAMA_BENCH = Imported(tool="llama-bench", tool_version=None, file="old.json", sha256="c" * 64, entry=0)

ALTERED = {
    "os_build": lambda run: with_device(run, os_build="Debian 13"),
    "kernel": lambda run: with_device(run, kernel="6.12"),
    "governor": lambda run: with_device(run, cpus=(Cpu(index=0, governor="powersave"),)),
    "power_mode": lambda run: with_device(run, power_mode="MAXN"),
    "clocks": lambda run: with_device(run, clocks_locked=True),
    "engine_revision": lambda run: with_used(run, engine_revision="b1"),
    "backend": lambda run: with_used(run, backend="CUDA"),
    "architecture": lambda run: with_artifact(run, architecture="gemma"),
    "origin": lambda run: with_artifact(run, origin_sha256="b" * 64),
    "model_file": lambda run: with_artifact(run, sha256="f" * 64),
}
KNOWN = {
    "governor": lambda run: with_device(run, cpus=(Cpu(index=0, governor="performance"),)),
    "power_mode": lambda run: with_device(run, power_mode="15W"),
    "clocks": lambda run: with_device(run, clocks_locked=False),
    "origin": lambda run: with_artifact(run, origin_sha256="a" * 64),
}


def test_every_field_that_must_agree_is_tried_here():
    assert {*ALTERED, "provenance"} == set(FIELDS)


@pytest.mark.parametrize("field", ALTERED)
def test_unlike_things_are_refused_by_name_and_compared_when_allowed(field):
    a, b = two()
    a = [KNOWN.get(field, lambda run: run)(run) for run in a]
    b = [ALTERED[field](KNOWN.get(field, lambda run: run)(run)) for run in b]
    with pytest.raises(
        IncomparableError, match=rf"the {FIELDS[field].split(' (')[0]}.*--allow-differing {field}$"
    ) as no:
        compare_ab(a, b)
    assert no.value.exit_code == 2
    with pytest.raises(IncomparableError):
        compare_ab(a, b, allowed=set(ALTERED) - {field})
    comparison = compare_ab(a, b, allowed=[field])
    assert of(comparison).change is Change.UNCHANGED
    (note,) = (note for note in comparison.notes if note.startswith("Allowed to differ"))
    assert FIELDS[field] in note


def test_imported_runs_never_stand_beside_measured_ones():
    a, b = two()
    b = [replace(run, start=replace(run.start, imported=LLAMA_BENCH)) for run in b]
    with pytest.raises(
        IncomparableError, match=r"the provenance is .* 'imported from llama-bench' .*narrow them down$"
    ):
        compare_ab(a, b, allowed=ALTERED)


def test_what_is_compared_may_differ_by_itself_but_not_within_a_side():
    a, b = two()
    b = [ALTERED["os_build"](ALTERED["kernel"](run)) for run in b]
    assert compare_ab(a, b, free=["os_build"]).change is Change.UNCHANGED
    mixed = [*b[:3], *(with_device(run, os_build="Debian 14") for run in b[3:])]
    with pytest.raises(IncomparableError, match="OS build"):
        compare_ab(a, mixed, free=["os_build"])


def test_a_regression_is_found_in_its_cell_alone():
    a, b = two(b=[rate * 0.9 for rate in RATES])
    more_a, more_b = two(n_prompt=0)
    comparison = compare_ab([*a, *more_a], [*b, *more_b], labels=("old", "new"))
    assert [(cell.label, cell.change) for cell in comparison.cells] == [
        ("pp512+tg128", Change.REGRESSED),
        ("tg128", Change.UNCHANGED),
    ]
    assert comparison.change is Change.REGRESSED
    assert (of(comparison).n_a, of(comparison).n_b) == (6, 6)
    assert of(comparison, "file_bytes").change is None


def test_quants_are_compared_when_chosen_and_otherwise_have_nothing_in_common():
    a, _ = two()
    b = bundles({"q4_0": [40, 40.1, 39.9, 40.2, 39.8, 40]})
    with pytest.raises(IncomparableError, match="the quant is 'q8_0' in A and 'q4_0' in B; --allow-differing quant"):
        compare_ab(a, b)
    assert compare_ab(a, b, free=["quant"]).change is Change.IMPROVED
    with pytest.raises(IncomparableError, match=r"one side has two kinds of quant, q4_0 .* and f16"):
        compare_ab(a, [*b, make_bundle("x", quant="f16", position=20)], allowed=["quant"])


def test_two_devices_of_one_name_are_told_apart_by_their_ids():
    a, b = two()
    with pytest.raises(IncomparableError, match=r"'local \(id-local\)' in A and 'local \(another\)' in B"):
        compare_ab(a, [with_device(run, device_id="another") for run in b])


def test_what_only_one_side_has_is_told():
    a, b = two()
    lone = bundles({"f16": [10]})
    comparison = compare_ab([*a, *lone], b)
    assert len(comparison.cells) == 1
    assert "Only in A: pp512+tg128." in comparison.notes


def test_what_ran_before_and_runs_no_more_has_regressed():
    a, b = two()
    failed = [replace(run, stop=replace(run.stop, outcome=Outcome.OOM)) for run in b]
    comparison = compare_ab(a, failed)
    assert (comparison.change, comparison.cells[0].why) == (Change.REGRESSED, "no session of B has figures: oom")
    lost = [replace(run, stop=replace(run.stop, outcome=Outcome.DEVICE_LOST)) for run in b]
    assert compare_ab(a, lost).change is Change.INCONCLUSIVE
    invalid = [replace(run, stop=replace(run.stop, verdict=Verdict.INVALID)) for run in b]
    assert compare_ab(a, invalid).change is Change.INCONCLUSIVE
    assert compare_ab(failed, a).change is Change.INCONCLUSIVE


def test_meters_of_unlike_scope_make_a_metric_incomparable():
    def metered(runs, source):
        power = Metric(name="energy_per_token_j", value=0.2, unit="j/tok", source=source)
        return [replace(run, metrics=(*run.metrics, power)) for run in runs]

    a, b = two()
    found = of(compare_ab(metered(a, "whole device"), metered(b, "SoC model")), "energy_per_token_j")
    assert found.change is Change.INCOMPARABLE
    assert found.why == "Power was measured over different scopes: whole device and SoC model"


def test_runs_of_one_session_are_one_value_with_all_their_repetitions():
    a, b = two(a=[30, 31, *RATES])
    same = replace(a[1], start=replace(a[1].start, spec=replace(a[1].start.spec, block=0)))
    comparison = compare_ab([a[0], same, *a[2:]], b)
    assert of(comparison).n_a == 7
    assert comparison.cells[0].a.sessions == 7


def test_names_that_are_none_and_sides_without_runs_are_refused():
    a, b = two()
    with pytest.raises(UsageError, match=r"'os' is no field that must agree: choose .*os_build, kernel"):
        compare_ab(a, b, allowed=["os"])
    with pytest.raises(UsageError, match="no run matches B"):
        compare_ab(a, [])
