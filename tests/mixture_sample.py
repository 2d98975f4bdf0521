"""A small mixture of experts with random weights: what routes tokens to experts runs for real, its text is noise."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from melt.models.catalog import DATA_DIR

N_LAYERS, N_EXPERTS, WIDTH, HEAD = 2, 4, 256, 64


def write_mixture(path: Path) -> Path:
    """Write a model of two layers with four experts, two of them used, and the vocabulary of the embedded model."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for key, value in {
        "block_count": N_LAYERS,
        "context_length": 1024,
        "embedding_length": WIDTH,
        "feed_forward_length": WIDTH,
        "attention.head_count": WIDTH // HEAD,
        "attention.head_count_kv": 2,
        "rope.dimension_count": HEAD,
        "expert_count": N_EXPERTS,
        "expert_used_count": 2,
    }.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    n_vocab = _copy_vocabulary(writer)
    rng = np.random.default_rng(7)

    def matrix(name: str, *shape: int) -> None:
        values = rng.standard_normal(shape) / np.sqrt(shape[-1])
        writer.add_tensor(name, values.astype(np.float32 if "gate_inp" in name else np.float16))

    matrix("token_embd.weight", n_vocab, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in (f"blk.{i}" for i in range(N_LAYERS)):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
        for name, rows in (("attn_q", WIDTH), ("attn_k", 2 * HEAD), ("attn_v", 2 * HEAD), ("attn_output", WIDTH)):
            matrix(f"{layer}.{name}.weight", rows, WIDTH)
        matrix(f"{layer}.ffn_gate_inp.weight", N_EXPERTS, WIDTH)
        for name in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"):
            matrix(f"{layer}.{name}.weight", N_EXPERTS, WIDTH, WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _copy_vocabulary(writer: gguf.GGUFWriter) -> int:
    fields = gguf.GGUFReader(DATA_DIR / "tiny-pydoc-f16.gguf").fields
    for key, field in fields.items():
        if key.startswith("tokenizer."):
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, sub_type=inner)
    return len(fields["tokenizer.ggml.tokens"].data)
