"""Virtual phones on meters whose truth is known: runs on them, and what each run's energies are off by."""

from __future__ import annotations

import math
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from drawn_power import ACCURACY, LATENCY_S, RATE_HZ, Drawn, Power, draw, read_power
from virtual.phone import VirtualPhone

from melt.fleet.finish import assemble
from melt.records import Metric, Window
from melt.targets.android import parse_facts
from melt.telemetry.meters.recording import read_recording
from melt.traces import RunBundle

COLUMNS = ("time_us,v,ma", "time_ns,w", "time_ns,j")
"""What the meter of a phone says; the phones differ in it."""
_S = 1_000_000_000
_METER = Path(__file__).with_name("drawn_meter.py")
_PLAN = """\
name: truth
models:
  - {{model: tiny-pydoc, quants: [q8_0]}}
workloads: [pp8+tg2, pp8+tg40]
repeat: {{warmup: 0, repetitions: 3, sessions: {sessions}}}
sampling: {{energy: required, baseline_s: 2}}
settings: {{threads: 1}}
"""


@dataclass(frozen=True)
class Lab:
    """A folder with the profiles, the truths and the runs of some phones."""

    folder: Path
    worst: bool

    @property
    def profiles(self) -> Path:
        return self.folder / "devices"

    @property
    def kept(self) -> Path:
        return self.folder / "kept"

    def plan(self, runs_each: int) -> Path:
        """Write the plan of so many runs on each phone: a short and a long workload, in turn."""
        path = self.folder / "plan.yaml"
        path.write_text(_PLAN.format(sessions=math.ceil(runs_each / 2)))
        return path

    def name_meter(self, phone: VirtualPhone, columns: str, first_seed: int) -> None:
        """Say that a phone hangs on a meter that plays the seeds from one on."""
        for folder in (self.profiles, self.kept, self._truths(phone)):
            folder.mkdir(parents=True, exist_ok=True)
        words = (sys.executable, _METER, self._truths(phone), columns, phone.pid, first_seed)
        command = [*map(str, words), "worst" if self.worst else "normal"]
        (self.profiles / f"phone-{phone.port}.yaml").write_text(
            f"title: phone {phone.port}\nmatch: {{device_id: {device_id(phone)}}}\n"
            f"meter:\n  kind: lines\n  command: {command}\n  columns: [{columns}]\n"
            f"  rate_hz: {RATE_HZ}\n  latency_s: {LATENCY_S}\n  accuracy: {ACCURACY}\n"
        )

    def _truths(self, phone: VirtualPhone) -> Path:
        return self.folder / f"truth-{phone.port}"

    def now(self, phone: VirtualPhone) -> Drawn:
        """Return the world that a phone is in, or the first of all."""
        seeds = (int(path.name.partition("-")[2]) for path in self._truths(phone).iterdir())
        return draw(max(seeds, default=0), worst=self.worst)

    @contextmanager
    def jittering(self, phones: Sequence[VirtualPhone]) -> Iterator[None]:
        """Let each moment of each link have a latency of its own, up to the world's worst."""
        over, chance = threading.Event(), random.Random(0)

        def change() -> None:
            while not over.wait(0.03):
                for phone in phones:
                    world = self.now(phone)
                    phone.fault.latency(chance.uniform(0, world.to_phone_s), chance.uniform(0, world.from_phone_s))

        changing = threading.Thread(target=change)
        changing.start()
        try:
            yield
        finally:
            over.set()
            changing.join()

    def runs(self) -> list[Path]:
        """Return the folders of all runs, in their order."""
        return sorted(self.kept.iterdir())

    def truth_of(self, bundle: RunBundle) -> Power:
        """Return the power of the world that a run was measured in: that which had begun last."""
        at_ns = bundle.windows[0].t0_ns + ahead_ns(bundle)
        found = [power for power in self._powers(bundle) if power.began_ns < at_ns]
        return max(found, key=lambda power: power.began_ns)

    def _powers(self, bundle: RunBundle) -> Iterable[Power]:
        for profile in self.profiles.iterdir():
            if bundle.start.device.device_id in profile.read_text():
                port = profile.stem.partition("-")[2]
                yield from map(read_power, sorted((self.folder / f"truth-{port}").iterdir()))


def device_id(phone: VirtualPhone) -> str:
    """Return what melt calls a phone."""
    snapshot = {"$ getprop": f"[ro.serialno]: [{phone.serial}]\n".encode()}
    return parse_facts(snapshot, device_id_hint="", kind="adb").device_id


def ahead_ns(bundle: RunBundle) -> int:
    """Return this computer's clock less the phone's: whole seconds, so the truth is known to the nanosecond."""
    return round((bundle.start.clock_offset_ns or 0) / _S) * _S


@dataclass(frozen=True)
class Kept:
    """The folder of a run that was published long ago."""

    path: Path

    @property
    def journal_path(self) -> Path:
        return self.path / "journal"

    def write_document(self, name: str, data: bytes) -> None:
        raise AssertionError(f"{name} is written into a run that has ended")

    def read_document(self, name: str) -> bytes | None:
        path = self.path / name
        return path.read_bytes() if path.exists() else None


