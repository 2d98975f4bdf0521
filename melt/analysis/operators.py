"""Where the time of a run under the profiler went: by operator, by part of the model, by node, by who computed it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melt.engines.profile import Operator, Profile
from melt.records import Metric, Stream, Window
from melt.traces import Times, Trace, Values

OPERATORS = "operators"
"""The collector's name of the trace with a row for each time that a node was computed."""

DOCUMENT = "operators.json"
"""The attachment that says which node is which, and who timed them."""

PHASES: Mapping[str, str] = MappingProxyType(
    {"prefill": "prefill_tps", "decode": "decode_tps", "inference": "inferences_per_s"}
)
"""The phases that are measured, and the rate of each: what the profiler cost shows in it."""

_STALLED = 10
_COLUMNS = (
    ("node", "count", "1"),
    ("duration_s", "duration", "s"),
    ("repetition", "count", "1"),
    ("warmup", "state", "1"),
)
_LAYERS = re.compile(r"(?<=[A-Za-z_)])-\d+\b|(?<=_l)\d+\b|(?<=layers[./])\d+|(?<=layer[._])\d+|(?<=blocks[./])\d+")
_UNNAMED = re.compile(r"node_\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiler:
    """Who timed the nodes: see melt.engines.profile.Profile."""

    source: str
    operators: tuple[Operator, ...]
    left_out: int = 0
    clock_uncertainty_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is taken together: `total_s` in `count` computations, `share` of the time of all nodes of its phase."""

    key: tuple[str | None, ...]
    share: float
    total_s: float
    count: int

    @property
    def mean_s(self) -> float:
        """Mean length of one computation."""
        return self.total_s / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase, warm-ups left out: how long it lasted, how much of that lay in nodes, and in which.

    `n_tokens` None: it is not one of tokens. `rows` have most time first. Of all computations `stalled` took more than
    ten times the median of their node, `stalled_s` together: something else had the processor.
    """

    name: str
    windows: int
    wall_s: float
    nodes_s: float
    stalled_s: float
    stalled: int
    n_tokens: int | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the profiler cost a phase: its rate under the profiler, and without, in a run of the same cell."""

    phase: str
    profiled: float
    unprofiled: float
    unit: str
    run_id: str


def operator_trace(profile: Profile) -> Trace:
    """Return a row for each time that a node was computed, by when that began."""
    t_ns, order = np.array(profile.t0_ns, np.int64), np.argsort(np.array(profile.t0_ns, np.int64), kind="stable")
    values = (
        np.array(profile.node, np.float64),
        np.array(profile.ns, np.int64) / 1e9,
        np.array(profile.repetition, np.float64),
        np.array(profile.warmup, np.float64),
    )
    return Trace(
        collector=OPERATORS,
        t_ns=t_ns[order],
        columns={name: column[order] for (name, _, _), column in zip(_COLUMNS, values, strict=True)},
        streams=tuple(
            Stream(
                collector=OPERATORS,
                name=name,
                quantity=quantity,
                unit=unit,
                site="runner",
                source=profile.source,
                rate_hz=0.0,
            )
            for name, quantity, unit in _COLUMNS
        ),
    )


def document_of(profile: Profile) -> str:
    """Write what the trace's column `node` counts, and who timed it."""
    told = Profiler(
        source=profile.source,
        operators=profile.operators,
        left_out=profile.left_out,
        clock_uncertainty_ns=profile.clock_uncertainty_ns,
    )
    return json.dumps(asdict(told), ensure_ascii=False, separators=(",", ":"))


def read_document(text: str | bytes) -> Profiler:
    """Read back what `document_of` wrote."""
    told: dict[str, Any] = json.loads(text)
    return Profiler(**{**told, "operators": tuple(Operator(**one) for one in told["operators"])})


def _part(operator: Operator) -> tuple[str | None, ...]:
    """Return the operator and its name without the number of its layer: nodes that do the same in each."""
    name = _LAYERS.sub(lambda found: "-*" if found[0].startswith("-") else "*", operator.name)
    return operator.op, "" if _UNNAMED.match(name) else name, operator.detail


KEYS: Mapping[str, tuple[tuple[str, ...], Callable[[Operator], tuple[str | None, ...]]]] = MappingProxyType(
    {
        "operator": (("operator",), lambda o: (o.op,)),
        "type": (("operator", "type"), lambda o: (o.op, o.detail)),
        "part": (("operator", "part", "type"), _part),
        "node": (("operator", "node", "type"), lambda o: (o.op, o.name, o.detail)),
        "backend": (("backend", "operator"), lambda o: (o.place, o.op)),
    }
)
"""What nodes may be taken together by: what the columns are called, and what is the same of those in a row."""


def phases(trace: Trace, profiler: Profiler, windows: Iterable[Window], by: str) -> list[Phase]:
    """Return the measured phases, by one of `KEYS`, each node counted where its middle lies.

    Where nodes at the end could not be kept, phases end before them: nothing is told of time that nobody looked into.
    """
    _, key_of = KEYS[by]
    keys = [key_of(operator) for operator in profiler.operators]
    names = list(dict.fromkeys(keys))
    place = {key: i for i, key in enumerate(names)}
    group_of = np.array([place[key] for key in keys], np.int64)
    node, length_s = trace.columns["node"].astype(np.int64), trace.columns["duration_s"]
    middle_ns = trace.t_ns + (length_s * 5e8).astype(np.int64)
    measured = sorted((w for w in windows if w.phase in PHASES and not w.warmup), key=lambda w: w.t0_ns)
    found = []
    for phase in dict.fromkeys(w.phase for w in measured):
        own = [w for w in measured if w.phase == phase]
        if profiler.left_out and len(trace.t_ns):
            own = _until(own, int((trace.t_ns + (length_s * 1e9).astype(np.int64)).max()))
        if not own:
            continue
        inside = _inside(middle_ns, own)
        groups = group_of[node[inside]]
        stalled_s = _stalled(node[inside], length_s[inside])
        totals_s = np.bincount(groups, weights=length_s[inside], minlength=len(names))
        counts = np.bincount(groups, minlength=len(names))
        nodes_s = float(totals_s.sum())
        rows = [
            Row(
                key=names[i],
                share=float(totals_s[i]) / nodes_s if nodes_s else 0.0,
                total_s=float(totals_s[i]),
                count=int(counts[i]),
            )
            for i in np.argsort(-totals_s, kind="stable")
            if counts[i]
        ]
        tokens = [w.n_tokens for w in own if w.n_tokens is not None]
        found.append(
            Phase(
                name=phase,
                windows=len(own),
                wall_s=sum(w.duration_s for w in own),
                nodes_s=nodes_s,
                stalled_s=float(stalled_s.sum()),
                stalled=len(stalled_s),
                n_tokens=sum(tokens) if tokens else None,
                rows=tuple(rows),
            )
        )
    return found


def _until(windows: Sequence[Window], end_ns: int) -> list[Window]:
    """Return what of some windows lies before the end of the last node that was kept.

    Of one that ends behind it nobody knows how many tokens came before: it is left out where there are others.
    """
    whole = [w for w in windows if w.t1_ns <= end_ns]
    cut = [replace(w, t1_ns=end_ns, n_tokens=None) for w in windows if w.t0_ns < end_ns < w.t1_ns]
    return whole if whole and whole[0].n_tokens is not None else whole + cut


def _inside(t_ns: Times, windows: Sequence[Window]) -> NDArray[np.bool_]:
    """Say which moments lie in one of some windows, which follow one another."""
    last = np.searchsorted(np.array([w.t0_ns for w in windows], np.int64), t_ns, "right") - 1
    return (last >= 0) & (t_ns <= np.array([w.t1_ns for w in windows], np.int64)[last])


def _stalled(node: NDArray[np.int64], length_s: Values) -> Values:
    """Return the lengths of the computations that took more than ten times the median of their node."""
    order = np.lexsort((length_s, node))
    node, length_s = node[order], length_s[order]
    firsts = np.flatnonzero(np.diff(node, prepend=-1))
    counts = np.diff(np.append(firsts, len(node)))
    return length_s[length_s > _STALLED * np.repeat(length_s[firsts + counts // 2], counts)]


def costs(profiled: Sequence[Metric], unprofiled: Sequence[Metric], run_id: str) -> list[Cost]:
    """Return what the profiler cost each phase whose rate both runs know; `run_id` is of the one without it."""
    with_it, without = ({m.name: m for m in side if m.repetition is None} for side in (profiled, unprofiled))
    found = []
    for phase, name in PHASES.items():
        slow, fast = (None if name not in side else side[name].value for side in (with_it, without))
        if slow and fast:
            found.append(Cost(phase=phase, profiled=slow, unprofiled=fast, unit=with_it[name].unit, run_id=run_id))
    return found
