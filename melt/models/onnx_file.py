"""Read what an ONNX file says of itself: inputs, operators and the table of weights, without loading the weights.

Fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the package `onnx` is not needed, so that a
host without it can plan runs of such a model. Weights count wherever they stand: as initializers, as constants between
the nodes, and in the bodies of branches and loops.
"""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from melt.errors import ModelError
from melt.models.wire import BYTES, VARINT, Wire, signed
from melt.records.artifact import ModelTensor

_MAX_DEPTH = 32
_MAX_ITEMS = 1_000_000
"""Nodes and tensors: exported models have some ten thousand."""

_MAX_DIMS = 32

_MAX_LENGTH = 1 << 40
"""No dimension of a model is longer."""

TYPES: dict[int, tuple[str, str, int]] = {
    1: ("float", "FP32", 32),
    2: ("uint8", "UINT8", 8),
    3: ("int8", "INT8", 8),
    4: ("uint16", "UINT16", 16),
    5: ("int16", "INT16", 16),
    6: ("int32", "INT32", 32),
    7: ("int64", "INT64", 64),
    8: ("string", "STRING", 8),
    9: ("bool", "BOOL", 8),
    10: ("float16", "FP16", 16),
    11: ("double", "FP64", 64),
    12: ("uint32", "UINT32", 32),
    13: ("uint64", "UINT64", 64),
    14: ("complex64", "COMPLEX64", 64),
    15: ("complex128", "COMPLEX128", 128),
    16: ("bfloat16", "BF16", 16),
    17: ("float8e4m3fn", "FP8", 8),
    18: ("float8e4m3fnuz", "FP8", 8),
    19: ("float8e5m2", "FP8", 8),
    20: ("float8e5m2fnuz", "FP8", 8),
    21: ("uint4", "UINT4", 4),
    22: ("int4", "INT4", 4),
    23: ("float4e2m1", "FP4", 4),
    24: ("float8e8m0", "FP8", 8),
    25: ("uint2", "UINT2", 2),
    26: ("int2", "INT2", 2),
}
"""By the number of TensorProto.DataType: ONNX's word, ours for weights, bits of an element."""