@dataclass(frozen=True)
class Checked:
    """A figure of a run, or of one of its repetitions, held against the truth.

    `gainless` is what a meter without an error of its gain would have said, `classless` the uncertainty without its
    class. `doubted`: melt says itself that the clocks contradict each other.
    """

    name: str
    repetition: int | None
    seed: int
    doubted: bool
    time_s: float
    true: float
    reported: float
    uncertainty: float
    gainless: float
    classless: float

    @property
    def holds(self) -> bool:
        return abs(self.reported - self.true) <= self.uncertainty

    @property
    def holds_without_class(self) -> bool:
        """Whether a fat class hides nothing."""
        return abs(self.gainless - self.true) <= self.classless


@dataclass
class Audit:
    """What was checked, a list for each run.

    `missing` are the figures that were refused, `doubts` the runs with each reason of a meter, `signatures` those in
    which the meter saw the agent's burst. `unplayed` are runs in which this computer was too busy to play a meter.
    """

    checked: list[list[Checked]] = field(default_factory=list)
    missing: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    signatures: int = 0
    unplayed: int = 0


Analyse = Callable[[Path], RunBundle]


def audit(lab: Lab, analyse: Analyse = lambda path: assemble(Kept(path)), *, at_most: int | None = None) -> Audit:
    """Hold the runs of a lab, or the first so many, against the truth, as `analyse` has their results."""
    found = Audit()
    for path in lab.runs()[:at_most]:
        bundle = analyse(path)
        if not _was_played(path, lab.truth_of(bundle)):
            found.unplayed += 1
            continue
        reasons = {reason.code for reason in bundle.stop.reasons}
        found.doubts.update(code for code in reasons if code.startswith(("meter_", "energy_")))
        found.signatures += '"quality"' in bundle.attachments["meter.json"]
        found.checked.append(_check(bundle, lab.truth_of(bundle), found.missing, "meter_clock" in reasons))
    return found


def _was_played(path: Path, power: Power) -> bool:
    """Whether lines of both halves of a run came as soon as the profile states: a busy computer starves the meter."""
    recording = read_recording(path)
    if recording is None or len(recording.clock) < 2:
        return False
    late_ns = [one.received_ns - power.measured_ns(one.there_ns) for one in recording.clock]
    half = len(late_ns) // 2
    return max(min(late_ns[:half]), min(late_ns[half:])) <= LATENCY_S * 1e9


def _check(bundle: RunBundle, power: Power, missing: Counter[str], doubted: bool) -> list[Checked]:
    metrics = {(m.name, m.repetition): m for m in bundle.metrics}
    checked: dict[str, list[Checked]] = {}
    unsteady = any(reason.code == "baseline_unsteady" for reason in bundle.stop.reasons)
    for repetition, phases in _repetitions(bundle.windows).items():
        for name, time_s, true in _expected(power, phases, ahead_ns(bundle)):
            if "_net_" in name and unsteady:
                continue  # melt says itself that the rest was disturbed
            metric = metrics[name, repetition]
            if metric.value is None or metric.uncertainty is None:
                missing[name] += 1
                continue
            one = Checked(
                name=name,
                repetition=repetition,
                seed=power.drawn.seed,
                doubted=doubted,
                time_s=time_s,
                true=true,
                reported=metric.value,
                uncertainty=metric.uncertainty,
                gainless=metric.value / power.drawn.gain,
                classless=math.sqrt(max(0.0, metric.uncertainty**2 - metric.figures["u_class"] ** 2)),
            )
            checked.setdefault(name, []).append(one)
    return [one for name, mine in checked.items() for one in (*mine, _of_run(metrics[name, None], mine))]


def _of_run(metric: Metric, repetitions: Sequence[Checked]) -> Checked:
    """Hold a run's own figure against the median of the truths."""
    assert metric.value is not None
    assert metric.uncertainty is not None
    gainless = median(one.gainless for one in repetitions)
    return replace(
        repetitions[0],
        repetition=None,
        time_s=median(one.time_s for one in repetitions),
        true=median(one.true for one in repetitions),
        reported=metric.value,
        uncertainty=metric.uncertainty,
        gainless=gainless,
        classless=max(
            gainless - median(one.gainless - one.classless for one in repetitions),
            median(one.gainless + one.classless for one in repetitions) - gainless,
        ),
    )


def _repetitions(windows: Sequence[Window]) -> dict[int, dict[str, tuple[int, int]]]:
    found: dict[int, dict[str, tuple[int, int]]] = {}
    for window in windows:
        if window.phase in ("prefill", "decode"):
            found.setdefault(window.repetition, {})[window.phase] = (window.t0_ns, window.t1_ns)
    return found


def _expected(power: Power, phases: dict[str, tuple[int, int]], ahead: int) -> Iterator[tuple[str, float, float]]:
    """Yield the name, the length in seconds and the true value of each figure of a repetition."""
    for phase, (t0_ns, t1_ns) in phases.items():
        span = (t0_ns + ahead, t1_ns + ahead)
        time_s, gross_j = (t1_ns - t0_ns) / 1e9, power.energy_j(*span)
        yield f"energy_{phase}_j", time_s, gross_j
        if power.drawn.follows:
            # What a load that comes and goes by itself takes at rest is not what it takes during a run.
            yield f"energy_{phase}_net_j", time_s, gross_j - power.rest_j(*span)
    first, last = min(t for t, _ in phases.values()), max(t for _, t in phases.values())
    yield "power_mean_w", (last - first) / 1e9, power.energy_j(first + ahead, last + ahead) / ((last - first) / 1e9)
