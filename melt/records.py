"""The documents that melt keeps: frozen, versioned, and the same in memory, on disk and in the store.

A run is one runner process: it loads a model once, warms up, then repeats its workload. It begins with a
`RunStart` (what was asked, on what, with what), yields `Stream` declarations and traces, is cut into `Window`s,
summarised as `Metric`s and always ends with a `RunStop` (outcome, verdict, reasons), also when it died.
None means "not measured"; 0 is a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

FORMAT_VERSION = 1
"""Version of these documents. Raise it with an upgrader in `codec.py` whenever a field changes its meaning."""


class Outcome(StrEnum):
    """How a run ended. An out-of-memory run is a result like any other."""

    OK = "ok"
    OOM = "oom"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    DEVICE_LOST = "device_lost"
    FAILED = "failed"
    ABORTED = "aborted"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """Whether the numbers of a run may be believed."""

    VALID = "valid"
    SUSPECT = "suspect"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why an outcome or a verdict is what it is.

    `code` is stable and machine-readable (`sampling_gap`, `throttled`, `killed_by_oom`); `message` is one sentence;
    `figures` holds the numbers behind it.
    """

    code: str
    message: str
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of the model in one repetition. Lengths are in tokens.

    kind `synthetic`: `n_prompt` made-up tokens are prefilled at `n_depth`, then `n_gen` are decoded.
    kind `prompts`: each of `prompts` is one request of up to `n_gen` tokens.
    kind `sustained`: the synthetic request is repeated until `duration_s` have passed.
    """

    kind: str = "synthetic"
    n_prompt: int = 0
    n_gen: int = 0
    n_depth: int = 0
    duration_s: float | None = None
    prompts: tuple[str, ...] = ()
    prompts_name: str | None = None

    @property
    def name(self) -> str:
        """The workload as llama-bench would write it: `pp512`, `tg128 @ d512`, `pp512+tg128`."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the engine is asked to run. None leaves the choice to the session, which records what it chose."""

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
    the device rests before the runner starts and after it ended, where its power is measured. `energy` is `required`
    where a run without a believable energy is of no use, or `optional`; None: required where a power meter outside the
    device watches.
    """

    sensors_hz: float = 10.0
    process_hz: float = 10.0
    power_hz: float | None = None
    baseline_s: float = 2.0
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
class RunSpec:
    """One run that was asked for: one cell of a plan in one session.

    From 0 count `block`, the session's number, `position` in the whole order, and `cell`, the cell's place in the plan.
    `order_seed` is what a random `order` was drawn with. A `reference` run tells of the device; it is no session.
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
    cell: int | None = None
    order: str | None = None
    order_seed: int | None = None
    reference: bool = False

    @property
    def label(self) -> str:
        """What people call the run: model, quantization, workload."""
        return " ".join(filter(None, (self.model, self.quant, self.workload.name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model file, known by what is in it. `sha256` is its identity; the path only says where it lies now.

    `tensor_types` maps a ggml type name to the bytes stored in it: the label "Q4_K_M" never tells.
    `bits_per_weight` is 8 * tensor bytes / parameters. `kv_bytes_per_token` is for an f16 cache.
    `embedding_bytes` are the weights that decoding a token looks up instead of reading: 0 when the embedding also
    serves as the output weights. `n_vocab` and `n_embd` size the engine's compute buffers.
    `notes` are sentences a reader must see: a lossy origin, K-quants that fell back.
    """

    name: str
    quant: str | None
    format: str
    sha256: str
    size_bytes: int
    path: str
    architecture: str | None = None
    n_params: int | None = None
    bits_per_weight: float | None = None
    tensor_types: dict[str, int] = field(default_factory=dict)
    weight_bytes: int | None = None
    embedding_bytes: int | None = None
    n_layers: int | None = None
    n_ctx_train: int | None = None
    n_vocab: int | None = None
    n_embd: int | None = None
    kv_bytes_per_token: int | None = None
    origin_sha256: str | None = None
    recipe: str | None = None
    lossy_origin: bool | None = None
    license: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """One logical CPU as the kernel numbers it.

    `level` is the kind of its core where the kernel ranks the kinds instead of naming clocks (macOS): 0 is the fastest.
    """

    index: int
    max_hz: float | None = None
    core: int | None = None
    package: int | None = None
    governor: str | None = None
    level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a device is and in which state it was found. `device_id` is stable over reboots, `boot_id` is not.

    `cpu_features` are those that every CPU has, as the kernel names them (`asimddp`, `i8mm`, `avx2`). `power_mode` is
    what the device calls its budget of power (`15W` of nvpmodel, `low power` of macOS); `clocks_locked` whether its
    clocks were fixed by hand (jetson_clocks). `swap_free_bytes` is told where the kernel has a swap space of a fixed
    size. None: there is no such thing, or it could not be read.
    """

    device_id: str
    kind: str
    name: str
    os: str
    os_build: str | None
    kernel: str | None
    arch: str
    soc: str | None = None
    cpus: tuple[Cpu, ...] = ()
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_free_bytes: int | None = None
    boot_id: str | None = None
    virtualization: str | None = None
    accelerators: tuple[str, ...] = ()
    cpu_features: tuple[str, ...] = ()
    memory_bandwidth_bytes_per_s: float | None = None
    power_mode: str | None = None
    clocks_locked: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One column of a trace, declared once; afterwards only numbers flow.

    `collector` names the trace (one clock, one rate), `name` the column, `site` where it is measured
    (`cpu0`, `battery`, `x86_pkg_temp`), `source` the file or program that said it.
    `cumulative` marks counters; `wraps_at` is where they start again, in the stream's unit.
    """

    collector: str
    name: str
    quantity: str
    unit: str
    site: str
    source: str
    rate_hz: float
    cumulative: bool = False
    wraps_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a raw number of a device became a quantity: `raw * factor` is the value of the column, in its unit.

    `basis` is a sentence on what decided sign and unit (`discharging, -412000 read: microamperes, negative when
    discharging`); `certain` is False where it had to be guessed.
    """

    column: str
    factor: float
    basis: str
    certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A condition as it was found and as it was asked for, in the device's own words; None: could not be read."""

    name: str
    before: str | None
    asked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of the device's monotonic clock with a meaning; `n_tokens` were processed inside it.

    `phase` is load, tokenize, prefill or decode. `repetition` counts from 0, warm-ups apart from the measured ones.
    """

    phase: str
    t0_ns: int
    t1_ns: int
    repetition: int | None = None
    warmup: bool = False
    n_tokens: int | None = None
    depth: int | None = None

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return (self.t1_ns - self.t0_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of a run. `repetition` None: of the whole run. `value` None: not measured, and `note` says why.

    `uncertainty`, in the unit of the value, is what it may be off by to either side in 95 of 100 cases; None: nobody
    worked it out. `figures` are the numbers behind it.
    """

    name: str
    value: float | None
    unit: str
    repetition: int | None = None
    source: str = "runner"
    note: str | None = None
    uncertainty: float | None = None
    figures: dict[str, float] = field(default_factory=dict)


class Apart(StrEnum):
    """What lies between a session and the one before it on its device: the strongest that does."""

    START = "start"
    BOOT = "boot"
    COOL_DOWN = "cool-down"
    PAUSE = "pause"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A stretch of one device's work on a sweep, whose runs share their luck: the unit of statistics.

    Another begins with each block, each boot and each melt that goes on with the sweep. `number` counts those of this
    device in this sweep from 0; `uid` is its name everywhere. `apart` is `start` where nothing but a new melt separates
    it, or nothing went before; `block` where there was nothing but the next block. `began_utc_ns` is when the gate of
    its first run had opened; `rested_s` how long no run of this store had then been on the device; `temperature_c` the
    hottest plausible sensor's. None: not known.
    """

    uid: str
    sweep_id: str
    device_id: str
    block: int
    number: int
    apart: Apart
    began_utc_ns: int
    boot_id: str | None = None
    rested_s: float | None = None
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """Everything that was known before the runner started. Times on the host are UTC nanoseconds since 1970.

    `clock_offset_ns` is the host's monotonic clock minus the device's, measured over round trips;
    `clock_uncertainty_ns` is half of the shortest round trip. None: not measured. `chosen` names the settings of `spec`
    that the plan had left to melt. `session` None: written before melt kept sessions.
    """

    spec: RunSpec
    started_utc_ns: int
    artifact: Artifact
    device: DeviceFacts
    agent_version: str
    melt_version: str
    streams: tuple[Stream, ...] = ()
    missing: tuple[str, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    knobs: tuple[Knob, ...] = ()
    host: dict[str, str] = field(default_factory=dict)
    clock_offset_ns: int | None = None
    clock_uncertainty_ns: int | None = None
    chosen: tuple[str, ...] = ()
    session: Session | None = None
    version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStop:
    """The end of a run; always written. `used` is what the engine says it really used (threads, backend, context).

    `evidence` maps a name (`stderr`, `exit`, `dmesg`) to text; it is filled for every run that is not ok.
    """

    run_id: str
    ended_utc_ns: int
    outcome: Outcome
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    used: dict[str, object] = field(default_factory=dict)
    evidence: dict[str, str] = field(default_factory=dict)
    version: int = FORMAT_VERSION
