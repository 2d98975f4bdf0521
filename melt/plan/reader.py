"""A plan's YAML to a `Plan`, with every problem named by file and line. Opens no file itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, TypeVar

import yaml

from melt.errors import UsageError
from melt.plan import devices, grids, values, workloads
from melt.plan.model import ModelChoice, Plan, Reference, check_affinity, check_order, check_reference, check_size
from melt.plan.nodes import Problems, compose
from melt.plan.repeats import change_repeat
from melt.records import Conditions, Gate, Repeat, Sampling, Settings, Thresholds, Workload

T = TypeVar("T")

_MODEL_KEYS = ("model", "quants")
_DEVICE_KEYS = ("device", "model", "count", "conditions")
_WORKLOAD_KEYS = ("prompt", "gen", "depth", "prompts", "sustained", "infer", "dims", "inputs")
_NULL_TAG = "tag:yaml.org,2002:null"


def read_plan(
    text: str,
    filename: str,
    *,
    load_prompts: workloads.LoadPrompts | None = None,
    load_inputs: workloads.LoadInputs | None = None,
    load_grid: grids.LoadGrid | None = None,
) -> Plan:
    """Read a plan. `filename` stands in the messages; `load_prompts` gives the text of the prompt files it names.

    `load_inputs` finds files of input tensors, `load_grid` looks up the electricity grid of a country.

    Raises PlanError with all problems, a line each; its `where` is that of the first.
    """
    node = compose(text, filename)
    problems = Problems(filename)
    try:
        plan = _PlanReader(problems, load_prompts, load_inputs, load_grid).plan(
            node, default_name=PurePath(filename).stem
        )
    except _NotedError:
        problems.raise_if_any()
        raise
    problems.raise_if_any()
    return plan


class _NotedError(Exception):
    """A part cannot be read, and the problem is noted: go on with the next part."""


@dataclass(frozen=True, slots=True)
class _DeviceChoice:
    """A device of a plan, with conditions of its own or those of the plan."""

    selector: str
    conditions: tuple[Conditions, ...] | None = None


class _PlanReader:
    """Walks the tree. Every method returns a valid part or notes a problem and raises `_NotedError`."""

    def __init__(
        self,
        problems: Problems,
        load_prompts: workloads.LoadPrompts | None,
        load_inputs: workloads.LoadInputs | None,
        load_grid: grids.LoadGrid | None,
    ) -> None:
        self._problems = problems
        self._load_prompts = load_prompts
        self._load_inputs = load_inputs
        self._load_grid = load_grid

    def plan(self, node: yaml.Node, default_name: str) -> Plan:
        """Read the whole. It is only a plan when nothing was noted."""
        readers: dict[str, Callable[[yaml.Node], object]] = {
            "name": partial(self._value, "name", values.name),
            "devices": partial(self._list, "devices", self._device, label=lambda choice: choice.selector),
            "models": lambda child: self._list("models", self._model, child, label=lambda choice: choice.model),
            "engines": self._names("engines"),
            "workloads": lambda child: self._list("workloads", self._workload, child, label=lambda work: work.name),
            "settings": partial(self._combinations, "settings", Settings, values.SETTINGS),
            "conditions": partial(self._combinations, "conditions", Conditions, values.CONDITIONS),
            "gate": partial(self._record, "gate", Gate, values.GATE),
            "verdict": self._verdict,
            "repeat": self._repeat,
            "sampling": partial(self._record, "sampling", Sampling, values.SAMPLING),
            "order": partial(self._value, "order", values.order),
            "order_seed": partial(self._optional, "order_seed", values.order_seed),
            "reference": self._reference,
            "profile": partial(self._value, "profile", values.truth),
            "grid": partial(self._optional, "grid", partial(grids.read_grid, load_grid=self._load_grid)),
        }
        children = self._mapping("a plan", tuple(readers), node)
        for key in ("models", "workloads"):
            if key not in children:
                self._problems.add(node, f"'{key}' is missing")
        given = self._each(readers, children)
        if "verdict" in given:
            given["thresholds"] = given.pop("verdict")
        chosen = given.pop("devices", ())
        if chosen:
            given["devices"] = tuple(choice.selector for choice in chosen)
        own = {choice.selector: choice.conditions for choice in chosen if choice.conditions is not None}
        plan = Plan(**{"name": default_name, "models": (), "workloads": (), **given}, conditions_on=own)
        self._check(node, lambda: check_size(plan.n_runs))
        self._check(
            children.get("conditions", node), lambda: check_affinity(plan.settings, plan.all_conditions), "conditions"
        )
        self._check(children.get("order_seed", node), lambda: check_order(plan.order, plan.order_seed), "order_seed")
        # Without models or workloads there is something else to be said.
        if plan.models and plan.workloads:
            self._check(children.get("reference", node), lambda: check_reference(plan), "reference")
        return plan

    def _names(self, what: str) -> Callable[[yaml.Node], tuple[str, ...]]:
        return partial(self._list, what, partial(self._value, what, values.name))

    def _device(self, node: yaml.Node) -> _DeviceChoice:
        if isinstance(node, yaml.ScalarNode):
            return _DeviceChoice(self._value("devices", devices.device, node))
        children = self._mapping("a device", _DEVICE_KEYS, node)
        if ("device" in children) == ("model" in children):
            raise self._wrong(node, "a device is named by one of the keys 'device' (its address) and 'model'")
        if "device" in children and "count" in children:
            raise self._wrong(node, "the key 'count' belongs to a device by its model")
        readers: dict[str, Callable[[yaml.Node], object]] = {
            "device": partial(self._value, "device", devices.device),
            "conditions": partial(self._combinations, "conditions", Conditions, values.CONDITIONS),
            "model": partial(self._value, "model", values.name),
            "count": partial(self._value, "count", devices.count),
        }
        given = self._each(readers, children)
        if len(given) < len(children):
            raise _NotedError
        own = given.pop("conditions", None)
        return _DeviceChoice(given["device"] if "device" in given else devices.ByModel(**given).selector, own)

    def _model(self, node: yaml.Node) -> ModelChoice:
        if isinstance(node, yaml.ScalarNode):
            return ModelChoice(model=self._value("models", values.name, node))
        children = self._mapping("a model", _MODEL_KEYS, node)
        if "model" not in children:
            raise self._wrong(node, "a model needs the key 'model'")
        model = self._value("model", values.name, children["model"])
        if "quants" not in children:
            return ModelChoice(model=model)
        read_quant = partial(self._optional, "quants", values.quant)
        return ModelChoice(model=model, quants=self._list("quants", read_quant, children["quants"], null_item=True))

    def _workload(self, node: yaml.Node) -> Workload:
        if isinstance(node, yaml.ScalarNode):
            read = partial(workloads.read_workload, load=self._load_prompts, load_inputs=self._load_inputs)
            return self._value("workloads", read, node)
        children = self._mapping("a workload", _WORKLOAD_KEYS, node)
        readers: dict[str, Callable[[yaml.Node], object]] = {
            "prompt": partial(self._value, "prompt", workloads.tokens),
            "gen": partial(self._value, "gen", workloads.tokens),
            "depth": partial(self._value, "depth", workloads.depth),
            "prompts": partial(self._value, "prompts", values.name),
            "sustained": partial(self._value, "sustained", values.duration),
            "infer": partial(self._value, "infer", workloads.requests),
            "dims": self._dims,
            "inputs": partial(self._value, "inputs", values.name),
        }
        given = self._each(readers, children)
        if len(given) < len(children):
            raise _NotedError
        return self._guard(
            node, "workloads", lambda: workloads.from_fields(given, self._load_prompts, self._load_inputs)
        )

    def _dims(self, node: yaml.Node) -> dict[str, int]:
        """Read the sizes of symbolic dimensions, whose names are the model's."""
        names = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        children = self._mapping("dims", [name for name in names if isinstance(name, str)], node)
        dims = {}
        for name, child in children.items():
            self._guard(child, "dims", partial(workloads.dimension, name))
            dims[name] = self._value(f"dims: {name}", workloads.size, child)
        return dims

    def _repeat(self, node: yaml.Node) -> Repeat:
        children = self._mapping("repeat", tuple(values.REPEAT), node)
        readers: dict[str, Callable[[yaml.Node], object]] = {
            key: partial(self._optional if key == "until_ci" else self._value, key, read)
            for key, read in values.REPEAT.items()
        }
        given = self._each(readers, children)
        if len(given) < len(children):
            raise _NotedError
        return self._guard(node, "repeat", lambda: change_repeat(Repeat(), given))

    def _verdict(self, node: yaml.Node) -> Thresholds:
        children = self._mapping("verdict", (*values.THRESHOLDS, "invalid"), node)
        readers: dict[str, Callable[[yaml.Node], object]] = {
            key: partial(self._value, key, read) for key, read in values.THRESHOLDS.items()
        }
        readers["invalid"] = partial(self._list, "invalid", partial(self._value, "invalid", values.doubt))
        return Thresholds(**self._each(readers, children))

    def _reference(self, node: yaml.Node) -> Reference | None:
        if isinstance(node, yaml.ScalarNode):
            return Reference() if not _is_null(node) and self._value("reference", values.truth, node) else None
        return self._record("reference", Reference, values.REFERENCE, node)

    def _combinations(
        self, what: str, make: Callable[..., T], readers: Mapping[str, values.Reader[object]], node: yaml.Node
    ) -> tuple[T, ...]:
        """Read a mapping whose values may be lists, or a list of such mappings; make one of each combination."""
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not entries:
            raise self._wrong(node, f"{what}: the list is empty")
        swept = [self._swept(what, make(), readers, entry) for entry in entries]
        # Counted before they are made: a few lists and aliases can ask for millions.
        n_made = sum(math.prod(len(choices) for choices in entry.values()) for entry in swept)
        self._check(node, lambda: check_size(n_made))
        return tuple(
            make(**dict(zip(entry, chosen, strict=True)))
            for entry in swept
            for chosen in itertools.product(*entry.values())
        )

    def _swept(
        self, what: str, default: object, readers: Mapping[str, values.Reader[object]], node: yaml.Node
    ) -> dict[str, tuple[Any, ...]]:
        children = self._mapping(what, tuple(readers), node)
        return self._each({key: self._choices(key, read, default) for key, read in readers.items()}, children)

    def _choices(
        self, key: str, read: values.Reader[object], default: object
    ) -> Callable[[yaml.Node], tuple[object, ...]]:
        if getattr(default, key) is None:
            return partial(self._list, key, partial(self._optional, key, read), null_item=True)
        return partial(self._list, key, partial(self._value, key, read))

    def _record(
        self, what: str, make: Callable[..., T], readers: Mapping[str, values.Reader[object]], node: yaml.Node
    ) -> T:
        """Read a mapping of single values; null may stand where it is the default."""
        children = self._mapping(what, tuple(readers), node)
        default = make()
        read = {
            key: partial(self._optional if getattr(default, key) is None else self._value, key, reader)
            for key, reader in readers.items()
        }
        return make(**self._each(read, children))

    def _each(
        self, readers: Mapping[str, Callable[[yaml.Node], object]], children: Mapping[str, yaml.Node]
    ) -> dict[str, Any]:
        """Read every child with the reader of its key; leave out those that are wrong."""
        given = {}
        for key, child in children.items():
            try:
                given[key] = readers[key](child)
            except _NotedError:
                continue
        return given

    def _mapping(self, what: str, keys: Sequence[str], node: yaml.Node) -> dict[str, yaml.Node]:
        """Return the children by key; note unknown keys and those given twice."""
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, f"{what} must be a mapping (key: value), found {_describe(node)}")
        children: dict[str, yaml.Node] = {}
        lines: dict[str, int] = {}
        for key_node, child in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else _describe(key_node)
            if key not in keys:
                hint = values.nearest(key, keys) or f": {what} has {', '.join(keys)}"
                self._problems.add(key_node, f"unknown key {values.shown(key)}{hint}")
            elif key in children:
                self._problems.add(key_node, f"the key '{key}' is given twice (first in line {lines[key]})")
            else:
                children[key] = child
                lines[key] = key_node.start_mark.line + 1
        return children

    def _list(
        self,
        what: str,
        read: Callable[[yaml.Node], T],
        node: yaml.Node,
        *,
        label: Callable[[T], str] = lambda item: "null" if item is None else str(item),
        null_item: bool = False,
    ) -> tuple[T, ...]:
        """Read a list, or a single value as a list of one; note an empty list and what is listed twice."""
        is_list = isinstance(node, yaml.SequenceNode)
        if _is_null(node) and not null_item:
            raise self._wrong(node, f"{what}: the value is missing")
        if is_list and not node.value:
            raise self._wrong(node, f"{what}: the list is empty")
        items: dict[str, T] = {}
        lines: dict[str, int] = {}
        for child in node.value if is_list else [node]:
            try:
                item = read(child)
            except _NotedError:
                continue
            name = label(item)
            if name in items:
                self._problems.add(child, f"{what}: {values.shown(name)} is listed twice (first in line {lines[name]})")
            items[name] = item
            lines.setdefault(name, child.start_mark.line + 1)
        return tuple(items.values())

    def _optional(self, what: str, read: values.Reader[T], node: yaml.Node) -> T | None:
        return None if _is_null(node) else self._value(what, read, node)

    def _value(self, what: str, read: values.Reader[T], node: yaml.Node) -> T:
        """Read one value from its text: YAML's own idea of types (`on`, `1:30`, `010`) does not count."""
        if not isinstance(node, yaml.ScalarNode):
            raise self._wrong(node, f"{what}: expected one value, found {_describe(node)}")
        if _is_null(node):
            raise self._wrong(node, f"{what}: the value is missing")
        return self._guard(node, what, lambda: read(node.value))

    def _guard(self, node: yaml.Node, what: str, make: Callable[[], T]) -> T:
        try:
            return make()
        except UsageError as error:
            raise self._wrong(node, f"{what}: {error}") from error

    def _check(self, node: yaml.Node, check: Callable[[], None], what: str = "") -> None:
        try:
            check()
        except UsageError as error:
            raise self._wrong(node, f"{what}: {error}" if what else str(error)) from error

    def _wrong(self, node: yaml.Node, problem: str) -> _NotedError:
        self._problems.add(node, problem)
        return _NotedError()


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL_TAG


def _describe(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if _is_null(node) else values.shown(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
