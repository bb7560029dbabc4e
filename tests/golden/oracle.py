#!/usr/bin/env python3
"""oracle.py: the six families as an executable specification, in numpy and double precision.

It shares no code with npumoe: its own GGUF reader, its own decoders, one forward pass over the whole
sequence (no cache, no chunks), written from the published reference code (huggingface/transformers,
src/transformers/models/<name>/modeling_<name>.py; docs/families/ has the formulas in words).
It is slow and meant to be read. What it is for: golden values (make_golden.py), and deciding whose
error it is when two engines differ.

    oracle.py MODEL.gguf TOKENS.txt OUT.npy [--routing OUT.json]

TOKENS.txt: token ids, separated by blanks or commas. OUT.npy: float64 logits, one row per position.
--routing: experts chosen, per layer and position.
"""
import argparse
import json
import re
import sys

import numpy as np

# ---- GGUF ------------------------------------------------------------------------------------

SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1",
           10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY = 8, 9

# ggml type -> (elements per block, bytes per block)
BLOCKS = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 6: (32, 22), 8: (32, 34), 12: (256, 144), 14: (256, 210)}


class Gguf:
    def __init__(self, path):
        self.bytes = np.memmap(path, dtype=np.uint8, mode="r")
        self.at = 4
        assert bytes(self.bytes[:4]) == b"GGUF", "not a GGUF file"
        version, n_tensors, n_kv = self.scalar(4), self.scalar(10), self.scalar(10)
        assert version in (2, 3)
        self.kv, self.tensors = {}, {}
        for _ in range(n_kv):
            key = self.string()
            self.kv[key] = self.value(self.scalar(4))
        for _ in range(n_tensors):
            name = self.string()
            shape = [int(self.scalar(10)) for _ in range(self.scalar(4))]
            self.tensors[name] = (int(self.scalar(4)), shape, int(self.scalar(10)))
        align = self.kv.get("general.alignment", 32)
        self.data = (self.at + align - 1) // align * align

    def scalar(self, kind):
        dtype = np.dtype(SCALARS[kind])
        v = np.frombuffer(self.bytes[self.at:self.at + dtype.itemsize].tobytes(), dtype)[0]
        self.at += dtype.itemsize
        return v

    def string(self):
        n = int(self.scalar(10))
        self.at += n
        return self.bytes[self.at - n:self.at].tobytes().decode("utf-8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, n = int(self.scalar(4)), int(self.scalar(10))
            return [self.value(inner) for _ in range(n)]
        return self.scalar(kind).item()

    def has(self, name):
        return name in self.tensors

    def raw(self, name, first, count):
        """Bytes of `count` rows from row `first`; a row is ne[0] elements."""
        kind, shape, offset = self.tensors[name]
        elems, size = BLOCKS[kind]
        row = shape[0] // elems * size
        start = self.data + offset + first * row
        return kind, np.asarray(self.bytes[start:start + count * row]).reshape(-1, size)

    def rows(self, name, first=0, count=None):
        """Rows as a float64 matrix [count, ne[0]]."""
        shape = self.tensors[name][1]
        if count is None:
            count = int(np.prod(shape[1:], dtype=np.int64)) - first
        kind, blocks = self.raw(name, first, count)
        return DECODE[kind](blocks).reshape(count, shape[0])

    def vector(self, name):
        return self.rows(name).reshape(-1)

    def matrix(self, name, expert=None):
        """The weight W of y = W x; of one expert of a 3-D tensor."""
        if expert is None:
            return self.rows(name)
        n = self.tensors[name][1][1]
        return self.rows(name, expert * n, n)


def half(b):
    return np.ascontiguousarray(b).view(np.float16).astype(np.float64)


def decode_bf16(b):
    return (np.ascontiguousarray(b).view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def decode_q4_0(b):
    q = np.concatenate([b[:, 2:] & 15, b[:, 2:] >> 4], axis=1).astype(np.float64) - 8
    return half(b[:, :2]) * q


def decode_q5_0(b):
    high = np.unpackbits(b[:, 2:6], axis=1, bitorder="little")
    low = np.concatenate([b[:, 6:] & 15, b[:, 6:] >> 4], axis=1)
    return half(b[:, :2]) * ((low | high << 4).astype(np.float64) - 16)


def decode_q8_0(b):
    return half(b[:, :2]) * np.ascontiguousarray(b[:, 2:]).view(np.int8).astype(np.float64)


def decode_q4_k(b):
    d, dmin, s, q = half(b[:, 0:2]), half(b[:, 2:4]), b[:, 4:16], b[:, 16:]
    scale = np.concatenate([s[:, 0:4] & 63, (s[:, 8:12] & 15) | (s[:, 0:4] >> 6 << 4)], axis=1)
    least = np.concatenate([s[:, 4:8] & 63, (s[:, 8:12] >> 4) | (s[:, 4:8] >> 6 << 4)], axis=1)
    q = q.reshape(-1, 4, 1, 32)
    q = np.concatenate([q & 15, q >> 4], axis=2).reshape(-1, 8, 32).astype(np.float64)
    return (d * scale)[:, :, None] * q - (dmin * least)[:, :, None]


def decode_q6_k(b):
    low, high = b[:, :128].reshape(-1, 2, 2, 32), b[:, 128:192].reshape(-1, 2, 1, 32)
    scale = np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float64)
    low = np.concatenate([low & 15, low >> 4], axis=2)                                # [n, 2, 4, 32]
    high = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    q = (low | high << 4).astype(np.float64).reshape(-1, 16, 16) - 32
    return half(b[:, 208:210])[:, :, None] * scale[:, :, None] * q


DECODE = {0: lambda b: np.ascontiguousarray(b).view(np.float32).astype(np.float64), 1: half, 30: decode_bf16,
          2: decode_q4_0, 6: decode_q5_0, 8: decode_q8_0, 12: decode_q4_k, 14: decode_q6_k}

# ---- pieces ----------------------------------------------------------------------------------


def rms_norm(x, w, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w


def layer_norm(x, w, b, eps):
    x = x - np.mean(x, axis=-1, keepdims=True)
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w + b


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def rope(x, positions, base, n_rot, factors, mscale, pairs):
    """x [T, heads, hd]; the first n_rot elements of each head are turned."""
    i = np.arange(n_rot // 2)
    angle = positions[:, None] * (base ** (-2.0 * i / n_rot) / factors)[None, :]
    cos, sin = np.cos(angle)[:, None, :] * mscale, np.sin(angle)[:, None, :] * mscale
    a, b = (2 * i, 2 * i + 1) if pairs else (i, i + n_rot // 2)
    out = x.copy()
    out[..., a] = x[..., a] * cos - x[..., b] * sin
    out[..., b] = x[..., a] * sin + x[..., b] * cos
    return out


# ---- routers: scores [E] -> experts [k], weights [k] ------------------------------------------


def top_k(scores, k):
    return np.argsort(-scores, kind="stable")[:k]         # ties: the lower index first


def route_softmax(scores, k, renormalise):
    p = softmax(scores)
    chosen = top_k(p, k)
    w = p[chosen]
    return chosen, w / w.sum() if renormalise else w


def route_topk_softmax(scores, k):
    chosen = top_k(scores, k)
    return chosen, softmax(scores[chosen])


def route_sparsemixer(scores, k, eps=0.01):
    assert k == 2
    masked, chosen, weights = scores.copy(), [], []
    for _ in range(2):
        best = int(np.argmax(masked))
        m = masked[best]
        with np.errstate(invalid="ignore", divide="ignore"):
            far = (m - scores) / np.maximum(np.abs(scores), m) > 2 * eps
        gates = softmax(np.where(far, -np.inf, masked))
        chosen.append(best)
        weights.append(gates[best])
        masked[best] = -np.inf
    return np.array(chosen), np.array(weights)


# ---- the model -------------------------------------------------------------------------------

QKV_BIAS = {"qwen2moe", "phimoe"}
ROPE_PAIRS = {"llama", "granitemoe"}


class Model:
    def __init__(self, path):
        self.g = g = Gguf(path)
        self.arch = arch = g.kv["general.architecture"]
        if arch not in ("olmoe", "qwen3moe", "qwen2moe", "llama", "granitemoe", "phimoe"):
            sys.exit(f"architecture {arch} has no oracle")
        self.layers, self.d = self.key("block_count"), self.key("embedding_length")
        self.heads = self.key("attention.head_count")
        self.kv_heads = self.key("attention.head_count_kv", self.heads)
        self.hd = self.key("attention.key_length", self.d // self.heads)
        self.eps = self.key("attention.layer_norm_rms_epsilon")
        self.experts, self.used = self.key("expert_count"), self.key("expert_used_count")
        self.base = self.key("rope.freq_base", 10000.0)
        self.n_rot = self.key("rope.dimension_count", self.hd)
        self.window = self.key("attention.sliding_window", 0) if arch == "phimoe" else 0
        granite = arch == "granitemoe"
        self.m_emb = self.key("embedding_scale", 1.0) or 1.0 if granite else 1.0
        self.m_res = self.key("residual_scale", 1.0) or 1.0 if granite else 1.0
        self.m_att = (self.key("attention.scale", 0.0) if granite else 0.0) or 1 / np.sqrt(self.hd)
        self.m_logit = self.key("logit_scale", 1.0) if granite else 1.0
        self.routing = []

    def key(self, name, *default):
        return self.g.kv.get(f"{self.arch}.{name}", *default) if default else self.g.kv[f"{self.arch}.{name}"]

    def norm(self, x, name):
        if self.arch == "phimoe":
            return layer_norm(x, self.g.vector(name + ".weight"), self.g.vector(name + ".bias"), self.eps)
        return rms_norm(x, self.g.vector(name + ".weight"), self.eps)

    def linear(self, x, name, bias=False):
        y = x @ self.g.matrix(name + ".weight").T
        return y + self.g.vector(name + ".bias") if bias else y

    def rope_parameters(self, n_tokens):
        """(factors, mscale) of docs/families/phimoe.md and llama.md."""
        if self.g.has("rope_freqs.weight"):
            return self.g.vector("rope_freqs.weight"), 1.0
        if self.arch != "phimoe" or not self.g.has("rope_factors_long.weight"):
            return 1.0, 1.0
        original = self.key("rope.scaling.original_context_length")
        is_long = n_tokens > original
        mscale = self.key("rope.scaling.attn_factor", 1.0)
        published = (self.layers, self.d, self.experts, self.key("context_length"), original)
        if published == (32, 4096, 16, 131072, 4096) and abs(mscale - 1.190238) < 1e-4:
            mscale = 1.243163121016122          # Phi-3.5-MoE's own value, which converters lose
        return self.g.vector(f"rope_factors_{'long' if is_long else 'short'}.weight"), mscale

    def attention(self, x, p):
        n, bias = len(x), self.arch in QKV_BIAS
        q = self.linear(x, p + "attn_q", bias)
        k = self.linear(x, p + "attn_k", bias)
        v = self.linear(x, p + "attn_v", bias).reshape(n, self.kv_heads, self.hd)
        if self.arch == "olmoe":                # over all heads together
            q = rms_norm(q, self.g.vector(p + "attn_q_norm.weight"), self.eps)
            k = rms_norm(k, self.g.vector(p + "attn_k_norm.weight"), self.eps)
        q, k = q.reshape(n, self.heads, self.hd), k.reshape(n, self.kv_heads, self.hd)
        if self.arch == "qwen3moe":             # each head alone
            q = rms_norm(q, self.g.vector(p + "attn_q_norm.weight"), self.eps)
            k = rms_norm(k, self.g.vector(p + "attn_k_norm.weight"), self.eps)
        factors, mscale = self.rope_parameters(n)
        turn = (np.arange(n), self.base, self.n_rot, factors, mscale, self.arch in ROPE_PAIRS)
        q, k = rope(q, *turn), rope(k, *turn)
        i, j = np.arange(n)[:, None], np.arange(n)[None, :]
        visible = j <= i
        if self.window:
            visible &= j > i - self.window
        out = np.empty((n, self.heads, self.hd))
        for h in range(self.heads):
            kv = h // (self.heads // self.kv_heads)
            s = np.where(visible, q[:, h] @ k[:, kv].T * self.m_att, -np.inf)
            out[:, h] = softmax(s) @ v[:, kv]
        return self.linear(out.reshape(n, -1), p + "attn_output", self.arch == "phimoe")

    def route(self, scores):
        if self.arch == "phimoe":
            return route_sparsemixer(scores, self.used)
        if self.arch == "granitemoe":
            return route_topk_softmax(scores, self.used)
        return route_softmax(scores, self.used, renormalise=self.arch in ("qwen3moe", "llama"))

    def mlp(self, x, gate, up, down):
        return (silu(x @ gate.T) * (x @ up.T)) @ down.T

    def moe(self, x, p):
        scores = self.linear(x, p + "ffn_gate_inp")
        chosen, weights = zip(*(self.route(s) for s in scores))
        chosen, weights = np.array(chosen), np.array(weights)
        self.routing.append(chosen)
        y = np.zeros_like(x)
        for e in range(self.experts):
            row, slot = np.nonzero(chosen == e)
            if len(row):
                w = [self.g.matrix(f"{p}ffn_{m}_exps.weight", e) for m in ("gate", "up", "down")]
                y[row] += self.mlp(x[row], *w) * weights[row, slot][:, None]
        if self.g.has(p + "ffn_gate_shexp.weight"):
            shared = self.mlp(x, *(self.g.matrix(f"{p}ffn_{m}_shexp.weight") for m in ("gate", "up", "down")))
            if self.arch == "qwen2moe":
                shared *= 1 / (1 + np.exp(-(x @ self.g.vector(p + "ffn_gate_inp_shexp.weight"))))[:, None]
            y += shared
        return y

    def logits(self, tokens):
        x = np.concatenate([self.g.rows("token_embd.weight", t, 1) for t in tokens]) * self.m_emb
        for layer in range(self.layers):
            p = f"blk.{layer}."
            x = x + self.m_res * self.attention(self.norm(x, p + "attn_norm"), p)
            x = x + self.m_res * self.moe(self.norm(x, p + "ffn_norm"), p)
        x = self.norm(x, "output_norm")
        head = "output" if self.g.has("output.weight") else "token_embd"
        return self.linear(x, head, self.arch == "phimoe") / self.m_logit


def main():
    a = argparse.ArgumentParser()
    a.add_argument("model")
    a.add_argument("tokens")
    a.add_argument("out")
    a.add_argument("--routing")
    a = a.parse_args()
    model = Model(a.model)
    with open(a.tokens) as f:
        tokens = [int(t) for t in re.findall(r"\d+", f.read())]
    np.save(a.out, model.logits(tokens))
    if a.routing:
        with open(a.routing, "w") as f:
            json.dump([r.tolist() for r in model.routing], f)


if __name__ == "__main__":
    main()
