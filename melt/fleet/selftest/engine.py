"""Steps about inference: is the engine there, and does a short run come home through the ordinary path."""

from __future__ import annotations

import json
from pathlib import Path

from melt.analysis.selftest import Finding, verdict
from melt.engines.registry import get as get_engine
from melt.errors import DeviceError
from melt.events import Event, Note, Preparing
from melt.fleet.conductor import conduct
from melt.fleet.selftest.course import Course
from melt.models.library import Library
from melt.plan.expand import expand
from melt.plan.ids import new_id
from melt.plan.model import ModelChoice, Plan
from melt.records import Outcome, Repeat, Settings, Verdict, Workload
from melt.session.connect import Site
from melt.store.store import Store

_ENGINE = "llama.cpp"
_MODEL = "tiny-pydoc"
_IMPORT = "import json, sys, llama_cpp as m; print(json.dumps([sys.version.split()[0], m.__version__, m.__file__]))"
_IMPORT_TIMEOUT_S = 60.0
_NO_GPU = ("CPU", "BLAS")
"""Devices of llama.cpp that compute on the CPU."""
_METRICS = ("prefill_tps", "decode_tps", "ttft_s", "peak_rss_bytes", "power_mean_w", "temperature_max_c", "load_s")


def check_engine(site: Site) -> Finding:
    """See that the engine can be started there: imported where it is Python's, chosen where it is a program."""
    target = site.target
    engine = get_engine(_ENGINE).for_device(target.facts)
    built = engine.built_runner()
    if built is not None:
        return verdict(True, f"{engine.name}, {built.target}, variant {built.variant}")
    done = target.transport.run((target.python, "-c", _IMPORT), timeout_s=_IMPORT_TIMEOUT_S)
    raw = (done.stdout + done.stderr).decode(errors="replace")
    try:
        python, version, path = json.loads(done.stdout)
    except ValueError:
        remedy = (
            "pip install 'melt[llama]'" if target.shares_files else f"melt provision {site.selector.partition(':')[2]}"
        )
        return verdict(False, f"{target.python} cannot import llama_cpp: `{remedy}`", raw=raw)
    return verdict(True, f"llama-cpp-python {version}, Python {python}", raw=f"{target.python}\n{path}")


def check_runs(course: Course, selector: str, scratch: Path) -> None:
    """Measure the model that melt brings along as `melt run` would, on the CPU, and on a GPU that the engine sees."""
    seen: list[str] = []
    course.take("run", "a short run", lambda: _run(selector, scratch, 0, course, seen))
    if any(device.partition(" ")[0] not in _NO_GPU for device in seen):
        course.take("run", "a short run on the GPU", lambda: _run(selector, scratch, -1, course, seen))


def _run(selector: str, scratch: Path, n_gpu_layers: int, course: Course, seen: list[str]) -> Finding:
    """Make a run into a store of its own; `seen` takes up which devices the engine found."""
    plan = Plan(
        name="selftest",
        models=(ModelChoice(model=_MODEL),),
        workloads=(Workload(n_prompt=16, n_gen=16),),
        devices=(selector,),
        engines=(_ENGINE,),
        # One thread: what is proven is the path, and nothing else on the device can slow that down.
        settings=(Settings(threads=1, timeout_s=300.0, n_gpu_layers=n_gpu_layers),),
        repeat=Repeat(warmup=1, repetitions=3),
    )
    specs = expand(plan, sweep_id=new_id(), new_run_id=new_id)

    def observe(event: Event) -> None:
        if isinstance(event, Preparing) and not event.done:
            course.say(event.what)
        elif isinstance(event, Note):
            course.say(event.text)

    with Store.open(scratch / "store") as store:
        done = conduct(specs, store, Library().resolve, observe=observe, stop=course.stop)
        if not done.bundles:
            raise done.troubles[0] if done.troubles else DeviceError(f"{selector}: the run gave no result")
        (bundle,) = done.bundles
    stop = bundle.stop
    values = {metric.name: metric.value for metric in bundle.metrics if metric.repetition is None}
    reasons = "; ".join(reason.message for reason in stop.reasons)
    rates = f"prefill {values.get('prefill_tps') or 0:.0f}, decode {values.get('decode_tps') or 0:.0f} tok/s"
    said = f"{stop.outcome}, {stop.verdict}" + (f" ({reasons})" if reasons else "")
    said += f"; {rates} on {stop.used.get('backend')}" if stop.outcome is Outcome.OK else ""
    raw = json.dumps({"used": stop.used, "evidence": stop.evidence}, indent=1, ensure_ascii=False)
    devices = stop.used.get("devices")
    seen += [str(device) for device in devices] if isinstance(devices, list) else []
    fine = stop.outcome is Outcome.OK and stop.verdict is not Verdict.INVALID
    if n_gpu_layers and stop.used.get("backend") == "CPU":
        fine, said = False, f"the GPU was asked for, the CPU computed; {said}"
    return verdict(fine, said, {name: values.get(name) for name in _METRICS}, raw)
