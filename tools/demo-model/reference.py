#!/usr/bin/env python3
"""The exported GGUF in plain f32 PyTorch, written apart from the training code, to check it and any engine against.

Writes the logits of every position as a float32 .npy [tokens, vocabulary], and on request the chosen experts as
an int32 .npy [layers, tokens, used].
"""
import argparse

import numpy
import torch
import torch.nn.functional as F

from bpe import END_OF_TEXT, Tokenizer
from gguf import Reader


def tokenizer_of(metadata):
    merges = [tuple(m.split(" ")) for m in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(merges)
    if tokenizer.tokens != metadata["tokenizer.ggml.tokens"] or tokenizer.tokens[-1] != END_OF_TEXT:
        raise ValueError("the tokens are not bytes, merges, <|endoftext|>")
    return tokenizer


class Reference:
    def __init__(self, path):
        reader = Reader(path)
        self.metadata = m = reader.metadata
        key = lambda name: m[f"{m['general.architecture']}.{name}"]
        self.layers, self.heads, self.groups = key("block_count"), key("attention.head_count"), key("attention.head_count_kv")
        self.width, self.used = key("attention.key_length"), key("expert_used_count")
        self.theta, self.epsilon = key("rope.freq_base"), key("attention.layer_norm_rms_epsilon")
        self.w = {name: torch.from_numpy(reader.tensor(name).copy()) for name in reader.infos}
        self.tokenizer = tokenizer_of(m)

    def norm(self, x, name):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.w[name + ".weight"]

    def rotate(self, x):
        """x [heads, tokens, width]; NEOX: element j turns with element j + width / 2."""
        half = self.width // 2
        frequency = self.theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequency
        cos, sin = angle.cos().float(), angle.sin().float()
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, x, blk):
        def heads(name, count):
            return (x @ self.w[f"{blk}.{name}.weight"].T).view(len(x), count, self.width).transpose(0, 1)
        q = self.rotate(self.norm(heads("attn_q", self.heads), f"{blk}.attn_q_norm"))
        k = self.rotate(self.norm(heads("attn_k", self.groups), f"{blk}.attn_k_norm"))
        v = heads("attn_v", self.groups)
        hidden = torch.full((len(x), len(x)), -torch.inf).triu(1)
        out = []
        for head in range(self.heads):
            group = head * self.groups // self.heads
            scores = q[head] @ k[group].T / self.width ** 0.5 + hidden
            out.append(scores.softmax(-1) @ v[group])
        return torch.cat(out, -1) @ self.w[f"{blk}.attn_output.weight"].T

    def experts(self, x, blk):
        probabilities = (x @ self.w[f"{blk}.ffn_gate_inp.weight"].T).softmax(-1)
        weight, chosen = probabilities.topk(self.used)
        weight = weight / weight.sum(-1, keepdim=True)
        gate, up, down = (self.w[f"{blk}.ffn_{name}_exps.weight"] for name in ("gate", "up", "down"))
        out = torch.zeros_like(x)
        for e in range(len(gate)):
            token, slot = (chosen == e).nonzero(as_tuple=True)
            rows = x[token]
            rows = (F.silu(rows @ gate[e].T) * (rows @ up[e].T)) @ down[e].T
            out.index_add_(0, token, rows * weight[token, slot, None])
        return out, chosen

    @torch.no_grad()
    def run(self, ids):
        """Token ids to (logits [tokens, vocabulary], chosen experts [layers, tokens, used])."""
        x = self.w["token_embd.weight"][torch.as_tensor(ids)]
        choices = []
        for i in range(self.layers):
            blk = f"blk.{i}"
            x = x + self.attention(self.norm(x, f"{blk}.attn_norm"), blk)
            out, chosen = self.experts(self.norm(x, f"{blk}.ffn_norm"), blk)
            x = x + out
            choices.append(chosen)
        return self.norm(x, "output_norm") @ self.w["output.weight"].T, torch.stack(choices)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("logits", help=".npy to write")
    parser.add_argument("--experts", help=".npy to write")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ids", help="token ids, separated by commas")
    source.add_argument("--text")
    args = parser.parse_args()
    reference = Reference(args.model)
    ids = [int(i) for i in args.ids.split(",")] if args.ids else reference.tokenizer.encode(args.text)
    logits, chosen = reference.run(ids)
    numpy.save(args.logits, logits.numpy())
    if args.experts:
        numpy.save(args.experts, chosen.numpy().astype(numpy.int32))
    print("ids", ",".join(map(str, ids)))


if __name__ == "__main__":
    main()
