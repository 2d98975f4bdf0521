"""How long a device that is out of reach is waited for."""

from __future__ import annotations

from dataclasses import replace

from analysis_samples import make_start

from melt.records import Sampling
from melt.session.execute import lost_after_s


def test_a_run_is_waited_for_until_its_rest_is_over() -> None:
    spec = make_start().spec
    spec = replace(spec, settings=replace(spec.settings, timeout_s=60.0))
    assert lost_after_s(replace(spec, sampling=Sampling(baseline_s=0.0))) == 360
    assert lost_after_s(replace(spec, sampling=Sampling(baseline_s=30.0))) == 420
    assert lost_after_s(replace(spec, sampling=Sampling(baseline_s=30.0, recovery_s=1800.0))) == 2190
