"""Which engine runs a model, and which workloads and settings are for it: a plan may mix models of several kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from melt.errors import UsageError
from melt.plan import workloads
from melt.plan.values import nearest
from melt.records import Artifact, Settings, Workload

ENGINES = {"gguf": "llama.cpp", "onnx": "onnxruntime"}
"""What runs a model of a format where the plan names no engine."""

OF_LLAMA_CPP = frozenset(
    ("threads_batch", "n_batch", "n_ubatch", "cache_type_k", "cache_type_v", "flash_attn", "n_gpu_layers", "mmap")
)
OF_ONNX_RUNTIME = frozenset(("providers", "graph_optimization", "arena", "io_binding", "inter_op_threads"))
"""Settings that the other engine does not know."""
OF_SAMPLING = frozenset(("temperature", "ignore_eos"))
"""Settings that mean nothing where no token is drawn."""

OF_TOKENS = OF_SAMPLING | {"n_batch"}
"""Settings that mean nothing to a single-shot model, whatever runs it."""

_FROM_FILE = "infer50 from inputs.npz"
_EXAMPLE_LENGTH = 128
"""What a sentence suggests for a dimension that is not the batch."""

_FOREIGN = {
    "llama.cpp": OF_ONNX_RUNTIME,
    "llama.cpp-native": OF_ONNX_RUNTIME,
    # A decoder of ONNX takes its prompt in batches, too.
    "onnxruntime": OF_LLAMA_CPP - {"n_batch"},
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a model is: the format of its file, and whether it generates tokens; None: both or not known."""

    format: str = "gguf"
    generates: bool | None = None

    @property
    def told(self) -> str:
        """What it is, in words."""
        return f"{self.format.upper()}, " + ("generates tokens" if self.generates else "single-shot")


@dataclass(frozen=True, slots=True)
class Fitting:
    """What is known of the models and engines of a plan: the kind of a model, the formats that an engine takes.

    No formats: any.
    """

    kind: Callable[[str], Kind] = lambda _: Kind()
    formats: Callable[[str], tuple[str, ...]] = lambda _: ()

    def engines(self, model: str, asked: tuple[str, ...]) -> tuple[str, ...]:
        """Return the engines that run a model: of those asked for, else the one for its format. Raises UsageError."""
        kind = self.kind(model)
        if not asked:
            return (ENGINES[kind.format],)
        found = tuple(engine for engine in asked if kind.format in (self.formats(engine) or (kind.format,)))
        if not found:
            raise UsageError(
                f"no engine of the plan runs '{model}' ({kind.format.upper()}): {', '.join(asked)}; "
                f"leave the engine out, or ask for {ENGINES[kind.format]}"
            )
        return found

    def takes(self, model: str, workload: Workload) -> bool:
        """Return whether a workload is one for this kind of model."""
        generates = self.kind(model).generates
        return generates is None or generates != (workload.kind == "inference")

    def workloads(self, model: str, asked: Iterable[Workload]) -> tuple[Workload, ...]:
        """Return the workloads that are for a model. Raises UsageError where none is."""
        asked = tuple(asked)
        if asked == workloads.DEFAULT and self.kind(model).generates is False:
            return (workloads.DEFAULT_INFERENCE,)
        found = tuple(workload for workload in asked if self.takes(model, workload))
        if not found:
            kind = self.kind(model)
            names = ", ".join(workload.name for workload in asked)
            other = "infer50" if kind.generates is False else "pp512"
            raise UsageError(f"no workload of the plan is for '{model}' ({kind.told}): {names}; ask for {other}")
        return found


ANYTHING = Fitting()
"""Nothing is known, so nothing is left out."""


def own_settings(engine: str, workload: Workload, settings: Settings) -> Settings:
    """Return settings as an engine of ours knows them for a workload: all others as nobody has touched them."""
    foreign = _FOREIGN.get(engine, frozenset())
    if engine in _FOREIGN and workload.kind == "inference":
        foreign |= OF_TOKENS
    default = Settings()
    return replace(settings, **{name: getattr(default, name) for name in foreign})


def open_dimensions(artifact: Artifact) -> dict[str, str]:
    """Return the symbolic dimensions of a model's inputs, each with the first input that has it."""
    found: dict[str, str] = {}
    for tensor in artifact.inputs:
        for length in tensor.shape or ():
            if isinstance(length, str):
                found.setdefault(length, tensor.name)
    return found


def check_dims(workload: Workload, artifacts: Iterable[Artifact]) -> None:
    """Raise UsageError where a workload's dimensions do not make the shapes of single-shot models whole.

    A plan has one workload for several models: a dimension that only some of them have is no slip.
    """
    artifacts = [artifact for artifact in artifacts if artifact.format == "onnx" and artifact.generative is False]
    known = {dimension for artifact in artifacts for dimension in open_dimensions(artifact)}
    for dimension in workload.dims:
        if artifacts and dimension not in known:
            has = f"open are {', '.join(sorted(known))}" if known else "all of their shapes are fixed"
            names = ", ".join(dict.fromkeys(artifact.name for artifact in artifacts))
            hint = nearest(dimension, known) or f"; {has}"
            raise UsageError(f"workload '{workload.name}': {names} has no dimension '{dimension}'{hint}")
    for artifact in artifacts:
        shapeless = [one.name for one in artifact.inputs if one.shape is None and one.is_tensor]
        if shapeless:
            raise UsageError(
                f"{artifact.name} does not say which shape its input '{shapeless[0]}' has, and ONNX Runtime would take "
                "it for a single number: export it with a shape, whose dimensions may be open"
            )
    if workload.inputs is not None:
        return
    for artifact in artifacts:
        lacking = [d for d in open_dimensions(artifact) if d not in workload.dims and d not in artifact.dims]
        if lacking:
            raise UsageError(f"workload '{workload.name}': {artifact.name} leaves {_left_open(artifact, lacking)}")


def _left_open(artifact: Artifact, lacking: list[str]) -> str:
    """Name the dimensions that need a length, and say how one is given."""
    example = " ".join(f"{name}={_EXAMPLE_LENGTH if place else 1}" for place, name in enumerate(lacking))
    if len(lacking) == 1:
        of = open_dimensions(artifact)[lacking[0]]
        which = f"the dimension '{lacking[0]}' of its input '{of}' open: say how long it is"
    else:
        named = ", ".join(f"'{name}'" for name in lacking)
        which = f"the dimensions {named} of its inputs open: say how long they are"
    if not all(workloads.is_dimension(name) for name in lacking):
        return f"{which.partition(':')[0]}, by a name that no workload can say: give the inputs in a file, {_FROM_FILE}"
    return f"{which}, infer50 {example}, or give the inputs in a file, {_FROM_FILE}"
