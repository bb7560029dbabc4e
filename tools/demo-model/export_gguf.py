#!/usr/bin/env python3
"""Writes a training checkpoint as a GGUF file of the qwen3moe architecture."""
import argparse
import json
import pathlib

import torch

import gguf
from bpe import Tokenizer
from model import Geometry

NAME = "npumoe tales"
FILE_TYPES = {"f16": (gguf.F16, 1), "bf16": (gguf.BF16, 32), "q8_0": (gguf.Q8_0, 7)}
NORMAL, CONTROL = 1, 3


def general(file_type):
    return {
        "general.architecture": (gguf.STRING, "qwen3moe"),
        "general.type": (gguf.STRING, "model"),
        "general.name": (gguf.STRING, NAME),
        "general.description": (gguf.STRING, "Small story model trained from scratch on public-domain books"),
        "general.license": (gguf.STRING, "mit"),
        "general.size_label": (gguf.STRING, "30M"),
        "general.file_type": (gguf.U32, file_type),
        "general.quantization_version": (gguf.U32, 2),
        "general.alignment": (gguf.U32, gguf.ALIGNMENT),
    }


def architecture(g):
    integers = {
        "block_count": g.layers, "context_length": g.context, "embedding_length": g.width,
        "feed_forward_length": g.expert_width * g.chosen, "attention.head_count": g.heads,
        "attention.head_count_kv": g.groups, "attention.key_length": g.head_width,
        "attention.value_length": g.head_width, "expert_count": g.experts, "expert_used_count": g.chosen,
        "expert_feed_forward_length": g.expert_width, "vocab_size": g.vocabulary, "rope.dimension_count": g.head_width,
    }
    floats = {"rope.freq_base": g.theta, "attention.layer_norm_rms_epsilon": 1e-6}
    return {**{f"qwen3moe.{k}": (gguf.U32, v) for k, v in integers.items()},
            **{f"qwen3moe.{k}": (gguf.FLOAT, v) for k, v in floats.items()}}


def vocabulary(tokenizer):
    kinds = [NORMAL] * tokenizer.eot + [CONTROL]
    return {
        "tokenizer.ggml.model": (gguf.STRING, "gpt2"),
        "tokenizer.ggml.pre": (gguf.STRING, "qwen2"),
        "tokenizer.ggml.tokens": (gguf.ARRAY, (gguf.STRING, tokenizer.tokens)),
        "tokenizer.ggml.token_type": (gguf.ARRAY, (gguf.I32, kinds)),
        "tokenizer.ggml.merges": (gguf.ARRAY, (gguf.STRING, [f"{a} {b}" for a, b in tokenizer.merges])),
        "tokenizer.ggml.bos_token_id": (gguf.U32, tokenizer.eot),
        "tokenizer.ggml.eos_token_id": (gguf.U32, tokenizer.eot),
        "tokenizer.ggml.padding_token_id": (gguf.U32, tokenizer.eot),
        "tokenizer.ggml.add_bos_token": (gguf.BOOL, False),
    }


def block_tensors(i, w, g):
    """The packed matrices of training, taken apart under their GGUF names."""
    queries, keys = g.heads * g.head_width, g.groups * g.head_width
    q, k, v = w[f"{i}.qkv"].split([queries, keys, keys])
    gate, up = w[f"{i}.gate_up"].split(g.expert_width, dim=1)
    named = {
        "attn_norm": w[f"{i}.attn_norm"], "attn_q": q, "attn_k": k, "attn_v": v, "attn_output": w[f"{i}.attn_out"],
        "attn_q_norm": w[f"{i}.q_norm"], "attn_k_norm": w[f"{i}.k_norm"], "ffn_norm": w[f"{i}.ffn_norm"],
        "ffn_gate_inp": w[f"{i}.router"], "ffn_gate_exps": gate, "ffn_up_exps": up, "ffn_down_exps": w[f"{i}.down"],
    }
    return {f"blk.{i}.{name}.weight": value for name, value in named.items()}


def model_tensors(w, g, matrix_type):
    named = {"token_embd.weight": w["embedding"], "output_norm.weight": w["norm"], "output.weight": w["head"]}
    for i in range(g.layers):
        named |= block_tensors(i, w, g)
    def kind(name, value):
        return gguf.F32 if value.ndim == 1 or "ffn_gate_inp." in name else matrix_type
    return {name: (kind(name, value), value.contiguous().numpy()) for name, value in named.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of train.py")
    parser.add_argument("tokenizer", help="tokenizer.json")
    parser.add_argument("output", help="GGUF file to write")
    parser.add_argument("--type", choices=FILE_TYPES, default="f16", help="type of the matrices; norms and router stay f32")
    args = parser.parse_args()
    folder = pathlib.Path(args.run)
    geometry = Geometry(**json.loads((folder / "geometry.json").read_text()))
    tokenizer = Tokenizer.load(args.tokenizer)
    weights = {n: s["master"] for n, s in torch.load(folder / "checkpoint.pt")["state"].items()}
    matrix_type, file_type = FILE_TYPES[args.type]
    metadata = {**general(file_type), **architecture(geometry), **vocabulary(tokenizer)}
    gguf.write(args.output, metadata, model_tensors(weights, geometry, matrix_type))


if __name__ == "__main__":
    main()