_PLAIN = ("FP32", "FP64", "COMPLEX64", "COMPLEX128")


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor in the file. `type` is one of ours: FP32, INT8, ..."""

    name: str
    dims: tuple[int, ...]
    type: str
    size_bytes: int

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        return prod(self.dims)

    @property
    def is_matrix(self) -> bool:
        """Whether it is more than one row, which is what levels are about; a bias spread over an image is not."""
        return sum(dim > 1 for dim in self.dims) > 1


@dataclass(frozen=True, slots=True)
class Packed:
    """A matrix of `columns` x `rows` that a MatMulNBits node reads from a tensor of bytes, `bits` for a weight."""

    rows: int
    columns: int
    bits: int


@dataclass(slots=True)
class OnnxModel:
    """Everything but the weights themselves. `packed` goes by the name of the tensor that holds the bytes.

    `scales` are the names of tensors that other weights are scaled by. `looked_up` are those of which a node picks rows
    (Gather), `multiplied` those that any node takes as a whole.
    """

    producer: str | None = None
    opsets: dict[str, int] = field(default_factory=dict)
    inputs: tuple[ModelTensor, ...] = ()
    outputs: tuple[ModelTensor, ...] = ()
    weights: list[Weight] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    packed: dict[str, Packed] = field(default_factory=dict)
    scales: set[str] = field(default_factory=set)
    looked_up: set[str] = field(default_factory=set)
    multiplied: set[str] = field(default_factory=set)


def read_model(path: Path) -> OnnxModel:
    """Read an ONNX file but for its weights. Raises ModelError, also where weights lie in other files."""
    try:
        # A pipe would block on open, a device never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path} is not a file: a model is one ONNX file")
        with path.open("rb") as file:
            return _Reader(path, Wire(file, lambda problem: _damaged(path, problem))).model()
    except FileNotFoundError:
        raise ModelError(f"there is no model file {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror or error}") from error


class _Reader:
    """Walks over the messages of a model."""

    def __init__(self, path: Path, wire: Wire) -> None:
        self._path = path
        self._wire = wire
        self._found = OnnxModel()
        self._n_items = 0

    def model(self) -> OnnxModel:
        found, graphs, producer = self._found, 0, ["", ""]
        for number, kind, value in self._wire.fields(self._wire.size_bytes):
            if number in (2, 3) and kind == BYTES:
                producer[number - 2] = self._wire.text(value, "the producer")
            elif number == 7 and kind == BYTES:
                graphs += 1
                self._graph(value, 0)
            elif number == 8 and kind == BYTES:
                self._opset(value)
            elif number == 25 and kind == BYTES:
                self._function(value)
        if graphs != 1 or not found.opsets:
            raise ModelError(f"{self._path} is not an ONNX file: {self._what_it_is()}")
        if not found.operators:
            raise self._damaged("its graph has no nodes")
        found.producer = " ".join(filter(None, producer)) or None
        return found

    def _what_it_is(self) -> str:
        with self._path.open("rb") as file:
            head = file.read(16)
        if not head:
            return "it is empty"
        if head.startswith(b"version "):
            return "it is a Git LFS pointer, fetch the file itself (git lfs pull)"
        if head.startswith(b"ORTM", 4):
            return "it is in onnxruntime's own format (ORT), take the ONNX file that it was made from"
        return "it holds no graph, or does not say which operator set it uses"

    def _opset(self, length: int) -> None:
        domain, version = "", 0
        for number, kind, value in self._wire.message(length):
            if number == 1 and kind == BYTES:
                domain = self._wire.text(value, "an operator set")
            elif number == 2 and kind == VARINT:
                version = signed(value)
        if not 0 < version < 1 << 31:
            raise self._damaged(f"its version of the operator set {domain or 'ai.onnx'!r} is {version}")
        self._found.opsets[domain or "ai.onnx"] = version

    def _graph(self, length: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise self._damaged(f"more than {_MAX_DEPTH} graphs lie within each other")
        inputs: list[ModelTensor] = []
        outputs: list[ModelTensor] = []
        initialized = set()
        for number, kind, value in self._wire.message(length):
            if kind != BYTES:
                continue
            if number == 1:
                self._node(value, depth)
            elif number == 5:
                initialized.add(self._tensor(value))
            elif number == 11 and depth == 0:
                inputs.append(self._value_info(value))
            elif number == 12 and depth == 0:
                outputs.append(self._value_info(value))
            elif number == 15:
                raise self._damaged("it has sparse weights, which melt does not read")
        if depth == 0:
            # Files older than IR version 4 list the weights among the inputs.
            self._found.inputs = tuple(one for one in inputs if one.name not in initialized)
            self._found.outputs = tuple(outputs)
            if len({one.name for one in self._found.inputs}) < len(self._found.inputs):
                raise self._damaged("the name of an input is repeated")

    def _function(self, length: int) -> None:
        for number, kind, value in self._wire.message(length):
            if number == 7 and kind == BYTES:
                self._node(value, 1)

    def _node(self, length: int, depth: int) -> None:
        self._count_item()
        inputs: list[str] = []
        outputs: list[str] = []
        operator = ""
        numbers: dict[str, int] = {}
        before = len(self._found.weights)
        for number, kind, value in self._wire.message(length):
            if kind != BYTES:
                continue
            if number == 1 and len(inputs) < 8:
                inputs.append(self._wire.text(value, "the name of an input"))
            elif number == 2 and not outputs:
                outputs.append(self._wire.text(value, "the name of an output"))
            elif number == 4:
                operator = self._wire.text(value, "the name of an operator")
            elif number == 5:
                self._attribute(value, depth, numbers)
        self._found.operators[operator] += 1
        table = inputs[:1] if operator == "Gather" else []
        self._found.looked_up.update(table)
        self._found.multiplied.update(inputs[len(table) :])
        if operator == "Constant" and outputs and len(self._found.weights) == before + 1:
            constant = self._found.weights[before]
            self._found.weights[before] = Weight(outputs[0], constant.dims, constant.type, constant.size_bytes)
        elif operator == "MatMulNBits" and len(inputs) > 2:
            self._found.packed[inputs[1]] = self._packed(numbers)
            self._found.scales.update(inputs[2:])
        elif operator in ("DequantizeLinear", "QuantizeLinear"):
            self._found.scales.update(inputs[1:])

    def _packed(self, numbers: dict[str, int]) -> Packed:
        rows, columns, bits = numbers.get("N", 0), numbers.get("K", 0), numbers.get("bits", 4)
        if not (0 < rows < _MAX_LENGTH and 0 < columns < _MAX_LENGTH and bits in (2, 4, 8)):
            raise self._damaged(f"a MatMulNBits node has {rows} x {columns} weights of {bits} bits")
        return Packed(rows, columns, bits)

    def _attribute(self, length: int, depth: int, numbers: dict[str, int]) -> None:
        name = ""
        for number, kind, value in self._wire.message(length):
            if number == 1 and kind == BYTES:
                name = self._wire.text(value, "the name of an attribute")
            elif number == 3 and kind == VARINT:
                numbers[name] = signed(value)
            elif number in (5, 10) and kind == BYTES:
                self._tensor(value)
            elif number in (6, 11) and kind == BYTES:
                self._graph(value, depth + 1)

    def _tensor(self, length: int) -> str:
        self._count_item()
        dims: list[int] = []
        name, number_of_type, raw_bytes, other_bytes = "", 0, None, 0
        for number, kind, value in self._wire.message(length):
            if number == 1 and kind == VARINT:
                dims.append(signed(value))
            elif number == 1 and kind == BYTES:
                dims += self._wire.integers(value, _MAX_DIMS, "the shape of a tensor")
            elif number == 2 and kind == VARINT:
                number_of_type = value
            elif number == 8 and kind == BYTES:
                name = self._wire.text(value, "the name of a tensor")
            elif number == 9 and kind == BYTES:
                raw_bytes = value
            elif number in (4, 5, 6, 7, 10, 11):
                other_bytes += value if kind == BYTES else 8
            elif number == 13 or (number == 14 and value):
                raise ModelError(
                    f"{self._path} keeps weights in other files: melt knows a model by one file; put them into it with "
                    "onnx.save(onnx.load(PATH), NEW), which holds up to 2 GiB"
                )
        self._found.weights.append(self._weight(name, tuple(dims), number_of_type, raw_bytes, other_bytes))
        return name

    def _weight(
        self, name: str, dims: tuple[int, ...], number_of_type: int, raw_bytes: int | None, other_bytes: int
    ) -> Weight:
        if number_of_type not in TYPES:
            raise self._damaged(f"tensor {_shown(name)} is of the unknown type {number_of_type}")
        _, type_, bits = TYPES[number_of_type]
        if len(dims) > _MAX_DIMS or any(not 0 <= dim < _MAX_LENGTH for dim in dims):
            raise self._damaged(f"tensor {_shown(name)} has an impossible shape")
        n_bits = prod(dims) * bits
        size_bytes = other_bytes if type_ == "STRING" else (n_bits + 7) // 8
        # Floats of 32 bits and more stand as they are; others that are not raw take a byte each, or share one.
        least_bits = bits if bits < 8 or type_ in _PLAIN else 8
        sound = size_bytes == raw_bytes if raw_bytes is not None else prod(dims) * least_bits <= 8 * other_bytes
        if not sound:
            held = other_bytes if raw_bytes is None else raw_bytes
            shape = "x".join(map(str, dims)) or "one number"
            raise self._damaged(f"tensor {_shown(name)} of shape {shape} cannot be {type_} in {held} bytes")
        return Weight(name, dims, type_, size_bytes)

    def _value_info(self, length: int) -> ModelTensor:
        name, type_, shape = "", "?", None
        for number, kind, value in self._wire.message(length):
            if number == 1 and kind == BYTES:
                name = self._wire.text(value, "the name of an input")
            elif number == 2 and kind == BYTES:
                type_, shape = self._type(value)
        if shape is not None:
            shape = tuple(f"{name}.{axis}" if dim is None else dim for axis, dim in enumerate(shape))
        return ModelTensor(name=name, type=type_, shape=shape)

    def _type(self, length: int) -> tuple[str, tuple[int | str | None, ...] | None]:
        for number, kind, value in self._wire.message(length):
            if number == 1 and kind == BYTES:
                return self._tensor_type(value)
        return "not a tensor", None

    def _tensor_type(self, length: int) -> tuple[str, tuple[int | str | None, ...] | None]:
        type_, shape = "?", None
        for number, kind, value in self._wire.message(length):
            if number == 1 and kind == VARINT:
                type_ = TYPES[value][0] if value in TYPES else "?"
            elif number == 2 and kind == BYTES:
                shape = tuple(self._dim(size) for one, of, size in self._wire.message(value) if (one, of) == (1, BYTES))
        return type_, shape

    def _dim(self, length: int) -> int | str | None:
        """Read a dimension: its length, its name, None for one that has neither; -1 and "?" are neither."""
        found: int | str | None = None
        for number, kind, value in self._wire.message(length):
            if number == 1 and kind == VARINT:
                found = signed(value) if 0 <= signed(value) < _MAX_LENGTH else None
            elif number == 2 and kind == BYTES:
                name = self._wire.text(value, "the name of a dimension")
                found = None if name in ("", "?") else name
        return found

    def _count_item(self) -> None:
        self._n_items += 1
        if self._n_items > _MAX_ITEMS:
            raise self._damaged(f"it has more than {_MAX_ITEMS} nodes and tensors")

    def _damaged(self, problem: str) -> ModelError:
        return _damaged(self._path, problem)


def _damaged(path: Path, problem: str) -> ModelError:
    return ModelError(f"{path} is not a sound ONNX file: {problem}; fetch it again")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 64 else name[:61] + "...")
