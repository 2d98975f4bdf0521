"""Results of the MLPerf Mobile app, as it saves, shows and uploads them, as entries to import. Pure.

docs/result-spec.md of mlcommons/mobile_app_open and flutter/lib describe the format, the submissions in
mlcommons/mobile_results_v5.0 show it; `loadgen` was `loadgen_info` until 2023. Tasks without tokens (images, questions)
have a rate of samples and no throughput as melt means it.
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

_SOC = "ro.soc.model"
_NOT_KNOWN = "Unknown"
_WHOLE = ("meta", "environment_info", "build_info")
_LATENCIES = (("latency_mean", "e2e_s", "query_s"), ("latency_first_token_mean", "ttft_s", None))
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
    paths = _paths(asked.get("model_path"))
    path = paths[0] if len(paths) == 1 else ""
    task = text_of(result.get("benchmark_id")) or text_of(result.get("benchmark_name")) or "unknown"
    threads = _threads(asked.get("extra_settings"))
    valid = loadgen.get("is_result_valid", loadgen.get("validity"))
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
        artifact={"format": PurePosixPath(path).suffix.removeprefix(".") or None, "path": ", ".join(paths)},
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
    of_tokens = loadgen.get("is_token_based") is True
    count = finite(loadgen.get("query_count")) or finite(performance.get("measured_samples"))
    queries = "all queries" if count is None else "one query" if count == 1 else f"{count:.0f} queries"
    found: dict[str, Figure] = {}

    def keep(name: str, value: object, note: str | None = None) -> None:
        if (number := finite(value)) is not None:
            found[name] = Figure(number, note=note, source=TOOL)

    for field, with_tokens, without in _LATENCIES:
        if (name := with_tokens if of_tokens else without) is not None:
            keep(name, loadgen.get(field), f"the mean of {queries}")
    if of_tokens:
        keep("output_tps", loadgen.get("token_throughput"))
    else:
        keep("samples_per_s", mapping(performance.get("throughput")).get("value"))
    for run in (performance, mapping(result.get("accuracy_run"))):
        accuracy = mapping(run.get("accuracy"))
        keep("accuracy", accuracy.get("normalized"), _as_written(accuracy))
    return found


def _as_written(accuracy: Mapping[str, Any]) -> str | None:
    """Quote what the app shows where that is no share: the quality of pictures in dB, say."""
    text = text_of(accuracy.get("formatted"))
    return None if text is None or text.endswith("%") else f"shown as {text}"


def _paths(value: object) -> tuple[str, ...]:
    """Return the files of a model; since 2024 the app writes them as a list between brackets, also a single one."""
    text = text_of(value) or ""
    listed = text.startswith("[") and text.endswith("]")
    return tuple(filter(None, (path.strip() for path in text[1:-1].split(",")))) if listed else (text,)


def _device(environment: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a device's name and what is told of it."""
    system = text_of(environment.get("platform")) or "unknown"
    told = mapping(mapping(environment.get("value")).get(system))
    props = told.get("props")
    named = [prop for prop in props if mapping(prop).get("name") == _SOC] if isinstance(props, list) else []
    maker, model = text_of(told.get("manufacturer")), text_of(told.get("model_name"))
    socs = [*(prop.get("value") for prop in named), told.get("soc_name"), told.get("proc_cpuinfo_soc_name")]
    soc = next((text for text in map(text_of, socs) if text not in (None, _NOT_KNOWN)), None)
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
