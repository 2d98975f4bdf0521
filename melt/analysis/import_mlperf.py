"""Results of the MLPerf Mobile app, as it saves, shows and uploads them, as entries to import. Pure.

docs/result-spec.md of mlcommons/mobile_app_open and flutter/lib/data describe the format; `loadgen` was `loadgen_info`
until 2023. Tasks without tokens (images, questions) have a rate of samples and no throughput as melt means it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from melt.analysis.figures import Figure
from melt.analysis.import_json import NotImportableError, finite, mapping, objects, text_of
from melt.analysis.import_llama_bench import utc_ns
from melt.analysis.imported import Entry
from melt.records import Workload

TOOL = "mlperf-mobile"

_WHOLE = ("meta", "environment_info", "build_info")
_LATENCIES = (("latencyMean", "e2e_s", "query_s"), ("latencyFirstTokenMean", "ttft_s", None))
"""Fields of `loadgen`, in seconds: what each is where a sample is a request for tokens, and where it is not."""


def is_one(value: Mapping[str, Any]) -> bool:
    """Return whether an object looks like a result file of the app."""
    return isinstance(value.get("results"), list) and any(name in value for name in _WHOLE)


def entries(text: str) -> list[Entry]:
    """Read a text. Raises NotImportableError, its message begins with the line."""
    return [entry for line, whole in objects(text) for entry in _entries(line, whole)]


def _entries(line: int, whole: Mapping[str, Any]) -> list[Entry]:
    if not is_one(whole):
        raise NotImportableError(f"{line}: no results of MLPerf Mobile: `results` and `environment_info` are lacking")
    results = [result for result in whole["results"] if isinstance(result, Mapping)]
    about = {name: whole[name] for name in _WHOLE if name in whole}
    return [_entry(result, about) for result in results]


def _entry(result: Mapping[str, Any], about: Mapping[str, Any]) -> Entry:
    asked, backend = mapping(result.get("backend_settings")), mapping(result.get("backend_info"))
    performance = mapping(result.get("performance_run"))
    loadgen = mapping(performance.get("loadgen")) or mapping(performance.get("loadgen_info"))
    name, device = _device(mapping(about.get("environment_info")))
    accelerator = text_of(backend.get("accelerator_name")) or text_of(asked.get("accelerator_desc"))
    path = text_of(asked.get("model_path")) or ""
    task = text_of(result.get("benchmark_id")) or text_of(result.get("benchmark_name")) or "unknown"
    threads = _threads(asked.get("extra_settings"))
    valid = loadgen.get("isResultValid", loadgen.get("validity"))
    return Entry(
        told={**about, "result": result},
        line=None,
        tool_version=text_of(mapping(about.get("build_info")).get("version")),
        model=PurePosixPath(path).stem or task,
        quant=None,
        engine=text_of(backend.get("backend_name")) or text_of(asked.get("framework")) or "unknown",
        workload=Workload(
            kind="prompts", prompts_name=" ".join(filter(None, (task, text_of(result.get("loadgen_scenario")))))
        ),
        device_name=name,
        device={**device, "accelerators": (accelerator,) if accelerator else ()},
        artifact={"format": PurePosixPath(path).suffix.removeprefix(".") or None, "path": path},
        settings={} if threads is None else {"threads": threads},
        used={
            key: value
            for key, value in (
                ("runner", TOOL),
                ("backend", accelerator),
                ("framework", text_of(asked.get("framework"))),
                ("batch_size", finite(asked.get("batch_size"))),
            )
            if value is not None
        },
        started_utc_ns=utc_ns(performance.get("start_datetime"))
        or utc_ns(mapping(about.get("meta")).get("creation_date")),
        totals=_figures(result, performance, loadgen),
        invalid="the result is not valid" if valid is False else None,
    )


def _figures(
    result: Mapping[str, Any], performance: Mapping[str, Any], loadgen: Mapping[str, Any]
) -> dict[str, Figure]:
    of_tokens = loadgen.get("isTokenBased") is True
    count = finite(loadgen.get("queryCount")) or finite(performance.get("measured_samples"))
    found: dict[str, float | None] = {}
    for field, with_tokens, without in _LATENCIES:
        name = with_tokens if of_tokens else without
        if name is not None:
            found[name] = finite(loadgen.get(field))
    if of_tokens:
        found["output_tps"] = finite(loadgen.get("tokenThroughput"))
    else:
        found["samples_per_s"] = finite(mapping(performance.get("throughput")).get("value"))
    for run in (performance, mapping(result.get("accuracy_run"))):
        accuracy = finite(mapping(run.get("accuracy")).get("normalized"))
        found["accuracy"] = found.get("accuracy") if accuracy is None else accuracy
    note = "the mean of all queries" if count is None else f"the mean of {count:.0f} queries"
    return {
        name: Figure(value, note=note if name.endswith("_s") and name != "samples_per_s" else None, source=TOOL)
        for name, value in found.items()
        if value is not None
    }


def _device(environment: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a device's name and what is told of it."""
    system = text_of(environment.get("platform")) or "unknown"
    told = mapping(mapping(environment.get("value")).get(system))
    props = {
        prop.get("type"): text_of(prop.get("value")) for prop in told.get("props") or () if isinstance(prop, Mapping)
    }
    maker, model = text_of(told.get("manufacturer")), text_of(told.get("model_name"))
    soc = props.get("soc_model") or text_of(told.get("soc_name")) or text_of(told.get("proc_cpuinfo_soc_name"))
    name = " ".join(filter(None, (maker, model))) or text_of(told.get("cpu_full_name")) or "unknown"
    return name, {
        "os": system,
        "os_build": text_of(told.get("os_version")),
        "soc": soc or text_of(told.get("cpu_full_name")),
    }


def _threads(extra: object) -> int | None:
    for setting in extra if isinstance(extra, list) else ():
        if mapping(setting).get("id") == "num_threads" and str(mapping(setting).get("value")).isdecimal():
            return int(setting["value"])
    return None
