"""The engine: how to start the program that a file describes, and what to make of the JSON that it prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from melt.engines.base import BuiltRunner, Command, RunnerReport
from melt.errors import EngineError, UsageError
from melt.records import Artifact, DeviceFacts, RunSpec, Settings
from melt_command_engine.definition import Definition, Variant, read_definition
from melt_command_engine.reading import read

_BY_THE_AGENT = frozenset({"affinity", "timeout_s", "trip_c", "trip_defaults"})
"""Settings that no runner is told of."""
_UNASKED: Mapping[str, object] = {
    **{one.name: one.default for one in dataclasses.fields(Settings) if one.name not in _BY_THE_AGENT},
    **{"threads": 1, "n_prompt": 0, "n_gen": 0, "n_depth": 0, "repetitions": 1},
}
"""What a program does that is not told otherwise."""


class CommandEngine:
    """The engine `command:FILE.yaml`."""

    def __init__(self, path: str, variant: Variant | None = None) -> None:
        """Read the description. Raises UsageError."""
        if not path:
            raise UsageError("engine 'command' needs the file that describes the program: command:FILE.yaml")
        self.name = f"command:{path}"
        self._definition: Definition = read_definition(Path(path))
        self._variant = variant or self._definition.variant
        self.formats = self._definition.formats
        self._path = path

    def for_device(self, device: DeviceFacts) -> CommandEngine:
        """Return this engine with the files for the device's system. Raises EngineError where one is missing."""
        variant = self._definition.variant_for(device.os, device.arch)
        missing = [str(path) for path in variant.files if not path.is_file()]
        if missing:
            raise EngineError(f"engine '{self.name}': {', '.join(missing)}: there is no such file")
        return CommandEngine(self._path, variant)

    def runner_files(self) -> tuple[Path, ...]:
        """Return the program and what it needs beside it."""
        return self._variant.files

    def built_runner(self) -> BuiltRunner | None:
        """Return None: nothing is to be built."""
        return None

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
        """Fill in the words of the command. Raises EngineError for what the program cannot be told."""
        workload = spec.workload
        if workload.kind != "synthetic":
            raise EngineError(f"{self.name} runs made-up tokens only, not a workload of kind {workload.kind}")
        values = dataclasses.asdict(spec.settings) | {
            "n_prompt": workload.n_prompt,
            "n_gen": workload.n_gen,
            "n_depth": workload.n_depth,
            "repetitions": spec.repeat.repetitions,
            "warmup": spec.repeat.warmup,
        }
        for name, value in values.items():
            if value != _UNASKED.get(name, value) and name not in self._variant.told:
                asked = "is left open" if value is None else f"is {value}"
                raise EngineError(f"{self.name}: {name} {asked}, and its command has no {{{name}}} to say so")
        places = {"model": model_path, "files": runner_dir, "python": python}
        return Command(argv=self._variant.words(values | places), env=self._definition.env)

    def parse(self, lines: Iterable[bytes]) -> RunnerReport:
        """Make melt's own events of what the program printed; see melt_command_engine.reading."""
        return read(lines, self._definition)
