"""A llama-bench binary of the user's, `llama-bench:PATH`: for GPU back ends and builds that melt does not make.

It times whole phases and knows no token, so of a run there are throughput samples and no windows. Its JSON has changed
since 2023; what is read here was written by some version of tools/llama-bench/llama-bench.cpp of llama.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from melt.engines.base import BuiltRunner, Command, RunnerReport
from melt.errors import EngineError
from melt.records import Artifact, DeviceFacts, RunSpec

_SWITCHES = {
    "cuda": "CUDA",
    "hipblas": "ROCm",
    "metal": "Metal",
    "vulkan": "Vulkan",
    "sycl": "SYCL",
    "kompute": "Kompute",
    "opencl": "OpenCL",
}
"""Until 2024 a field per back end, true or false; since then `backends`, names separated by commas."""

_ON_THE_CPU = frozenset(("CPU", "BLAS", "RPC", "ACCEL", "KLEIDIAI", ""))
"""Names in `backends` that put no layer on a GPU of this device; all others may."""


_BIG = 1e18
"""Beyond it, and infinite, are no measurements but damaged text."""


class LlamaBench:
    """The engine `llama-bench:PATH`: made-up tokens only, prefill and decode timed apart."""

    formats: tuple[str, ...] = ("gguf",)

    def __init__(self, path: str) -> None:
        self.name = f"llama-bench:{path}"
        self._path = Path(path)

    def for_device(self, device: DeviceFacts) -> LlamaBench:
        """Return this engine: whether the binary fits the device only its owner knows. Raises EngineError."""
        if not self._path.is_file():
            raise EngineError(f"engine '{self.name}': there is no such file")
        return self

    def built_runner(self) -> BuiltRunner | None:
        """Return None: somebody else built it."""
        return None

    def runner_files(self) -> tuple[Path, ...]:
        """Return the binary and the shared libraries beside it."""
        return (self._path.absolute(), *sorted(self._path.absolute().parent.glob("lib*.so*")))

    def command(
        self,
        spec: RunSpec,
        artifact: Artifact,
        *,
        model_path: str,
        runner_dir: str,
        python: str,
        inputs_path: str | None = None,
    ) -> Command:
        """Say how to start it. Flags that not every version knows are only passed where they are needed.

        Behind a prompt melt decodes at that depth, llama-bench at none: so it is asked for both depths, and of each
        phase the one that melt would have measured counts. Raises EngineError for what llama-bench cannot do.
        """
        workload, settings = spec.workload, spec.settings
        if workload.kind != "synthetic":
            raise EngineError(f"llama-bench runs made-up tokens only, not a workload of kind {workload.kind}")
        if settings.threads_batch not in (None, settings.threads):
            raise EngineError("llama-bench has one number of threads: leave threads_batch out")
        argv = [f"{runner_dir}/{self._path.name}", "-m", model_path, "-o", "json", "-r", str(spec.repeat.repetitions)]
        argv += ["-p", str(workload.n_prompt), "-n", str(workload.n_gen)]
        depths = [workload.n_depth, workload.n_depth + workload.n_prompt][: 2 if workload.n_gen else 1]
        if any(depths):
            argv += ["-d", ",".join(map(str, dict.fromkeys(depths)))]
        if settings.threads is not None:
            argv += ["-t", str(settings.threads)]
        argv += ["-b", str(settings.n_batch), "-ub", str(settings.n_ubatch)]
        argv += ["-ctk", settings.cache_type_k, "-ctv", settings.cache_type_v, "-ngl", str(settings.n_gpu_layers)]
        if settings.flash_attn != "auto":
            argv += ["-fa", "1" if settings.flash_attn == "on" else "0"]
        if not settings.mmap:
            argv += ["-mmp", "0"]
        if not spec.repeat.warmup:
            argv += ["--no-warmup"]
        return Command(argv=tuple(argv), env={"LD_LIBRARY_PATH": runner_dir})

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        """Read its JSON, an array or an object a line, whatever stands around it; what is torn is passed over."""
        tests, complete = _tests(b"\n".join(lines).decode(errors="replace"))
        if not tests:
            return RunnerReport()
        samples: dict[str, tuple[float, ...]] = {}
        used = _used(tests[0])
        for phase, counted, other in (("prefill", "n_prompt", "n_gen"), ("decode", "n_gen", "n_prompt")):
            timed = [t for t in tests if _number(t, counted) and not _number(t, other) and _samples(t, counted)]
            if timed:
                # A prompt begins at the lesser depth; what is decoded stands behind it.
                test = (min if phase == "prefill" else max)(timed, key=lambda t: _number(t, "n_depth") or 0)
                samples[f"{phase}_tps"] = _samples(test, counted)
                used[f"{phase}_depth"] = int(_number(test, "n_depth") or 0)
        size = _number(tests[0], "model_size")
        memory = {"model_bytes": int(size)} if size else {}
        return RunnerReport(used=used, memory=memory, samples=samples, complete=complete)


def _tests(text: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the tests in a text, and whether the last of them was its end."""
    decoder = json.JSONDecoder()
    tests: list[dict[str, Any]] = []
    before = rest = ""
    at = 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if "n_prompt" in value and "n_gen" in value:
            before = before or text[:at]
            tests.append(value)
            rest = text[end:]
        at = end
    if not tests:
        return [], False
    # An array that was opened must be closed; of objects on lines of their own none may have been begun.
    opened, closed = before.rstrip().endswith("["), re.search(r"^\s*\]", rest, re.MULTILINE) is not None
    return tests, closed if opened else re.search(r"^\s*\{", rest, re.MULTILINE) is None


