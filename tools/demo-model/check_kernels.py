#!/usr/bin/env python3
"""Checks the fused operations: the loss and every gradient of a small model against plain f32 autograd."""
import sys

import torch
import torch.nn.functional as F

from model import Geometry, Model, initial_weights, rotary_table, route

TOLERANCE = 0.05  # relative error of a gradient; bf16 keeps 8 bits


def norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight


def rotate(x, turn):
    half = x.shape[-1] // 2
    cos, sin = turn[:x.shape[2], :half], turn[:x.shape[2], half:]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attention(g, w, i, x, turn):
    batch, length, _ = x.shape
    widths = [g.heads * g.head_width, g.groups * g.head_width, g.groups * g.head_width]
    q, k, v = (t.view(batch, length, -1, g.head_width).transpose(1, 2) for t in F.linear(x, w[f"{i}.qkv"]).split(widths, -1))
    q, k = rotate(norm(q, w[f"{i}.q_norm"]), turn), rotate(norm(k, w[f"{i}.k_norm"]), turn)
    k, v = (t.repeat_interleave(g.heads // g.groups, 1) for t in (k, v))
    scores = q @ k.transpose(2, 3) / g.head_width ** 0.5 + torch.full((length, length), -torch.inf).triu(1)
    return F.linear((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1), w[f"{i}.attn_out"])


def experts(g, w, i, x):
    """Every expert on every token: slow, and with nothing in common with the sorted rows of the real thing."""
    chosen, weight, _, balance, z = route(x.view(-1, g.width), w[f"{i}.router"], g.chosen)
    share = torch.zeros(len(chosen), g.experts).scatter(1, chosen, weight).view(*x.shape[:2], g.experts)
    hidden = torch.einsum("btd,efd->btef", x, w[f"{i}.gate_up"])
    gate, up = hidden.split(g.expert_width, -1)
    return torch.einsum("btef,edf,bte->btd", F.silu(gate) * up, w[f"{i}.down"], share), balance, z


def plain_loss(g, w, tokens):
    x, turn = w["embedding"][tokens[:, :-1]], rotary_table(g, g.context)
    extra = 0.0
    for i in range(g.layers):
        x = x + attention(g, w, i, norm(x, w[f"{i}.attn_norm"]), turn)
        out, balance, z = experts(g, w, i, norm(x, w[f"{i}.ffn_norm"]))
        x, extra = x + out, extra + (balance + z) / g.layers
    logits = F.linear(norm(x, w["norm"]), w["head"])
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) + extra


def worst_error(head_width, length):
    g = Geometry(vocabulary=300, layers=1, width=64, experts=4, expert_width=32, head_width=head_width, context=256)
    weights = initial_weights(g, 0)
    for name, weight in weights.items():
        weight.add_(0.1 * torch.randn(weight.shape))
        if name.endswith("router"):
            weight.mul_(20)  # decided choices: a near tie that bf16 turns the other way would look like an error
        weight.requires_grad_(True)
    plain = {n: w.detach().float().requires_grad_(True) for n, w in weights.items()}
    tokens = torch.randint(g.vocabulary, (3, length + 1))
    mean, _, _, balance, z = Model(g, weights).losses(tokens)
    ours, reference = mean + balance + z, plain_loss(g, plain, tokens)
    worst = abs(ours.item() / reference.item() - 1)
    print(f"loss {ours.item():.4f}, plain {reference.item():.4f}")
    got = torch.autograd.grad(ours, list(weights.values()))
    expected = torch.autograd.grad(reference, list(plain.values()))
    for name, a, b in zip(weights, got, expected):
        error = ((a.float() - b).norm() / b.norm()).item()
        worst = max(worst, error)
        print(f"{name:12} relative error {error:.4f}")
    return worst


def main():
    errors = [worst_error(16, 200), worst_error(64, 192)]  # the general attention, and the one on AMX tiles where there is AMX
    sys.exit(max(errors) > TOLERANCE)


if __name__ == "__main__":
    main()
