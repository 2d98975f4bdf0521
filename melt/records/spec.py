"""What is asked for: one run, with its workload, its settings, and the state that its device is to be in."""

from __future__ import annotations

from dataclasses import dataclass, field

from melt.records.thresholds import Thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A file of input tensors (.npz), known by what is in it; `path` only says where it lies now."""

    name: str
    sha256: str
    size_bytes: int
    path: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of the model in one repetition. Lengths are in tokens.

    kind `synthetic`: `n_prompt` made-up tokens are prefilled at `n_depth`, then `n_gen` are decoded.
    kind `prompts`: each of `prompts` is one request of up to `n_gen` tokens.
    kind `sustained`: the synthetic request is repeated until `duration_s` have passed.
    kind `inference`: a single-shot model answers `n_infer` requests one after the other, or as many as fit into
    `duration_s`. `dims` are the sizes of its symbolic dimensions; `inputs` None: made up from the declared shapes with
    the seed, the same on every device.
    """

    kind: str = "synthetic"
    n_prompt: int = 0
    n_gen: int = 0
    n_depth: int = 0
    duration_s: float | None = None
    prompts: tuple[str, ...] = ()
    prompts_name: str | None = None
    n_infer: int = 0
    dims: dict[str, int] = field(default_factory=dict, hash=False)
    inputs: Inputs | None = None

    @property
    def name(self) -> str:
        """The workload as llama-bench would write it: `pp512`, `tg128 @ d512`; single-shot: `infer50 batch=1`."""
        if self.kind == "inference":
            return self._inference_name()
        parts = []
        if self.kind == "prompts":
            parts.append(self.prompts_name or "prompts")
        elif self.n_prompt:
            parts.append(f"pp{self.n_prompt}")
        if self.n_gen:
            parts.append(f"tg{self.n_gen}")
        name = "+".join(parts)
        if self.kind == "sustained" and self.duration_s is not None:
            name += f" for {self.duration_s:.12g}s"
        return f"{name} @ d{self.n_depth}" if self.n_depth else name

    def _inference_name(self) -> str:
        words = [f"infer{self.n_infer}" if self.duration_s is None else f"infer for {self.duration_s:.12g}s"]
        words += [f"from {self.inputs.name}"] if self.inputs is not None else []
        return " ".join((*words, *(f"{dimension}={size}" for dimension, size in self.dims.items())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the engine is asked to run. None leaves the choice to the session, which records what it chose.

    Of ONNX Runtime are `providers` (none: the engine's default), `graph_optimization` (disabled, basic, extended, all),
    `arena`, `io_binding` and `inter_op_threads`; its intra-op threads are `threads`.
    """

    threads: int | None = None
    threads_batch: int | None = None
    n_batch: int = 2048
    n_ubatch: int = 512
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attn: str = "auto"
    n_gpu_layers: int = 0
    mmap: bool = True
    page_cache: str = "warm"
    seed: int = 0
    temperature: float = 0.0
    ignore_eos: bool = True
    affinity: str | None = None
    timeout_s: float = 3600.0
    trip_c: float | None = None
    trip_defaults: bool = True
    providers: tuple[str, ...] = ()
    graph_optimization: str = "all"
    arena: bool = True
    io_binding: bool = False
    inter_op_threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """`warmup` and `repetitions` happen inside one process; each of `sessions` is a process of its own.

    With `until_ci`, `sessions` is the most, and a cell is done after `min_sessions` or more as soon as its rate is
    known so well: the 95 % confidence interval reaches no farther to either side than this share of the rate (0.02 for
    2 %).
    """

    warmup: int = 1
    repetitions: int = 5
    sessions: int = 1
    until_ci: float | None = None
    min_sessions: int | None = None

    @property
    def least_sessions(self) -> int:
        """How many sessions a cell has whatever they tell."""
        return self.sessions if self.until_ci is None or self.min_sessions is None else self.min_sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How often channels are read, in Hz. `sensors_hz` for sysfs, `process_hz` for the runner's own /proc files.

    `power_hz` is for power rails that can be read faster than other sensors; None: like those. `baseline_s` is how long
    the device rests before the runner starts and after it ended, where its power is measured; `recovery_s` how long it
    is watched after the runner, whatever is measured, if that is longer. `energy` is `required`
    where a run without a believable energy is of no use, or `optional`; None: required where a power meter outside the
    device watches.
    """

    sensors_hz: float = 10.0
    process_hz: float = 10.0
    power_hz: float | None = None
    baseline_s: float = 2.0
    recovery_s: float | None = None
    energy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """In which state the device is to be while a run lasts. None leaves a knob as it is found.

    Each is set, read back and restored by the agent on the device. `screen` is on or off; `brightness` 0 to 255;
    `charging` suspended or allowed; `cluster` names CPUs by what they are (little, mid, big, prime) and becomes the
    affinity; `usb_power` off, or off for a time (`off for 600s`), switches the port that the device's profile names.
    `nvpmodel` is a power mode of a Jetson by its name or number (`15W`, `0`); `jetson_clocks` fixes its clocks at
    their highest, or asks that they are not fixed.
    """

    screen: str | None = None
    brightness: int | None = None
    stay_awake: bool | None = None
    charging: str | None = None
    fixed_performance: bool | None = None
    airplane: bool | None = None
    wifi: bool | None = None
    cluster: str | None = None
    usb_power: str | None = None
    nvpmodel: str | None = None
    jetson_clocks: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What must hold before a run may start; None asks for nothing. After `wait_s` the run is skipped with the reason.

    `battery_min_ratio` and `cpu_idle_min_ratio` are 0 to 1; `temperature_stable_c` is how much the hottest sensor may
    have moved within the last 30 s; `charging` says whether the battery must, or must not, be charging. `must_fit`:
    what needs more memory than the device can give is not tried. Before all that the device rests for `pause_s`.
    """

    battery_min_ratio: float | None = None
    temperature_max_c: float | None = None
    temperature_stable_c: float | None = None
    charging: bool | None = None
    cpu_idle_min_ratio: float | None = None
    must_fit: bool = True
    wait_s: float = 600.0
    pause_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How much greenhouse gas a kilowatt hour stands for, in grams of CO2 equivalents. It changes no measurement.

    `source` says who gave the number: `given`, or a table with its version; `zone` and `year` are the table's.
    """

    g_per_kwh: float
    source: str = "given"
    zone: str | None = None
    year: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run that was asked for: one cell of a plan in one session.

    From 0 count `block`, the session's number, `position` in the whole order, and `cell`, the cell's place in the plan.
    `order_seed` is what a random `order` was drawn with. A `reference` run tells of the device; it is no session.
    `thresholds` are what its verdict is by. `profile`: each operator is timed, which slows the run: it is compared with
    none that is not.
    """

    run_id: str
    sweep_id: str
    plan: str
    block: int
    position: int
    device: str
    model: str
    quant: str | None
    engine: str
    workload: Workload
    settings: Settings
    repeat: Repeat
    sampling: Sampling
    conditions: Conditions = field(default_factory=Conditions)
    gate: Gate = field(default_factory=Gate)
    thresholds: Thresholds = field(default_factory=Thresholds)
    cell: int | None = None
    order: str | None = None
    order_seed: int | None = None
    reference: bool = False
    grid: Grid | None = None
    profile: bool = False

    @property
    def label(self) -> str:
        """What people call the run: model, quantization, workload."""
        return " ".join(filter(None, (self.model, self.quant, self.workload.name)))
