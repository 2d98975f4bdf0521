"""llama.cpp through the native runner agents/runners/llama_native: for devices without Python, and for any other too.

The runner is one binary per CPU variant; which one a device can run is decided here, from the features that all of its
CPUs have. `llama.cpp-native:PATH` runs a binary that somebody built, such as one of `melt build runner --ndk`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from melt.engines.base import BuiltRunner, Command, RunnerReport
from melt.engines.runner_events import parse_events
from melt.engines.runner_job import JOB, job_file
from melt.errors import EngineError
from melt.records import Artifact, DeviceFacts, RunSpec

_BINARY = "llama-native"

_X86_V2 = frozenset(("ssse3", "sse4_2", "popcnt"))
_ARM_V82 = frozenset(("atomics", "asimdhp", "asimddp"))
VARIANTS = {
    "arm64": (("i8mm", _ARM_V82 | {"i8mm"}), ("v8.2", _ARM_V82), ("v8.0", frozenset[str]())),
    "x86_64": (("v3", _X86_V2 | {"avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"}), ("v2", _X86_V2)),
}
"""Per architecture, from the fastest on: a variant and the CPU features that it needs, as /proc/cpuinfo names them.

The same as in agents/runners/llama_native/build.py, which knows the compiler's flags for them.
"""

_ARCHITECTURES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "amd64": "x86_64"}


class LlamaNative:
    """The engine `llama.cpp-native`: GGUF models on the CPU, with no Python on the device."""

    name = "llama.cpp-native"
    without_profile = "the native runner times no operators: profile the same llama.cpp where Python runs, as llama.cpp"
    formats: tuple[str, ...] = ("gguf",)

    def __init__(self, path: str | None = None, *, built: BuiltRunner | None = None) -> None:
        self._path = path
        self._built = built

    def for_device(self, device: DeviceFacts) -> LlamaNative:
        """Return this engine with the fastest variant that the device's CPUs can run. Raises EngineError."""
        if self._path is not None:
            if not Path(self._path).is_file():
                raise EngineError(f"engine '{self.name}:{self._path}': there is no such file")
            return self
        arch = _ARCHITECTURES.get((device.arch or "").lower())
        if arch is None or device.os not in ("android", "linux"):
            raise EngineError(
                f"{device.device_id}: the native runner is built for 64-bit Arm (Android, Linux) and x86-64 (Linux), "
                f"not for {device.os or 'an unknown system'} on {device.arch or 'an unknown processor'}"
            )
        system = device.os if arch == "arm64" else "linux"
        variant = variant_for(arch, device.cpu_features)
        return LlamaNative(built=BuiltRunner(name="llama_native", target=f"{system}-{arch}", variant=variant))

    def built_runner(self) -> BuiltRunner | None:
        """Say which binary the device needs; None before `for_device`, and where the user gave one."""
        return self._built

    def runner_files(self) -> tuple[Path, ...]:
        """Return the user's own binary; the built one comes from melt/targets/runners.py."""
        return () if self._path is None else (Path(self._path).absolute(),)

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
        """Say how to start the runner: its job is `runner.json` in the job's folder."""
        binary = _BINARY if self._path is None else Path(self._path).name
        return Command(
            argv=(f"{runner_dir}/{binary}", f"{{dir}}/{JOB}"), files={JOB: job_file(spec, artifact, model_path)}
        )

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        """Read the runner's stdout lines; see melt.engines.runner_events."""
        return parse_events(lines)


def variant_for(arch: str, features: Iterable[str]) -> str:
    """Return the fastest variant that CPUs with these features can run. Raises EngineError where none is."""
    has = set(features)
    for variant, needs in VARIANTS[arch]:
        if needs <= has:
            return variant
    lacking = ", ".join(sorted(VARIANTS[arch][-1][1] - has))
    raise EngineError(f"the native runner runs on no CPU without {lacking}")
