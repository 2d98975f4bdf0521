"""Models of ONNX made for tests: a small decoder with grouped-query attention, and what numpy says it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = helper.make_opsetid("", 17)
IR_VERSION = 8


@dataclass
class Graph:
    """Nodes and weights of a graph that is being written."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: object, kind: str = "int64") -> str:
        """Add a weight and return its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def __call__(self, op: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        """Add a node of one output and return that output's name."""
        out = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"{op}_{len(self.nodes)}", **attributes))
        return out

    def model(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Make the model and check it."""
        graph = helper.make_graph(self.nodes, "made", list(inputs), list(outputs), self.weights)
        made = helper.make_model(graph, opset_imports=[OPSET], ir_version=IR_VERSION)
        onnx.checker.check_model(made, full_check=True)
        return made


@dataclass
class Decoder:
    """A decoder of two layers whose 4 heads share 2 heads of keys and values, named as optimum's exports are."""

    n_vocab: int = 97
    n_layers: int = 2
    n_ctx: int = 64
    kv_heads: int = 2
    group: int = 2
    head: int = 8
    seed: int = 3

    def __post_init__(self) -> None:
        random = np.random.RandomState(self.seed)

        def weight(*shape: int) -> np.ndarray:
            return (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

        width, kv = self.kv_heads * self.group * self.head, self.kv_heads * self.head
        self.embedding, self.places, self.out = (
            weight(self.n_vocab, width) * 8,
            weight(self.n_ctx, width),
            weight(width, self.n_vocab),
        )
        self.layers = [
            {"q": weight(width, width), "k": weight(width, kv), "v": weight(width, kv), "o": weight(width, width)}
            for _ in range(self.n_layers)
        ]

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Compute the logits of every token at once, without any cache."""
        n = len(tokens)
        x = self.embedding[list(tokens)] + self.places[:n]
        later = np.triu(np.ones((n, n), bool), 1)
        for layer in self.layers:
            q = (x @ layer["q"]).reshape(n, self.kv_heads, self.group, self.head)
            k, v = ((x @ layer[name]).reshape(n, self.kv_heads, self.head) for name in "kv")
            scores = np.einsum("ikgh,jkh->kgij", q, k) / np.sqrt(self.head)
            scores = np.where(later, -np.inf, scores)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            x = np.tanh(x + np.einsum("kgij,jkh->ikgh", shares, v).reshape(n, -1) @ layer["o"])
        return x @ self.out

    def write(self, path: Path, *, positions: bool = True, merged: bool = False, last_only: bool = False) -> Path:
        """Write the model; `merged` with use_cache_branch, `last_only` with logits of the last token alone."""
        g = Graph()
        info, sizes = helper.make_tensor_value_info, ("batch_size", "past_sequence_length + 1")
        inputs = [info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])]
        inputs.append(info("attention_mask", TensorProto.INT64, list(sizes)))
        end = g("ReduceSum", "attention_mask", keepdims=0)
        new = g("Squeeze", g("Slice", g("Shape", "input_ids"), g.constant([1]), g.constant([2])), g.constant([0]))
        begin = g("Sub", end, new)
        zero, one = g.constant(0), g.constant(1)
        places = g("Range", begin, end, one)
        if positions:
            inputs.append(info("position_ids", TensorProto.INT64, ["batch_size", "sequence_length"]))
            x = g("Gather", g.constant(self.places, "float32"), "position_ids")
        else:
            x = g("Gather", g.constant(self.places, "float32"), g("Unsqueeze", places, g.constant([0])))
        x = g("Add", x, g("Gather", g.constant(self.embedding, "float32"), "input_ids"))
        seen = g("LessOrEqual", g("Range", zero, end, one), g("Unsqueeze", places, g.constant([1])))
        outputs = []
        for number, layer in enumerate(self.layers):
            both = {}
            for kind in ("key", "value"):
                shape = ["batch_size", self.kv_heads, "past_sequence_length", self.head]
                past, present = f"past_key_values.{number}.{kind}", f"present.{number}.{kind}"
                inputs.append(info(past, TensorProto.FLOAT, shape))
                flat = g("MatMul", x, g.constant(layer[kind[0]], "float32"))
                now = g("Reshape", flat, g.constant([1, -1, self.kv_heads, self.head]))
                now = g("Transpose", now, perm=[0, 2, 1, 3])
                both[kind] = self._cached(g, past, now, present, merged)
                outputs.append(info(present, TensorProto.FLOAT, [*shape[:2], sizes[1], self.head]))
            q = g(
                "Reshape",
                g("MatMul", x, g.constant(layer["q"], "float32")),
                g.constant([1, -1, self.kv_heads, self.group, self.head]),
            )
            q = g("Transpose", q, perm=[0, 2, 3, 1, 4])
            k, v = (g("Unsqueeze", both[kind], g.constant([2])) for kind in ("key", "value"))
            scores = g("MatMul", q, g("Transpose", k, perm=[0, 1, 2, 4, 3]))
            scores = g("Div", scores, g.constant(np.sqrt(self.head), "float32"))
            scores = g("Where", seen, scores, g.constant(-np.inf, "float32"))
            mixed = g("Transpose", g("MatMul", g("Softmax", scores, axis=-1), v), perm=[0, 3, 1, 2, 4])
            mixed = g("Reshape", mixed, g.constant([1, -1, self.kv_heads * self.group * self.head]))
            x = g("Tanh", g("Add", x, g("MatMul", mixed, g.constant(layer["o"], "float32"))))
        if last_only:
            x = g("Slice", x, g.constant([-1]), g.constant([2**31]), g.constant([1]))
        g("MatMul", x, g.constant(self.out, "float32"), name="logits")
        outputs.insert(0, info("logits", TensorProto.FLOAT, ["batch_size", "logits_length", self.n_vocab]))
        if merged:
            inputs.append(info("use_cache_branch", TensorProto.BOOL, [1]))
        onnx.save(g.model(inputs, outputs), path)
        return path

    @staticmethod
    def _cached(g: Graph, past: str, now: str, present: str, merged: bool) -> str:
        """Append to the cache; a merged decoder does not look at it where `use_cache_branch` is false."""
        if not merged:
            return g("Concat", past, now, name=present, axis=2)
        value = helper.make_empty_tensor_value_info
        branches = {
            "then_branch": helper.make_node("Concat", [past, now], [f"{present}.then"], axis=2),
            "else_branch": helper.make_node("Identity", [now], [f"{present}.else"]),
        }
        graphs = {key: helper.make_graph([node], key, [], [value(node.output[0])]) for key, node in branches.items()}
        return g("If", "use_cache_branch", name=present, **graphs)