def _number(test: Mapping[str, Any], name: str) -> float | None:
    value = test.get(name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and -_BIG < value < _BIG
    return value if number else None


def _samples(test: Mapping[str, Any], counted: str) -> tuple[float, ...]:
    """Return the tokens per second of each repetition; the mean alone where no more is told."""
    per_second = _positive(test.get("samples_ts"))
    if not per_second:
        n_tokens = _number(test, counted) or 0
        per_second = tuple(n_tokens * 1e9 / ns for ns in _positive(test.get("samples_ns")))
    return per_second or _positive([test.get("avg_ts")])


def _positive(values: object) -> tuple[float, ...]:
    """Return a list of numbers above zero as floats; nothing where one of them is none."""
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        return ()
    return tuple(float(v) for v in values) if all(0 < v < _BIG for v in values) else ()


def _used(test: Mapping[str, Any]) -> dict[str, object]:
    """Say what was in force, under the names of the `load` event; what this version does not tell is absent."""
    names = {"n_threads": "threads", "n_batch": "n_batch", "n_ubatch": "n_ubatch"}
    names |= {"type_k": "cache_type_k", "type_v": "cache_type_v", "model_type": "model_type"}
    used: dict[str, object] = {"runner": "llama-bench", "engine": "llama.cpp"}
    used |= {ours: test[theirs] for theirs, ours in names.items() if test.get(theirs) is not None}
    if test.get("build_commit"):
        used["engine_revision"] = f"llama.cpp {test['build_commit']} (build {test.get('build_number')})"
    if test.get("flash_attn") in (0, 1):
        used["flash_attn"] = "on" if test["flash_attn"] else "off"
    if isinstance(mmap := test.get("use_mmap"), (int, bool)):
        used["mmap"] = bool(mmap)
    elif (mode := test.get("load_mode")) not in (None, "auto"):
        used["mmap"] = str(mode).startswith("mmap")
    used["devices"] = [str(test[name]) for name in ("cpu_info", "gpu_info") if test.get(name)]
    backend = _backend(test)
    layers = _number(test, "n_gpu_layers")
    if backend is not None:
        used["backend"] = backend
    if layers is not None:
        # It repeats what was asked for; a build for the CPU offloads nothing all the same.
        used["n_gpu_layers"] = 0 if backend == "CPU" else int(layers)
    return used


def _backend(test: Mapping[str, Any]) -> str | None:
    if isinstance(test.get("backends"), str):
        return next((n for n in test["backends"].split(",") if n.strip().upper() not in _ON_THE_CPU), "CPU").strip()
    if not any(name in test for name in _SWITCHES):
        return None
    return next((name for switch, name in _SWITCHES.items() if test.get(switch) in (True, 1)), "CPU")
